"""The wizard's step between channel and review: what the new assistant can do besides talking."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.instances import drafts
from clawhaven.instances.models import OpenDraft
from clawhaven.web import deps, wizard
from clawhaven.web import skills as pages
from clawhaven.web.deps import AnyForm, Ctx, OwnForm, RowId, SignedIn
from clawhaven.workflows import onboarding, skills

router = APIRouter(prefix="/configure")


@router.get("/skills")
def show_skills(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """What it can do besides talking; a good start is chosen already."""
    row = wizard.named(ctx, owner)
    return _page(request, ctx, owner, row) if row is not None else wizard.elsewhere(ctx, owner)


@router.post("/skills")
def keep_skills(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm) -> Response:
    """Keep what is ticked, and go on."""
    row = wizard.named(ctx, owner)
    if row is None:
        return wizard.elsewhere(ctx, owner)
    if not form.is_genuine:
        return _page(request, ctx, owner, row, {"form": deps.STALE}, 403)
    try:
        with ctx.db.tx() as db:
            mine = onboarding.open_draft(db, owner.account.id)
            shown = skills.of_draft(db, ctx, owner.account.id, mine.plan)
            asked = [one for one in shown if one.state != "unavailable" and (one.hint or not one.vendor)]
            ticked = {one.skill.id: f"skill_{one.skill.id}" in form.values for one in asked}
            skills.turn_in_draft(db, ctx, owner.account.id, ticked)
            drafts.move_on(db, mine, "review", ctx.clock.now())
    except wizard.Refusal as error:
        return _page(request, ctx, owner, row, pages.errors_of(ctx, error), error.status)
    return RedirectResponse("/configure/review", 303)


@router.post("/skills/{skill}")
def put_skill_key(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm, skill: RowId) -> Response:
    """Test a skill's key at its vendor, then keep it sealed."""
    row = wizard.named(ctx, owner)
    if row is None:
        return wizard.elsewhere(ctx, owner)
    if not form.is_genuine:
        return _page(request, ctx, owner, row, {"form": deps.STALE}, 403)
    try:
        skills.put_draft_key(ctx, owner, skill, pages.key_in(ctx, form.values, skill))
    except wizard.Refusal as error:
        return _page(request, ctx, owner, row, pages.errors_of(ctx, error), error.status)
    return RedirectResponse("/configure/skills?done=draft-key-kept", 303)


@router.post("/skills/{skill}/remove")
def forget_skill_key(ctx: Ctx, owner: SignedIn, _form: OwnForm, skill: RowId) -> Response:
    """Without this key."""
    with ctx.db.tx() as db:
        if drafts.find_open(db, owner.account.id) is not None:
            skills.forget_draft_key(db, ctx, owner.account.id, skill)
    return RedirectResponse("/configure/skills", 303)


def _page(
    request: Request,
    ctx: Context,
    owner: Owner,
    row: OpenDraft,
    errors: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response:
    with ctx.db.read() as db:
        entries = skills.of_draft(db, ctx, owner.account.id, row.plan)
    return wizard.show(
        request,
        ctx,
        "skills",
        row,
        status,
        errors or {},
        entries=[one for one in entries if one.state != "unavailable"],
        others=[one for one in entries if one.state == "unavailable"],
    )
