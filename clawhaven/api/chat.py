"""Talking to an assistant: whole answers, or server-sent events when asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from clawhaven.api.bodies import ChatBody
from clawhaven.api.deps import Ctx, Signed
from clawhaven.context import Context
from clawhaven.core.carrying import LONG_ANSWERS, carry
from clawhaven.core.errors import Unavailable
from clawhaven.workflows import chat

router = APIRouter(tags=["chat"])

Told = tuple[str, dict[str, Any]]
"""An event: its kind, and what it says."""


@router.post("/instances/{instance_id}/chat", response_model=None)
async def talk(
    instance_id: str, body: ChatBody, request: Request, who: Signed, ctx: Ctx
) -> dict[str, Any] | StreamingResponse:
    """Send a message; `{reply, usage}`, or events `delta`, `final`, `usage`, `error` with Accept: text/event-stream.

    An account has at most three answers under way at once; another one is refused with 429.
    """

    def start() -> Iterator[Told]:
        return _tell(ctx, chat.begin(ctx, instance_id, who.account_id, body.message, body.idempotency_key))

    events = await carry(LONG_ANSWERS, who.account_id, start)
    if "text/event-stream" in request.headers.get("accept", ""):
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_stream(events), media_type="text/event-stream", headers=headers)
    told = {event[0]: event[1] async for event in events if event is not None}
    usage = told["usage"]
    if "error" in told:
        raise Unavailable(told["error"]["text"], usage=usage)
    return {"reply": told.get("final", {}).get("text", ""), "usage": usage}


def _tell(ctx: Context, turn: chat.Turn) -> Iterator[Told]:
    for event in turn.events:
        yield event.kind, {"text": event.text}
    yield "usage", chat.usage_of(ctx, turn)


async def _stream(events: AsyncIterator[Told | None]) -> AsyncIterator[str]:
    async for event in events:
        yield ": still here\n\n" if event is None else f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"
