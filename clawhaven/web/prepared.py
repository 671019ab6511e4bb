"""What somebody made under an address before its owner proved it: looked at once, kept or discarded."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.errors import AppError
from clawhaven.web import deps
from clawhaven.web.auth import go_on
from clawhaven.web.deps import Ctx, OwnForm, SignedIn
from clawhaven.web.render import page
from clawhaven.workflows import prepared

router = APIRouter()


@router.get("/prepared")
def show_prepared(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """What is there, in its maker's words."""
    return _screen(request, ctx, owner)


@router.post("/prepared")
def decide(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm) -> Response:
    """Keep all of it and go on where they wanted to, or discard it."""
    try:
        if form.get("choice") == "discard":
            prepared.discard(ctx, owner, deps.actor(owner))
            return RedirectResponse("/dashboard?done=prepared-discarded", 303)
        with ctx.db.tx() as db:
            prepared.keep(db, ctx, owner, deps.actor(owner))
    except AppError as error:
        return _screen(request, ctx, owner, error)
    return go_on(request, ctx)


def _screen(request: Request, ctx: Context, owner: Owner, error: AppError | None = None) -> Response:
    with ctx.db.read() as db:
        found = prepared.find(db, owner)
    if found is None:
        return RedirectResponse("/dashboard", 303)
    status = error.status if error else 200
    return page(request, "prepared.html", status, found=found, error=error.message if error else "")
