"""Streams end when they should, and let go of browsers that left."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

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


def test_a_browser_that_left_ends_it() -> None:
    told = asyncio.run(collect(streams.watch(request_that_stays(2), lambda: {"is_over": False})))
    assert len(told) == 1
