"""Talking to the assistant in the browser: streamed where there is JavaScript, a plain form where there is not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.carrying import LONG_ANSWERS, carry
from clawhaven.core.errors import AppError, IllegalMove, Unavailable
from clawhaven.core.ids import new_id
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.ports.gateway import Said
from clawhaven.web import deps, languages, streams
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.errors import STREAM
from clawhaven.web.languages import ngettext
from clawhaven.web.render import page
from clawhaven.workflows import chat
from clawhaven.workflows.chat import Turn

router = APIRouter()

Told = tuple[str, str]
"""A piece of an answer: its kind (`delta`, `final`, `error`, and `usage` at the end), and its text."""


@router.get("/instances/{instance_id}/chat")
def show_chat(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId, earlier: bool = False) -> Response:
    """The place to talk. What was said before comes with a look into the gateway: later, or with `earlier`."""
    instance = _find(ctx, owner, instance_id)
    if not earlier:
        return _page(request, instance)
    try:
        return _page(request, instance, said=chat.earlier(ctx, instance_id, owner.account.id))
    except (IllegalMove, Unavailable) as error:
        return _page(request, instance, error.status, problem=error.message)


@router.get("/instances/{instance_id}/chat/earlier")
def list_earlier(ctx: Ctx, owner: SignedIn, instance_id: RowId) -> dict[str, Any]:
    """The same for the page's script: `{turns: [{is_owner, text, at, when}]}`, oldest first."""
    said = chat.earlier(ctx, instance_id, owner.account.id)
    return {
        "turns": [
            {
                "is_owner": line.is_owner,
                "text": line.text,
                "at": line.at.isoformat() if line.at else "",
                "when": languages.moment(line.at) if line.at else "",
            }
            for line in said
        ]
    }


@router.post("/instances/{instance_id}/chat")
async def send_message(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """Send a message. `turn` makes a repeat harmless: the same turn gives the same answer, and costs once."""
    instance = await run_in_threadpool(_find, ctx, owner, instance_id)
    message, key = form.get("message"), form.get("turn")
    key = key if re.fullmatch(r"[A-Za-z0-9_-]{16,64}", key) else new_id("trn")

    def start() -> Iterator[Told]:
        return _tell(ctx, chat.begin(ctx, instance_id, owner.account.id, message, key))

    if STREAM in request.headers.get("accept", ""):
        pieces = await carry(LONG_ANSWERS, owner.account.id, start, quiet_seconds=streams.RIGHT_SECONDS)
        return streams.respond(_stream(pieces, partial(deps.may_still_look, request)))
    try:
        pieces = await carry(LONG_ANSWERS, owner.account.id, start)
    except AppError as error:
        return await run_in_threadpool(_page, request, instance, error.status, draft=message, problem=error.message)
    deltas, told = "", dict[str, str]()
    async for piece in pieces:
        if piece is not None:
            kind, text = piece
            deltas += text if kind == "delta" else ""
            told[kind] = text
    return await run_in_threadpool(
        _page,
        request,
        instance,
        question=message,
        answer=told.get("final") or deltas,
        problem=told.get("error", ""),
        cost=told["usage"],
    )


def _find(ctx: Context, owner: Owner, instance_id: str) -> Instance:
    with ctx.db.read() as db:
        return owned(db, Instance, instance_id, owner.account.id)


def _tell(ctx: Context, turn: Turn) -> Iterator[Told]:
    for event in turn.events:
        yield event.kind, event.text
    yield "usage", _cost(ctx, turn)


async def _stream(pieces: AsyncIterator[Told | None], holds: Callable[[], bool]) -> AsyncIterator[bytes]:
    right = streams.Right(holds)
    async for piece in pieces:
        if await right.is_over():
            return
        yield b": still here\n\n" if piece is None else streams.event(piece[0], {"text": piece[1]})


def _cost(ctx: Context, turn: Turn) -> str:
    """What the turn cost, or nothing while its calls are not in the books yet."""
    used = chat.usage_of(ctx, turn)
    if not used["calls"]:
        return ""
    price = languages.usd(used["price_micros"])
    return ngettext("%(num)s model call, %(price)s", "%(num)s model calls, %(price)s", used["calls"], price=price)


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
    said: Sequence[Said] | None = None,
) -> Response:
    is_gone = instance.deletion_asked_at is not None or instance.state == State.DELETED
    return page(
        request,
        "instance_chat.html",
        status,
        tab="chat",
        instance=instance,
        is_live=instance.state == State.ACTIVE and not is_gone,
        is_gone=is_gone,
        question=question,
        answer=answer,
        draft=draft,
        problem=problem,
        cost=cost,
        said=said or [],
        is_whole=said is not None,
        turn=new_id("trn"),
        max_message=chat.MAX_MESSAGE,
    )
