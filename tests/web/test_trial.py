"""The trial chat on the page: without scripts a form, with them a stream; counted either way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from clawhaven.context import Context
from clawhaven.workflows import trial
from tests.web.conftest import Visit, token_in
from tests.web.gallery import serving

EVENTS = {"accept": "text/event-stream"}


@pytest.fixture
def open_house(ctx: Context) -> Iterator[Context]:
    with serving(ctx):
        yield ctx


def sealed_in(html: str) -> str:
    found = re.search(r'name="talk" value="([^"]*)"', html)
    assert found is not None
    return found.group(1)


def test_a_conversation_without_scripts(open_house: Context) -> None:
    visit = Visit(open_house)
    page = visit.get("/").text
    assert "Free messages left: 5" in page
    talk = ""
    for left in (4, 3, 2, 1, 0):
        answer = visit.http.post("/try", data={"csrf": token_in(page), "talk": talk, "message": f"Number <{left}>"})
        page, talk = answer.text, sealed_in(answer.text)
        assert answer.status_code == 200
        assert f"You said: “Number &lt;{left}&gt;”" in page
        assert page.count('class="turn mine"') == 5 - left
    assert re.search(r'<div id="trial-over">', page)
    over = visit.http.post("/try", data={"csrf": token_in(page), "talk": talk, "message": "One more"})
    assert over.status_code == 429
    assert "all of the free messages" in over.text
    assert "Free messages left" in visit.get("/").text
    assert re.search(r'<div id="trial-over">', visit.get("/").text)


def test_an_address_whose_messages_are_used_up_is_promised_none(
    open_house: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "PER_ADDRESS", 1)
    Visit(open_house).post("/try", message="Hello")
    visit = Visit(open_house)
    for page in ("/", "/try"):
        shown = visit.get(page).text
        assert "free messages from your network are used up" in shown
        assert "Free messages left: 5" not in shown
        assert re.search(r'<form class="say"[^>]* hidden', shown)
        assert re.search(r"<p hidden>That was all", shown)
    told = visit.http.post("/try", data={"csrf": token_in(visit.get("/try").text), "message": "Hi"}, headers=EVENTS)
    assert (told.status_code, told.json()["error"]) == (429, "trial_crowded")
    plain = visit.post("/try", message="Hi")
    assert plain.status_code == 429
    assert "free messages from your network are used up" in plain.text
    assert re.search(r"<p hidden>That was all", plain.text)


def test_a_stream(open_house: Context) -> None:
    visit = Visit(open_house)
    token = token_in(visit.get("/try").text)
    answer = visit.http.post("/try", data={"csrf": token, "message": "Hello"}, headers=EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = re.findall(r"event: (\w+)\ndata: (.*)", answer.text)
    said = "".join(json.loads(data)["text"] for kind, data in events if kind == "delta")
    (final,) = [json.loads(data) for kind, data in events if kind == "final"]
    assert said == final["text"]
    assert "Hello" in said
    assert final["left"] == 4
    assert trial.read_talk(open_house, final["talk"])[0].said == "Hello"
    empty = visit.http.post("/try", data={"csrf": token, "message": " "}, headers=EVENTS)
    assert (empty.status_code, empty.json()["error"]) == (400, "validation_failed")


def test_a_model_that_is_away_is_told_and_the_message_kept(visit: Visit) -> None:
    answer = visit.post("/try", message="Are you there?")  # nobody listens on the proxy's port
    assert answer.status_code == 200
    assert "does not answer at the moment" in answer.text
    assert "\nAre you there?</textarea>" in answer.text


def test_a_form_from_elsewhere_is_refused(visit: Visit) -> None:
    assert visit.http.post("/try", data={"csrf": "0" * 64, "message": "Hello"}).status_code == 403


def test_somebody_signed_in_has_an_assistant_to_talk_to(mine: Visit) -> None:
    assert 'action="/try"' not in mine.get("/").text
    assert mine.get("/try").headers["location"] == "/"
