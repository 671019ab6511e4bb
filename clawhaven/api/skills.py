"""What an assistant can do besides talking: skills on and off, and the keys that some of them need."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import StringConstraints

from clawhaven.accounts.ownership import owned
from clawhaven.api.bodies import Body
from clawhaven.api.deps import Caller, Ctx, Signed
from clawhaven.context import Context
from clawhaven.instances.models import Instance
from clawhaven.workflows import skills
from clawhaven.workflows.skills import Entry

router = APIRouter(tags=["skills"])


class SwitchBody(Body):
    """On or off."""

    is_on: bool


class SkillKeyBody(Body):
    """The customer's own key at the skill's vendor."""

    api_key: Annotated[str, StringConstraints(max_length=400)]


def skill_json(entry: Entry) -> dict[str, Any]:
    """The wire form of a skill; never its key."""
    vendor = entry.vendor
    return {
        "skill": entry.skill.id,
        "label": entry.skill.label,
        "summary": entry.skill.summary,
        "note": entry.skill.note or None,
        "status": entry.state,
        "unavailable": entry.why or None,
        "needs": [one.id for one in entry.missing],
        "vendor": vendor.label if vendor else None,
        "key_help": vendor.field.help if vendor else None,
        "key_url": vendor.field.help_url if vendor else None,
        "key_ends_in": entry.hint or None,
        "key_checked_at": entry.checked_at.isoformat() if entry.checked_at else None,
    }


@router.get("/skills")
def list_catalogue(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Every skill that assistants here can be given, as a new one has it, and those that none can have with the
    reason. What a plan leaves out is told of each assistant."""
    return {"items": [skill_json(one) for one in skills.of_nobody(ctx)], "next_cursor": None}


@router.get("/instances/{instance_id}/skills")
def list_skills(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """An assistant's skills. `status`: `on`, `off`, `needs_key`, `needs_skill` (one of `needs` is off) or
    `unavailable`."""
    with ctx.db.read() as db:
        found = skills.of_instance(db, ctx, owned(db, Instance, instance_id, who.account_id))
    return {"items": [skill_json(one) for one in found], "next_cursor": None}


@router.put("/instances/{instance_id}/skills/{skill}", status_code=202)
def switch(instance_id: str, skill: str, body: SwitchBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Turn a skill on or off; the gateway follows, without a restart."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        skills.turn(db, ctx, instance_id, skill, body.is_on, who.actor)
    return _one(ctx, who, instance_id, skill)


@router.put("/instances/{instance_id}/skills/{skill}/key", status_code=202)
def put_key(instance_id: str, skill: str, body: SkillKeyBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Test a key at the skill's vendor, keep it sealed, and turn the skill on."""
    skills.put_key(ctx, instance_id, who.account_id, skill, body.api_key, who.actor)
    return _one(ctx, who, instance_id, skill)


@router.delete("/instances/{instance_id}/skills/{skill}/key", status_code=204)
def remove_key(instance_id: str, skill: str, who: Signed, ctx: Ctx) -> None:
    """Forget the key; the assistant does without the skill."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        skills.remove_key(db, ctx, instance_id, skill, who.actor)


@router.post("/instances/{instance_id}/skills/{skill}/test")
def try_it(instance_id: str, skill: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Ask the skill's vendor about the key that is kept, and say whether the assistant can use it now."""
    found = skills.try_skill(ctx, instance_id, who.account_id, skill)
    return {"is_good": found.is_good, "vendor": found.vendor, "assistant": found.assistant}


def _one(ctx: Context, who: Caller, instance_id: str, skill: str) -> dict[str, Any]:
    with ctx.db.read() as db:
        found = skills.of_instance(db, ctx, owned(db, Instance, instance_id, who.account_id))
    return next(skill_json(one) for one in found if one.skill.id == skill)
