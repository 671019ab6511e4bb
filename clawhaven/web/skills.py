"""An assistant's skills: on and off, the keys that some of them need, and whether those work."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.errors import AppError, Conflict, IllegalMove, Invalid, RateLimited, Unavailable
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.web import deps
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.languages import N_, Texts
from clawhaven.web.render import page
from clawhaven.workflows import skills
from clawhaven.workflows.skills import Tried

router = APIRouter(prefix="/instances/{instance_id}/skills")

Refusal = (Invalid, Conflict, RateLimited, Unavailable)

VENDOR_SAYS = Texts(
    {
        "good": N_("The key works."),
        "refused": N_("The vendor does not accept the key any more. Replace it below."),
        "restricted": N_("The vendor knows the key, but it may not do what this skill needs. Replace it below."),
        "silent": N_("The vendor cannot be reached at the moment. Please try again in a minute."),
    }
)
"""What a skill's vendor says of the key."""

ASSISTANT_SAYS = Texts(
    {
        "ready": N_("The assistant can use it."),
        "applying": N_("The assistant is being told. Please try again in a moment."),
        "asleep": N_("The assistant does not run at the moment."),
        "off": N_("The skill is off."),
    }
)
"""Whether the assistant can use a skill."""


@router.get("")
def show_skills(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """Every skill, on, off or not to be had."""
    return _page(request, ctx, owner, instance_id)


@router.post("/{skill}")
def switch(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId, skill: RowId) -> Response:
    """Turn it on (`is_on=1`) or off; the gateway follows."""
    try:
        with ctx.db.tx() as db:
            owned(db, Instance, instance_id, owner.account.id)
            is_asked = skills.turn(db, ctx, instance_id, skill, form.get("is_on") == "1", deps.actor(owner))
    except Refusal as error:
        return _refused(request, ctx, owner, instance_id, error)
    word = "saved" if is_asked is not None else "skill-kept"
    return RedirectResponse(f"/instances/{instance_id}/skills?done={word}", 303)


@router.post("/{skill}/key")
def put_key(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId, skill: RowId) -> Response:
    """Test it at its vendor, keep it sealed, and turn the skill on."""
    try:
        skills.put_key(ctx, instance_id, owner.account.id, skill, key_in(ctx, form.values, skill), deps.actor(owner))
    except Refusal as error:
        return _refused(request, ctx, owner, instance_id, error)
    return RedirectResponse(f"/instances/{instance_id}/skills?done=key-saved", 303)


@router.post("/{skill}/key/remove")
def remove_key(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, skill: RowId) -> Response:
    """Forget it; the assistant does without the skill."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        is_gone = skills.remove_key(db, ctx, instance_id, skill, deps.actor(owner))
    return RedirectResponse(
        f"/instances/{instance_id}/skills?done={'skill-key-removed' if is_gone else 'unchanged'}", 303
    )


@router.post("/{skill}/test")
def try_it(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, skill: RowId) -> Response:
    """Ask the vendor about the key that is kept."""
    try:
        found = skills.try_skill(ctx, instance_id, owner.account.id, skill)
    except RateLimited as error:
        return _refused(request, ctx, owner, instance_id, error)
    return _page(request, ctx, owner, instance_id, tried={skill: found})


def key_in(ctx: Context, values: Mapping[str, str], skill_id: str) -> str:
    """The key of a posted form, whose field is called as the skill's vendor has it."""
    skill = ctx.skills.find(skill_id)
    vendor = ctx.skill_vendors.get(skill.vendor) if skill else None
    return values.get(vendor.field.name, "") if vendor else ""


def errors_of(ctx: Context, error: AppError) -> dict[str, str]:
    """What was refused, beside the field of the key it is about, or for the whole page."""
    fields = {vendor.field.name for vendor in ctx.skill_vendors.values()}
    field = str(error.details.get("field"))
    return {field if field in fields else "form": error.message}


def _refused(request: Request, ctx: Context, owner: Owner, instance_id: str, error: AppError) -> Response:
    if isinstance(error, IllegalMove):
        raise error
    return _page(request, ctx, owner, instance_id, error)


def _page(
    request: Request,
    ctx: Context,
    owner: Owner,
    instance_id: str,
    error: AppError | None = None,
    tried: Mapping[str, Tried] | None = None,
) -> Response:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        entries = skills.of_instance(db, ctx, instance)
    return page(
        request,
        "instance_skills.html",
        error.status if error else 200,
        tab="skills",
        instance=instance,
        entries=[one for one in entries if one.state != "unavailable"],
        others=[one for one in entries if one.state == "unavailable"],
        tried={
            name: (one, VENDOR_SAYS[one.vendor], ASSISTANT_SAYS[one.assistant]) for name, one in (tried or {}).items()
        },
        errors=errors_of(ctx, error) if error else {},
        is_changeable=instance.state != State.DELETED and instance.deletion_asked_at is None,
    )
