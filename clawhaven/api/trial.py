"""A few words with the model, before there is an account."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import StringConstraints

from clawhaven.api.bodies import Body
from clawhaven.api.deps import Ctx, client_address, refuse_foreign_origin
from clawhaven.context import Context
from clawhaven.core.carrying import carry
from clawhaven.core.errors import AppError
from clawhaven.ports.model import Exchange
from clawhaven.workflows import trial
from clawhaven.workflows.trial import Visitor

router = APIRouter(tags=["trial"])


class TrialBody(Body):
    """A message, and the `talk` of the answer before, which holds the conversation."""

    message: Annotated[str, StringConstraints(min_length=1, max_length=trial.MAX_MESSAGE)]
    talk: Annotated[str, StringConstraints(max_length=60_000)] = ""


@router.post("/trial-chat", response_model=None)
async def talk(body: TrialBody, request: Request, ctx: Ctx) -> Response:
    """`{reply, left, talk}`, or events `delta`, `final`, `error` with Accept: text/event-stream. No sign-in needed.

    Five messages a visitor (a cookie), ten a minute and twenty a day for each address; beyond that 429 `trial_over`,
    `rate_limited` or `trial_crowded`. 503 where the operator has no trial chat, or today's budget for it is used up.
    """
    refuse_foreign_origin(request, ctx)
    visitor = trial.read_visitor(ctx, request.cookies.get(_cookie_name(ctx), ""))
    before = trial.read_talk(ctx, body.talk)
    address = client_address(request, ctx)
    visitor, said = await run_in_threadpool(trial.admit, ctx, visitor, address, body.message)
    pieces = await carry(trial.SEATS, address, lambda: trial.answer(ctx, said, before))
    if "text/event-stream" in request.headers.get("accept", ""):
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        events = _stream(ctx, pieces, said, before, visitor.left)
        return _keep(ctx, StreamingResponse(events, media_type="text/event-stream", headers=headers), visitor)
    reply = "".join([piece async for piece in pieces if piece is not None])
    return _keep(ctx, JSONResponse(_told(ctx, reply, said, before, visitor.left)), visitor)


def _told(ctx: Context, reply: str, said: str, before: list[Exchange], left: int) -> dict[str, Any]:
    return {"reply": reply, "left": left, "talk": trial.write_talk(ctx, [*before, Exchange(said, reply)])}


async def _stream(
    ctx: Context, pieces: AsyncIterator[str | None], said: str, before: list[Exchange], left: int
) -> AsyncIterator[str]:
    reply = ""
    try:
        async for piece in pieces:
            reply += piece or ""
            yield ": still here\n\n" if piece is None else _event("delta", {"text": piece})
    except AppError as error:
        yield _event("error", {"text": error.message, "left": left})
        return
    yield _event("final", _told(ctx, reply, said, before, left))


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def _keep(ctx: Context, response: Response, visitor: Visitor) -> Response:
    response.set_cookie(
        _cookie_name(ctx),
        trial.write_visitor(ctx, visitor),
        max_age=trial.COOKIE_SECONDS,
        httponly=True,
        samesite="lax",
        secure=ctx.settings.base_url.startswith("https://"),
    )
    return response


def _cookie_name(ctx: Context) -> str:
    """As the site calls it, so that both count the same visitor."""
    return f"__Host-{trial.COOKIE}" if ctx.settings.base_url.startswith("https://") else trial.COOKIE
