"""Server-sent events: what the page watches while it is open."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi import Request
from fastapi.responses import StreamingResponse

LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
LONGEST_SECONDS = 600.0
"""After that the browser is let go; it connects again by itself."""

THREADS = 64
"""Streams wait in threads of their own, so that they never keep ordinary pages waiting."""

_limiter: RunVar[CapacityLimiter] = RunVar("clawhaven_stream_threads")


def respond(events: AsyncIterator[bytes]) -> StreamingResponse:
    """An answer that reverse proxies pass on piece by piece."""
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def event(kind: str, data: dict[str, Any]) -> bytes:
    """One event on the wire; JSON has no line breaks, so one `data:` line holds it."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


async def watch(request: Request, look: Callable[[], dict[str, Any]]) -> AsyncIterator[bytes]:
    """`progress` events whenever what `look` sees changes, until it says `is_over` or the browser leaves."""
    last: dict[str, Any] | None = None
    quiet = lived = 0.0
    while lived < LONGEST_SECONDS and not await request.is_disconnected():
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
