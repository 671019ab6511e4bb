"""Chat, with and without JavaScript."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from clawhaven import wiring
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.ports.gateway import ChatEvent, GatewayAddress
from clawhaven.web import deps, streams
from clawhaven.workflows.chat import MAX_MESSAGE
from tests.fakes.world import FolderGateway, FolderRuntime
from tests.web.conftest import Visit, draft, token_in

ACCEPT = {"accept": "text/event-stream"}


def test_without_javascript_the_answer_is_on_the_page_as_text(mine: Visit, live: str) -> None:
    path = f"/instances/{live}/chat"
    page = mine.post(path, message="<b>hello</b>")
    assert page.status_code == 200
    assert "You said: &lt;b&gt;hello&lt;/b&gt;" in page.text
    assert "<b>hello" not in page.text


def test_a_stream_carries_the_pieces_and_what_they_cost(mine: Visit, live: str) -> None:
    path = f"/instances/{live}/chat"
    token = token_in(mine.get(path).text)
    answer = mine.http.post(path, data={"csrf": token, "message": "a\nb", "turn": "t" * 32}, headers=ACCEPT)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    kinds = [lines[0].removeprefix("event: ") for lines in events]
    texts = [json.loads(lines[1].removeprefix("data: "))["text"] for lines in events]
    assert kinds == ["delta", "final", "usage"]
    assert texts == ["You said: ", "You said: a\nb", ""]


def test_the_form_carries_a_key_that_makes_a_reload_harmless(mine: Visit, live: str) -> None:
    pages = [mine.get(f"/instances/{live}/chat").text for _ in range(2)]
    keys = [page.split('name="turn" value="')[1].split('"')[0] for page in pages]
    assert all(len(key) >= 16 for key in keys)
    assert keys[0] != keys[1]


def test_a_sleeping_assistant_says_so_and_keeps_the_words(mine: Visit, live: str, world: FolderRuntime) -> None:
    path = f"/instances/{live}/chat"
    (world.root / live / "RUNNING").unlink()
    page = mine.post(path, message="are you there?")
    assert page.status_code == 503
    assert "The assistant is restarting" in page.text
    assert "are you there?" in page.text
    token = token_in(mine.get(path).text)
    refused = mine.http.post(path, data={"csrf": token, "message": "hello"}, headers=ACCEPT)
    assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")


def test_what_was_said_before_can_be_read_again(mine: Visit, stranger: Visit, live: str, world: FolderRuntime) -> None:
    path = f"/instances/{live}/chat"
    assert mine.get(f"{path}/earlier").json() == {"turns": []}
    mine.post(path, message="<b>hello</b>")
    turns = mine.get(f"{path}/earlier").json()["turns"]
    assert [(turn["is_owner"], turn["text"]) for turn in turns] == [
        (True, "<b>hello</b>"),
        (False, "You said: <b>hello</b>"),
    ]
    assert all(turn["at"] and turn["when"].endswith("UTC") for turn in turns)
    page = mine.get(f"{path}?earlier=1").text
    assert "You said: &lt;b&gt;hello&lt;/b&gt;" in page
    assert "?earlier=1" not in page
    assert f'data-url="{path}/earlier"' in mine.get(path).text
    assert stranger.get(f"{path}/earlier").status_code == 404
    (world.root / live / "RUNNING").unlink()
    assert mine.get(f"{path}/earlier").status_code == 503
    away = mine.get(f"{path}?earlier=1")
    assert (away.status_code, "The assistant is restarting" in away.text) == (503, True)


def test_too_much_or_nothing_is_refused(mine: Visit, live: str) -> None:
    for message in ("", "x" * (MAX_MESSAGE + 1)):
        assert mine.post(f"/instances/{live}/chat", message=message).status_code == 400


def test_one_that_is_not_live_has_no_form(mine: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    page = mine.get(f"/instances/{instance_id}/chat").text
    assert "can talk once it is live" in page
    assert "<textarea" not in page
    assert mine.post(f"/instances/{instance_id}/chat", page="/dashboard", message="hi").status_code == 409


@pytest.mark.parametrize("state", ["deleted", "leaving"])
def test_one_that_is_deleted_promises_no_talk(mine: Visit, ctx: Context, live: str, state: str) -> None:
    with ctx.db.tx() as db:
        instance = db.get_one(Instance, live)
        instance.deletion_asked_at = ctx.clock.now()
        if state == "deleted":
            instance.state = State.DELETED
    page = mine.get(f"/instances/{live}/chat").text
    assert "Ada is deleted, and its conversations with it." in page
    assert "once it is live" not in page
    assert "<textarea" not in page


class HeldGateway(FolderGateway):
    """Answers when it is let go."""

    def __init__(self, world: FolderRuntime) -> None:
        super().__init__(world)
        self.go, self.asked = threading.Event(), threading.Semaphore(0)

    def chat(
        self, address: GatewayAddress, session: str, message: str, idempotency_key: str, timeout_seconds: float = 300
    ) -> Iterator[ChatEvent]:
        self.asked.release()
        assert self.go.wait(60)
        yield from super().chat(address, session, message, idempotency_key)


def test_who_is_signed_out_hears_no_more_though_the_assistant_is_silent(
    ctx: Context, world: FolderRuntime, owner: Owner, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RIGHT_SECONDS", 0.01)
    held = HeldGateway(world)
    mine = Visit(dataclasses.replace(ctx, gateway=wiring.Guarded(held)))
    mine.sign_in(owner)
    path = f"/instances/{live}/chat"
    fields = {"csrf": token_in(mine.get(path).text), "message": "a long story"}
    monkeypatch.setattr(deps, "may_still_look", lambda _request: not held.asked.acquire(blocking=False))
    try:
        answer = mine.http.post(path, data=fields, headers=ACCEPT)
    finally:
        held.go.set()
    assert answer.status_code == 200
    assert "event:" not in answer.text


@pytest.mark.parametrize("headers", [{}, ACCEPT], ids=["form", "stream"])
def test_a_fourth_answer_at_once_is_refused_and_keeps_the_words(
    ctx: Context, world: FolderRuntime, owner: Owner, live: str, headers: dict[str, str]
) -> None:
    held = HeldGateway(world)
    mine = Visit(dataclasses.replace(ctx, gateway=wiring.Guarded(held)))
    mine.sign_in(owner)
    path = f"/instances/{live}/chat"
    fields = {"csrf": token_in(mine.get(path).text), "message": "a long story"}
    with mine.http, ThreadPoolExecutor(4) as pool:
        under_way = [pool.submit(mine.http.post, path, data=fields, headers=headers) for _ in range(3)]
        try:
            assert all(held.asked.acquire(timeout=60) for _ in under_way)
            fourth = mine.http.post(path, data=fields, headers=headers)
            assert fourth.status_code == 429
            assert "3 answers are still being written" in fourth.text
            assert bool(headers) or "a long story" in fourth.text
        finally:
            held.go.set()
        assert {call.result(60).status_code for call in under_way} == {200}
