"""Streams end when they should, and let go of browsers that left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Request

from clawhaven.core.carrying import Seats
from clawhaven.core.errors import RateLimited, Unavailable
from clawhaven.web import streams


def request_that_stays(times: int) -> Request:
    """A browser that leaves after being asked `times` times."""
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked > times:
            return {"type": "http.disconnect"}
        await asyncio.sleep(3600)
        raise AssertionError

    return Request({"type": "http"}, receive)


async def collect(stream: Any) -> list[bytes]:
    return [piece async for piece in stream]


def test_only_changes_are_told_and_the_end_ends_it() -> None:
    views = iter([{"n": 1, "is_over": False}] * 3 + [{"n": 2, "is_over": False}, {"n": 3, "is_over": True}])
    told = asyncio.run(collect(streams.watch(request_that_stays(100), lambda: next(views))))
    assert [piece.split(b"data: ")[1] for piece in told] == [
        b'{"n": 1, "is_over": false}\n\n',
        b'{"n": 2, "is_over": false}\n\n',
        b'{"n": 3, "is_over": true}\n\n',
    ]


def test_a_right_that_is_gone_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RIGHT_SECONDS", 0.0)
    rights = iter([True, True, False])
    seen = iter(range(100))
    stream = streams.watch(request_that_stays(100), lambda: {"n": next(seen), "is_over": False}, lambda: next(rights))
    assert len(asyncio.run(collect(stream))) == 2


def test_a_browser_that_left_ends_it() -> None:
    told = asyncio.run(collect(streams.watch(request_that_stays(2), lambda: {"is_over": False})))
    assert len(told) == 1


class Outgoing:
    """A server's side of an answer."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def __call__(self, message: Any) -> None:
        self.sent.append(message)


def test_one_watcher_has_so_many_places_and_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WATCHERS", Seats(most_of_one=1, most=2))
    let = asyncio.Event()

    async def wait() -> AsyncIterator[bytes]:
        yield b"one"
        await let.wait()

    async def send(watcher: str) -> list[dict[str, Any]]:
        out = Outgoing()
        scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
        await streams.respond_to(watcher, wait())(scope, asyncio.Event().wait, out)  # type: ignore[arg-type]
        return out.sent

    async def play() -> None:
        first, second = asyncio.create_task(send("acc_1")), asyncio.create_task(send("acc_2"))
        await asyncio.sleep(0.05)
        with pytest.raises(RateLimited):
            await send("acc_1")
        with pytest.raises(Unavailable):
            await send("acc_3")
        first.cancel()  # its browser left
        await asyncio.sleep(0.05)
        let.set()
        assert (await send("acc_1"))[0]["type"] == "http.response.start"
        assert (await second)[1]["body"] == b"one"

    asyncio.run(play())
