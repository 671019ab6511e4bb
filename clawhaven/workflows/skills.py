"""The skills of an assistant, or of an open draft: what there is, turning on and off, keys tested at their vendors.

A living assistant's gateway follows without a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, NotFound, Unavailable
from clawhaven.core.languages import N_
from clawhaven.instances import drafts, equipment, operations, skillset
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.skills import Skill
from clawhaven.instances.skillset import Choice
from clawhaven.instances.states import State
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.skill import SkillVendor
from clawhaven.workflows import lifecycle, onboarding

TESTS_PER_MINUTE = 10
"""Per account: nobody finds out here which of many keys are good."""

OBSTACLES = {
    "browser": N_("There is no browser where the assistants run."),
    "canvas": N_("It needs a Mac that is connected to the assistant; hosted assistants have none."),
    "calls": N_("The assistants have no telephone number."),
    "offer": N_("It is not offered here."),
    "vendor": N_("It is not offered here."),
    "plan": N_("Your plan does not include it."),
    "runtime": N_("It is not offered where this assistant runs."),
}
"""Why an assistant cannot have a skill (see `equipment.obstacle`), as people read it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A skill as one assistant has it.

    `state`: `on`, `off`, `needs_key`, `needs_skill` (wanted, but one of `missing` is off) or `unavailable` (`why`).
    """

    skill: Skill
    state: str
    why: str
    missing: tuple[Skill, ...]
    vendor: SkillVendor | None
    hint: str
    checked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Tried:
    """What a try found. `vendor`: `good`, `refused`, `restricted` or `silent`.

    `assistant`: `ready`, `applying` while it is told, `asleep` while it does not run, `off` while the skill is off.
    """

    vendor: str
    assistant: str

    @property
    def is_good(self) -> bool:
        """True when the assistant can use it now."""
        return self.vendor == "good" and self.assistant == "ready"


def list_skills(ctx: Context, choices: Mapping[str, Choice], plan: str, runtime: str) -> list[Entry]:
    """Every skill on offer, and those that no assistant can have with the reason."""
    on = {one.id for one in equipment.working(ctx.skills, choices, plan, runtime, ctx.skill_vendors)}
    return [_entry(ctx, skill, choices, plan, runtime, on) for skill in ctx.skills if skill.is_offered]


def of_instance(db: Session, ctx: Context, instance: Instance) -> list[Entry]:
    """An assistant's skills."""
    return list_skills(ctx, skillset.choices_of(db, instance.id), instance.plan, instance.runtime)


def of_nobody(ctx: Context) -> list[Entry]:
    """The catalogue: what a new assistant has, whatever its plan."""
    wide = [replace(one, plans=(), runtimes=()) for one in ctx.skills if one.is_offered]
    on = {one.id for one in equipment.working(wide, {}, "", "", ctx.skill_vendors)}
    return [_entry(ctx, one, {}, "", "", on) for one in wide]


def of_draft(db: Session, ctx: Context, account_id: str, plan: str) -> list[Entry]:
    """What an open draft has chosen."""
    return list_skills(ctx, skillset.choices_of(db, account_id), plan, _runtime_of(ctx, plan))


def turn(db: Session, ctx: Context, instance_id: str, skill_id: str, is_on: bool, actor: str) -> Operation | None:
    """Turn a skill on or off; None when it is so already, or the assistant does not run yet.

    Raises Invalid for an unknown skill and `key_missing`, Conflict `skill_unavailable` and `skill_needed`, IllegalMove
    once deleted, RateLimited.
    """
    instance = _changeable(db, instance_id)
    choices = skillset.choices_of(db, instance_id)
    if not _turn(db, ctx, instance_id, choices, instance.plan, instance.runtime, skill_id, is_on):
        return None
    audit.record(
        db, ctx.clock.now(), actor, "instance.skill", instance_id, instance.account_id, skill=skill_id, is_on=is_on
    )
    return _tell(db, ctx, instance_id, actor)


def put_key(ctx: Context, instance_id: str, account_id: str, skill_id: str, api_key: str, actor: str) -> None:
    """Test a key at its vendor, keep it sealed in place of the one before, and turn the skill on.

    Raises Invalid (with the field), Conflict `skill_unavailable`, IllegalMove once deleted, RateLimited, Unavailable
    when the vendor cannot be asked; then nothing has changed.
    """
    with ctx.db.read() as db:
        instance = _alive(owned(db, Instance, instance_id, account_id))
    _refuse_unavailable(ctx, ctx.skills.get(skill_id), instance.plan, instance.runtime)
    key = _try_key(ctx, account_id, skill_id, api_key)
    with ctx.db.tx() as db:
        instance, now = _changeable(db, instance_id), ctx.clock.now()
        _refuse_unavailable(ctx, ctx.skills.get(skill_id), instance.plan, instance.runtime)
        skillset.keep_key(db, instance_id, skill_id, key, ctx.keys, now)
        audit.record(db, now, actor, "instance.skill.key_set", instance_id, account_id, skill=skill_id)
        _tell(db, ctx, instance_id, actor)


def remove_key(db: Session, ctx: Context, instance_id: str, skill_id: str, actor: str) -> bool:
    """Forget a key at once; the assistant does without the skill. False when there was none."""
    instance, now = _changeable(db, instance_id), ctx.clock.now()
    if not skillset.forget_key(db, instance_id, skill_id, now):
        return False
    audit.record(db, now, actor, "instance.skill.key_remove", instance_id, instance.account_id, skill=skill_id)
    _tell(db, ctx, instance_id, actor)
    return True


def reset(db: Session, ctx: Context, instance_id: str, actor: str) -> None:
    """As a new assistant has them, without keys; nothing chosen is success. Raises IllegalMove, RateLimited."""
    instance = _changeable(db, instance_id)
    if not skillset.choices_of(db, instance_id):
        return
    skillset.drop(db, [instance_id])
    audit.record(db, ctx.clock.now(), actor, "instance.skills_reset", instance_id, instance.account_id)
    _tell(db, ctx, instance_id, actor)


def try_skill(ctx: Context, instance_id: str, account_id: str, skill_id: str) -> Tried:
    """Ask the vendor about the key that is kept; nothing is changed. Raises NotFound where none is, RateLimited."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, account_id)
        skill = ctx.skills.find(skill_id)
        choice = skillset.choices_of(db, instance_id).get(skill_id)
        entries = {one.skill.id: one for one in of_instance(db, ctx, instance)}
        is_busy = operations.under_way(db, instance_id) is not None
    if skill is None or skill.vendor not in ctx.skill_vendors or choice is None or not choice.sealed:
        raise NotFound("There is no key for this skill.")
    _limit(ctx, account_id)
    vendor = "good"
    try:
        ctx.skill_vendors[skill.vendor].check_key(skillset.open_key(choice, ctx.keys))
    except ProviderError as error:
        vendor = "silent" if not error.permanent else "restricted" if "restricted" in error.code else "refused"
    if skill_id not in entries or entries[skill_id].state != "on":
        return Tried(vendor, "off")
    assistant = "applying" if is_busy else "ready" if instance.state == State.ACTIVE else "asleep"
    return Tried(vendor, assistant)


# The same for what is not ordered yet


def turn_in_draft(db: Session, ctx: Context, account_id: str, wanted: Mapping[str, bool]) -> None:
    """Keep these skills on or off in the account's draft. Raises as `turn`, and Conflict `draft_changed`."""
    row, now = onboarding.open_draft(db, account_id), ctx.clock.now()
    for skill_id, is_on in wanted.items():
        choices = skillset.choices_of(db, account_id)
        _turn(db, ctx, account_id, choices, row.plan, _runtime_of(ctx, row.plan), skill_id, is_on, strictly=False)
    drafts.touch(db, row, now)


def put_draft_key(ctx: Context, owner: Owner, skill_id: str, api_key: str) -> None:
    """Test a key at its vendor, then keep it sealed in the draft, the skill on. Raises as `put_key`."""
    account_id = owner.account.id
    with ctx.db.read() as db:
        plan = onboarding.open_draft(db, account_id).plan
    _refuse_unavailable(ctx, ctx.skills.get(skill_id), plan, _runtime_of(ctx, plan))
    key = _try_key(ctx, account_id, skill_id, api_key)
    with ctx.db.tx() as db:
        row, now = onboarding.open_draft(db, account_id), ctx.clock.now()
        skillset.keep_key(db, account_id, skill_id, key, ctx.keys, now)
        drafts.touch(db, row, now)


def forget_draft_key(db: Session, ctx: Context, account_id: str, skill_id: str) -> None:
    """Without the key."""
    row, now = onboarding.open_draft(db, account_id), ctx.clock.now()
    skillset.forget_key(db, account_id, skill_id, now)
    drafts.touch(db, row, now)


def _entry(ctx: Context, skill: Skill, choices: Mapping[str, Choice], plan: str, runtime: str, on: set[str]) -> Entry:
    choice = choices.get(skill.id)
    missing = tuple(other for one in skill.needs if one not in on and (other := ctx.skills.find(one)) is not None)
    why = equipment.obstacle(skill, plan, runtime, ctx.skill_vendors)
    has_key = choice is not None and bool(choice.sealed)
    if why:
        state = "unavailable"
    elif skill.id in on:
        state = "on"
    elif skill.vendor and not has_key:
        state = "needs_key"
    else:
        state = "needs_skill" if missing and equipment.is_chosen(skill, choice) else "off"
    return Entry(
        skill,
        state,
        OBSTACLES.get(why, ""),
        missing,
        ctx.skill_vendors.get(skill.vendor),
        (choice.hint or "") if choice else "",
        choice.checked_at if choice else None,
    )


def _turn(
    db: Session,
    ctx: Context,
    holder_id: str,
    choices: Mapping[str, Choice],
    plan: str,
    runtime: str,
    skill_id: str,
    is_on: bool,
    *,
    strictly: bool = True,
) -> bool:
    """Keep the choice; False when it is made already. Not `strictly`: what cannot be on yet is not refused."""
    skill, choice = ctx.skills.get(skill_id), choices.get(skill_id)
    if is_on:
        _refuse_unavailable(ctx, skill, plan, runtime)
        if skill.vendor and (choice is None or not choice.sealed):
            label = ctx.skill_vendors[skill.vendor].label
            raise Invalid(
                f"This skill needs a key of {label} first.", code="key_missing", field="api_key", reason="missing"
            )
        on = {one.id for one in equipment.working(ctx.skills, choices, plan, runtime, ctx.skill_vendors)}
        missing = [one for one in skill.needs if one not in on]
        if strictly and missing:
            raise Conflict(
                f"This skill does nothing without another one: turn on {missing[0]} first.",
                code="skill_needed",
                skills=missing,
            )
    if equipment.is_chosen(skill, choice) == is_on:
        return False
    skillset.switch(db, holder_id, skill_id, is_on, ctx.clock.now())
    return True


def _try_key(ctx: Context, account_id: str, skill_id: str, api_key: str) -> str:
    skill = ctx.skills.get(skill_id)
    if not skill.vendor:
        raise Invalid("This skill needs no key.", field="skill", reason="no key needed")
    vendor, key = ctx.skill_vendors[skill.vendor], api_key.strip()
    if not equipment.is_key(vendor.field, key):
        raise Invalid(
            "This is not an API key. Copy it again, all of it and nothing else.",
            code="invalid_api_key",
            field=vendor.field.name,
            reason="wrong format",
        )
    _limit(ctx, account_id)
    try:
        vendor.check_key(key)
    except ProviderError as error:
        raise _refusal(vendor, error) from None
    return key


def _refusal(vendor: SkillVendor, error: ProviderError) -> Invalid | Unavailable:
    field = vendor.field.name
    if not error.permanent:
        return Unavailable(
            f"{vendor.label} cannot be reached at the moment, so the key could not be tested and was not kept."
            " Please try again.",
            field=field,
        )
    if error.code == "restricted_api_key":
        return Invalid(
            f"{vendor.label} knows this key, but it may not do what this skill needs. Use another.",
            code="restricted_api_key",
            field=field,
        )
    return Invalid(
        f"{vendor.label} does not accept this key. Copy it again, or use another.", code="invalid_api_key", field=field
    )


def _limit(ctx: Context, account_id: str) -> None:
    with ctx.db.tx() as db:
        ratelimit.hit(db, f"skill-key:{account_id}", TESTS_PER_MINUTE, 60, ctx.clock.now())


def _refuse_unavailable(ctx: Context, skill: Skill, plan: str, runtime: str) -> None:
    why = equipment.obstacle(skill, plan, runtime, ctx.skill_vendors)
    if why:
        raise Conflict(OBSTACLES[why], code="skill_unavailable", skill=skill.id, why=why)


def _tell(db: Session, ctx: Context, instance_id: str, actor: str) -> Operation | None:
    """Have the gateway follow. A change that waits to be written brings this one along."""
    for waiting in operations.queued(db, instance_id):
        # Held, it cannot begin before this is committed, and it reads what there is when it begins.
        held = db.get_one(Operation, waiting.id, with_for_update=True, populate_existing=True)
        if held.kind == "configure" and held.state == "queued":
            return held
    return lifecycle.ask_configure(db, ctx, instance_id, actor, ["skills"])


def _changeable(db: Session, instance_id: str) -> Instance:
    return _alive(lifecycle.locked(db, instance_id))


def _alive(instance: Instance) -> Instance:
    if instance.state == State.DELETED or instance.deletion_asked_at is not None:
        raise IllegalMove("The assistant is being deleted.", state=instance.state)
    return instance


def _runtime_of(ctx: Context, plan: str) -> str:
    """Where an assistant on this plan would run."""
    return ctx.plans.get(plan).runtime or next(iter(ctx.runtimes))
