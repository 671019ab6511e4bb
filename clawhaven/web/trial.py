"""The trial chat on the landing page: streamed where there are scripts, a form and a page of its own where not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from clawhaven.context import Context
from clawhaven.core.carrying import carry
from clawhaven.core.errors import AppError
from clawhaven.ports.model import Exchange
from clawhaven.web import deps, streams
from clawhaven.web.deps import Anyone, Ctx, OwnForm
from clawhaven.web.errors import STREAM
from clawhaven.web.languages import plain_gettext
from clawhaven.web.render import page
from clawhaven.workflows import trial
from clawhaven.workflows.trial import Visitor

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Talk:
    """What the page shows: the conversation so far, sealed for the next form, and how many messages are left."""

    turns: list[Exchange]
    sealed: str
    left: int
    draft: str = ""
    problem: str = ""
    is_over: bool = False
    is_crowded: bool = False
    """True when it is over for everybody at the visitor's address."""
    most: int = trial.MAX_MESSAGE
    messages: int = trial.MESSAGES


def begin(request: Request, ctx: Context, visitor: deps.Visitor) -> Talk | None:
    """An empty conversation for somebody who is not signed in; None where the trial chat is closed."""
    if visitor.owner is not None or trial.find_model(ctx) is None:
        return None
    left = trial.read_visitor(ctx, _cookie(request, ctx)).left
    if left and trial.is_crowded(ctx, deps.client_address(request)):
        problem = plain_gettext(trial.crowded(ctx.clock.now()).message)
        return Talk([], "", 0, problem=problem, is_over=True, is_crowded=True)
    return Talk([], "", left, is_over=not left)


@router.get("/try")
def show_trial(request: Request, ctx: Ctx, visitor: Anyone) -> Response:
    """The conversation on a page of its own; where there is none, the landing page."""
    talk = begin(request, ctx, visitor)
    return page(request, "trial.html", talk=talk) if talk else RedirectResponse("/", 303)


@router.post("/try")
async def send_message(request: Request, ctx: Ctx, form: OwnForm) -> Response:
    """One message. As events: `delta`, then `final` with the whole text, the sealed talk and what is left; `error`."""
    visitor = trial.read_visitor(ctx, _cookie(request, ctx))
    before = trial.read_talk(ctx, form.get("talk"))
    message, address = form.get("message"), deps.client_address(request)
    try:
        visitor, said = await run_in_threadpool(trial.admit, ctx, visitor, address, message)
        pieces = await carry(trial.SEATS, address, lambda: trial.answer(ctx, said, before))
    except AppError as error:
        if STREAM in request.headers.get("accept", ""):
            raise
        is_crowded = error.error_code == trial.CROWDED
        is_over = is_crowded or error.error_code == trial.OVER
        left, problem = 0 if is_over else visitor.left, plain_gettext(error.message)
        talk = Talk(before, form.get("talk"), left, message, problem, is_over, is_crowded)
        return page(request, "trial.html", error.status, talk=talk)
    if STREAM in request.headers.get("accept", ""):
        return _keep(ctx, streams.respond(_stream(ctx, pieces, said, before, visitor.left)), visitor)
    answered, problem = "", ""
    try:
        async for piece in pieces:
            answered += piece or ""
    except AppError as error:
        problem = plain_gettext(error.message)
    turns = [*before, Exchange(said, answered)] if answered else before
    draft = "" if answered else said
    talk = Talk(turns, trial.write_talk(ctx, turns), visitor.left, draft, problem, is_over=not visitor.left)
    return _keep(ctx, page(request, "trial.html", talk=talk), visitor)


async def _stream(
    ctx: Context, pieces: AsyncIterator[str | None], said: str, before: list[Exchange], left: int
) -> AsyncIterator[bytes]:
    answered = ""
    try:
        async for piece in pieces:
            if piece is None:
                yield b": still here\n\n"
            else:
                answered += piece
                yield streams.event("delta", {"text": piece})
    except AppError as error:
        yield streams.event("error", {"text": plain_gettext(error.message), "left": left})
        return
    turns = [*before, Exchange(said, answered)]
    told: dict[str, Any] = {"text": answered, "talk": trial.write_talk(ctx, turns), "left": left}
    yield streams.event("final", told)


def _keep(ctx: Context, response: Response, visitor: Visitor) -> Response:
    response.set_cookie(
        deps.own_cookie(ctx, trial.COOKIE),
        trial.write_visitor(ctx, visitor),
        max_age=trial.COOKIE_SECONDS,
        httponly=True,
        samesite="lax",
        secure=deps.is_secure(ctx),
    )
    return response


def _cookie(request: Request, ctx: Context) -> str:
    return request.cookies.get(deps.own_cookie(ctx, trial.COOKIE), "")
