"""Talking to the assistant in the browser: streamed where there is JavaScript, a plain form where there is not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clawhaven.accounts.ownership import owned
from clawhaven.context import Context
from clawhaven.core.errors import AppError
from clawhaven.core.ids import new_id
from clawhaven.core.money import format_usd
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.web import streams
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.errors import STREAM
from clawhaven.web.render import page
from clawhaven.workflows import chat
from clawhaven.workflows.chat import Turn

router = APIRouter()


@router.get("/instances/{instance_id}/chat")
def show_chat(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """An empty conversation; the assistant itself remembers the earlier ones."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
    return _page(request, instance)


@router.post("/instances/{instance_id}/chat")
def send_message(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """Send a message. `turn` makes a repeat harmless: the same turn gives the same answer, and costs once."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
    message, key = form.get("message"), form.get("turn")
    key = key if re.fullmatch(r"[A-Za-z0-9_-]{16,64}", key) else new_id("trn")
    if STREAM in request.headers.get("accept", ""):
        turn = chat.begin(ctx, instance_id, owner.account.id, message, key)
        return streams.respond(_stream(ctx, turn))
    try:
        turn = chat.begin(ctx, instance_id, owner.account.id, message, key)
    except AppError as error:
        return _page(request, instance, error.status, draft=message, problem=error.message)
    answer, problem = _collect(turn)
    return _page(request, instance, question=message, answer=answer, problem=problem, cost=_cost(ctx, turn))


async def _stream(ctx: Context, turn: Turn) -> AsyncIterator[bytes]:
    async for piece in streams.drain(turn.events):
        yield b": still here\n\n" if piece is None else streams.event(piece.kind, {"text": piece.text})
    yield streams.event("usage", {"text": await streams.in_thread(_cost, ctx, turn)})


def _collect(turn: Turn) -> tuple[str, str]:
    deltas, answer, problem = "", "", ""
    for piece in turn.events:
        if piece.kind == "delta":
            deltas += piece.text
        elif piece.kind == "final":
            answer = piece.text
        else:
            problem = piece.text
    return answer or deltas, problem


def _cost(ctx: Context, turn: Turn) -> str:
    """What the turn cost, or nothing while its calls are not in the books yet."""
    used = chat.usage_of(ctx, turn)
    if not used["calls"]:
        return ""
    calls = "1 model call" if used["calls"] == 1 else f"{used['calls']} model calls"
    return f"{calls}, {format_usd(used['price_micros'])}"


def _page(
    request: Request,
    instance: Instance,
    status: int = 200,
    *,
    question: str = "",
    answer: str = "",
    draft: str = "",
    problem: str = "",
    cost: str = "",
) -> Response:
    return page(
        request,
        "instance_chat.html",
        status,
        tab="chat",
        instance=instance,
        is_live=instance.state == State.ACTIVE,
        question=question,
        answer=answer,
        draft=draft,
        problem=problem,
        cost=cost,
        turn=new_id("trn"),
        max_message=chat.MAX_MESSAGE,
    )
