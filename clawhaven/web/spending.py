"""The one tap that lets what an assistant does by itself go on: on its page, and from a letter."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select

from clawhaven.accounts.ownership import owned
from clawhaven.core.errors import AppError
from clawhaven.instances.models import Instance
from clawhaven.metering.spending import Spending, spending_of
from clawhaven.metering.usage import Live, live_usage
from clawhaven.web import deps
from clawhaven.web.deps import Anyone, Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.render import page
from clawhaven.workflows import spending

router = APIRouter()

Token = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.=-]{20,400}$")]
TRIES_A_MINUTE = 20


@router.get("/usage/live")
def show_live(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """The part of the usage page that shows what goes on now; the page asks for it every few seconds."""
    return page(request, "usage_live.html", live=live_of(ctx, owner.account.id))


@router.get("/continue/{token}")
def show_link(request: Request, ctx: Ctx, _visitor: Anyone, token: Token) -> Response:
    """A button: programs that read mail open links, but press nothing."""
    return _show(request, ctx, token)


@router.post("/continue/{token}")
def use_link(request: Request, ctx: Ctx, _visitor: Anyone, _form: OwnForm, token: Token) -> Response:
    """Let it go on today; a second press of the same button adds nothing."""
    deps.limit(ctx, f"continue:{deps.client_address(request)}", TRIES_A_MINUTE)
    try:
        instance_id, seen = spending.read_link(ctx, token)
        with ctx.db.tx() as db:
            spending.go_on(db, ctx, instance_id, "link", seen)
    except AppError as problem:
        return page(request, "continue.html", problem.status, token="", name="", day=None, problem=problem.message)
    return _show(request, ctx, token, is_done=True)


@router.post("/instances/{instance_id}/continue")
def go_on(ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """The same from the assistant's own page. `seen`: what had been added when the page was drawn."""
    seen = form.get("seen", "0")
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        spending.go_on(db, ctx, instance_id, deps.actor(owner), int(seen) if seen.isdecimal() and len(seen) < 16 else 0)
    return RedirectResponse(f"/instances/{instance_id}/usage?done=goes-on", 303)


def live_of(ctx: Ctx, account_id: str) -> Live:
    """What goes on in an account now, for its pages."""
    with ctx.db.read() as db:
        return live_usage(db, account_id, ctx.clock.now())


def day_of(ctx: Ctx, instance_id: str) -> Spending | None:
    """An assistant's day, for its page; None before it can call a model."""
    with ctx.db.read() as db:
        found = spending_of(db, ctx.clock.now(), instance_ids=[instance_id])
    return found[0] if found else None


def _show(request: Request, ctx: Ctx, token: str, *, is_done: bool = False) -> Response:
    try:
        instance_id, seen = spending.read_link(ctx, token)
    except AppError as problem:
        return page(request, "continue.html", problem.status, token="", name="", day=None, problem=problem.message)
    day = day_of(ctx, instance_id)
    with ctx.db.read() as db:
        instance = db.scalar(select(Instance).where(Instance.id == instance_id))
    is_used = is_done or day is None or day.extra_micros != seen
    name = instance.name if instance else ""
    return page(request, "continue.html", token="" if is_used else token, name=name, day=day, problem="")
