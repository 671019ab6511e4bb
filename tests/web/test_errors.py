"""Error pages: what happened, and what to do next."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, cast

import pytest

from clawhaven.context import Context
from clawhaven.core.errors import AppError
from clawhaven.instances import versions
from clawhaven.web import errors
from tests.web.conftest import Visit, token_in


def every_error(kind: type[AppError] = AppError) -> set[int]:
    return {kind.status}.union(*(every_error(sub) for sub in kind.__subclasses__()))


def test_every_error_has_a_title() -> None:
    assert every_error() <= errors.TITLES.keys()


def test_nothing_here(visit: Visit, mine: Visit) -> None:
    page = visit.get("/no/such/page")
    assert page.status_code == 404
    assert "There is nothing here" in page.text
    assert re.search(r'<a class="btn" href="/docs"', page.text)
    assert visit.http.post("/robots.txt").status_code == 404
    foreign = mine.get("/instances/ins_other")
    assert foreign.status_code == 404
    assert 'href="/dashboard"' in foreign.text


@pytest.mark.parametrize(
    "path", ["/instances/%00", "/instances/A", "/checkout/..%2f", "/sign-in/short", "/deploying/" + "a" * 41, "/usage/"]
)
def test_odd_addresses_are_not_found(mine: Visit, path: str) -> None:
    assert mine.get(path).status_code == 404


def test_a_stream_gets_the_error_as_json(visit: Visit, live: str) -> None:
    answer = visit.get(f"/instances/{live}/events", headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


def test_a_database_that_is_gone_is_a_plain_page(ctx: Context) -> None:
    class Gone:
        def read(self) -> None:
            raise OSError("disk on fire at /secret/path")

    visit = Visit(dataclasses.replace(ctx, db=cast(Any, Gone())))
    visit.http.cookies.set("clawhaven_session", "x")
    page = visit.get("/dashboard")
    assert page.status_code == 500
    assert "secret" not in page.text


def test_too_many_tries_say_how_long_in_the_readers_language(ctx: Context) -> None:
    visit = Visit(dataclasses.replace(ctx, settings=ctx.settings.model_copy(update={"sign_in_per_minute": 1})))
    form = {"csrf": token_in(visit.get("/sign-in").text), "email": "a@example.com"}
    assert visit.http.post("/sign-in", data=form).status_code == 200
    page = visit.http.post("/sign-in", data=form)
    assert page.status_code == 429
    assert re.search(r"Please wait (a second|\d+ seconds)\.", page.text)
    assert 1 <= int(page.headers["retry-after"]) <= 60
    german = visit.http.post("/sign-in", data=form, headers={"accept-language": "de"})
    assert "Bitte warte" in german.text


def test_a_form_that_is_too_long_or_unreadable_is_explained(visit: Visit) -> None:
    long = visit.http.post("/waitlist", data={"email": "x" * 300_000})
    assert long.status_code == 413
    assert "more than a form can take" in long.text
    odd = visit.http.post("/waitlist", content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"})
    assert odd.status_code in (400, 403)
    assert "<h1>" in odd.text


def test_whoever_is_sent_to_sign_in_is_told_why(visit: Visit) -> None:
    away = visit.get("/billing").headers["location"]
    assert away == "/sign-in?next=/billing"
    assert "you are taken there" in visit.get(away).text
    assert "you are taken there" not in visit.get("/sign-in").text


def test_a_session_that_has_ended_leads_to_the_sign_in(mine: Visit) -> None:
    form = {"csrf": token_in(mine.get("/topup").text), "chosen": "25", "amount": ""}
    mine.http.cookies.clear()
    page = mine.http.post("/topup", data=form)
    assert page.status_code in (401, 403)
    assert 'href="/sign-in"' in page.text


@pytest.mark.parametrize(
    ("path", "field", "back"),
    [
        ("/instances/{}/files/soul", "text", "/instances/{}/files/soul"),
        ("/instances/{}/configuration/apply", "custom_instructions", "/instances/{}/configuration"),
        ("/configure/assistant", "custom_instructions", "/configure/assistant"),
        ("/instances/{}/chat", "message", "/instances/{}/chat"),
    ],
)
def test_a_long_text_outlives_the_session(visit: Visit, path: str, field: str, back: str) -> None:
    form = {"csrf": "0" * 64, field: "my <b>long</b> text", "api_key": "sk-a-secret"}
    page = visit.http.post(path.format("ins_a"), data=form)
    assert page.status_code == 401
    assert re.search(r"<pre [^>]*data-copy-source>my &lt;b&gt;long&lt;/b&gt; text</pre>", page.text)
    assert "sk-a-secret" not in page.text
    assert f'href="/sign-in?next={back.format("ins_a")}"' in page.text
    foreign = visit.http.post(path.format("ins_a"), data=form, headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code in (401, 403)
    assert "my &lt;b&gt;" not in foreign.text
    much = visit.http.post(path.format("ins_a"), data={field: "x" * 200_000}).text
    assert versions.LONGEST <= much.count("x") < versions.LONGEST + 5000


def test_a_part_of_a_page_is_not_answered_with_the_sign_in_page(visit: Visit) -> None:
    assert visit.get("/usage/live").headers["location"] == "/sign-in?next=/usage/live"
    assert visit.get("/usage/live", headers={"hx-request": "true"}).status_code == 401
