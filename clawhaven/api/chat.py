"""Talking to an assistant: whole answers, or server-sent events when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from clawhaven.api.bodies import ChatBody
from clawhaven.api.deps import Ctx, Signed
from clawhaven.context import Context
from clawhaven.core.errors import Unavailable
from clawhaven.workflows import chat

router = APIRouter(tags=["chat"])


@router.post("/instances/{instance_id}/chat", response_model=None)
def talk(
    instance_id: str, body: ChatBody, request: Request, who: Signed, ctx: Ctx
) -> dict[str, Any] | StreamingResponse:
    """Send a message; `{reply, usage}`, or events `delta`, `final`, `usage`, `error` with Accept: text/event-stream."""
    turn = chat.begin(ctx, instance_id, who.account_id, body.message, body.idempotency_key)
    if "text/event-stream" in request.headers.get("accept", ""):
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_stream(ctx, turn), media_type="text/event-stream", headers=headers)
    reply, problem = "", ""
    for event in turn.events:
        if event.kind == "final":
            reply = event.text
        elif event.kind == "error":
            problem = event.text
    if problem:
        raise Unavailable(problem, usage=chat.usage_of(ctx, turn))
    return {"reply": reply, "usage": chat.usage_of(ctx, turn)}


def _stream(ctx: Context, turn: chat.Turn) -> Iterator[str]:
    for event in turn.events:
        yield _sse(event.kind, {"text": event.text})
    yield _sse("usage", chat.usage_of(ctx, turn))


def _sse(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"
