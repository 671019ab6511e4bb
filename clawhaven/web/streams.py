"""Server-sent events: what the page watches while it is open."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from clawhaven.core.carrying import Seats

LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
RIGHT_SECONDS = 3.0
"""So often a stream asks whether its browser may still see it."""

LONGEST_SECONDS = 600.0
"""After that the browser is let go; it connects again by itself."""

THREADS = 64
"""Streams wait in threads of their own, so that they never keep ordinary pages waiting."""

_limiter: RunVar[CapacityLimiter] = RunVar("clawhaven_stream_threads")


WATCHERS: Final = Seats(most_of_one=12, most=300)
"""Streams that look again and again, of this process: for one account or, where nobody is signed in, one address."""


def respond(events: AsyncIterator[bytes]) -> StreamingResponse:
    """An answer that reverse proxies pass on piece by piece."""
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def respond_to(watcher: str, events: AsyncIterator[bytes]) -> StreamingResponse:
    """The same in one of the WATCHERS' places; RateLimited or Unavailable where there is none, before it begins.

    The page's script then asks now and then instead, or comes back later.
    """
    return _Watched(watcher, events)


class _Watched(StreamingResponse):
    """Holds its place while it is sent, not while it waits to be."""

    def __init__(self, watcher: str, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        WATCHERS.take(self._watcher)
        try:
            await super().__call__(scope, receive, send)
        finally:
            WATCHERS.leave(self._watcher)


def event(kind: str, data: dict[str, Any]) -> bytes:
    """One event on the wire; JSON has no line breaks, so one `data:` line holds it."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


class Right:
    """Whether a stream may go on: `holds` is asked again every few seconds; without it, everybody may look."""

    def __init__(self, holds: Callable[[], bool] | None) -> None:
        self._holds = holds
        self._asked = time.monotonic()

    async def is_over(self) -> bool:
        """True once it does not hold any more."""
        now = time.monotonic()
        if self._holds is None or now - self._asked < RIGHT_SECONDS:
            return False
        self._asked = now
        return not await in_thread(self._holds)


async def watch(
    request: Request, look: Callable[[], dict[str, Any]], holds: Callable[[], bool] | None = None
) -> AsyncIterator[bytes]:
    """`progress` events whenever what `look` sees changes, until it says `is_over`, the browser leaves, or its right
    to look does not hold any more."""
    last: dict[str, Any] | None = None
    right, quiet, lived = Right(holds), 0.0, 0.0
    while lived < LONGEST_SECONDS and not await request.is_disconnected() and not await right.is_over():
        seen = await in_thread(look)
        if seen != last:
            yield event("progress", seen)
            last, quiet = seen, 0.0
        elif quiet >= HEARTBEAT_SECONDS:
            yield b": still here\n\n"
            quiet = 0.0
        if seen["is_over"]:
            return
        await anyio.sleep(LOOK_SECONDS)
        quiet += LOOK_SECONDS
        lived += LOOK_SECONDS


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Run blocking code in one of the streams' threads; a browser that leaves does not wait for it."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
    return await to_thread.run_sync(function, *args, limiter=limiter, abandon_on_cancel=True)
