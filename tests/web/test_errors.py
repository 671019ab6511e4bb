"""Error pages: what happened, and what to do next."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from clawhaven.context import Context
from clawhaven.core.errors import AppError
from clawhaven.web import errors
from tests.web.conftest import Visit


def every_error(kind: type[AppError] = AppError) -> set[int]:
    return {kind.status}.union(*(every_error(sub) for sub in kind.__subclasses__()))


def test_every_error_has_a_title() -> None:
    assert every_error() <= errors.TITLES.keys()


def test_nothing_here(visit: Visit, mine: Visit) -> None:
    page = visit.get("/no/such/page")
    assert page.status_code == 404
    assert "There is nothing here" in page.text
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
