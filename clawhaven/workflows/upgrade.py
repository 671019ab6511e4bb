"""Another version of OpenClaw for an assistant: stop, copy, change, start, see it answer; else all of it back.

A newer OpenClaw changes the databases it finds, and the older one then refuses them (exit 78): therefore the state goes
back together with the version.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import IllegalMove
from clawhaven.core.languages import N_
from clawhaven.instances import backups, operations, releases, states
from clawhaven.instances.backups import MadeFor
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import State
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import Placement
from clawhaven.workflows import backup as making
from clawhaven.workflows import boot, engine, files, lifecycle, progress, restore
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

UPGRADED = N_("It runs a newer version of OpenClaw now.")
PAUSED = N_("The assistant is paused. Start it first, then upgrade it.")


def ask_upgrade(db: Session, ctx: Context, instance_id: str, actor: str) -> Operation:
    """Change to the version that this installation pins. Raises IllegalMove, RateLimited.

    Not while it is paused: nobody would see whether it answers.
    """
    instance = lifecycle.locked(db, instance_id)
    making.check_kept(instance)
    waiting = next((one for one in operations.queued(db, instance_id) if one.kind == "upgrade"), None)
    if waiting is not None:
        return waiting
    pinned = ctx.settings.openclaw_version
    if not releases.is_older(instance.openclaw_version, pinned):
        raise IllegalMove("There is no newer version here.", version=instance.openclaw_version)
    if instance.state != State.ACTIVE or instance.suspended_for:
        raise IllegalMove(PAUSED, state=instance.state)
    now = ctx.clock.now()
    ratelimit.hit(db, f"upgrade:{instance_id}", making.AN_HOUR, 3600, now)
    safety = backups.open_backup(db, instance_id, MadeFor.UPGRADE, now)
    audit.record(db, now, actor, "instance.upgrade", instance_id, instance.account_id, to=pinned, put_aside=safety.id)
    operation = operations.open_operation(db, instance_id, "upgrade", now)
    enqueue(
        db,
        ctx,
        "upgrade",
        f"upgrade:{operation.id}",
        instance_id,
        operation.id,
        safety.id,
        queue=engine.INSTANCES,
        partition=instance_id,
    )
    return operation


@workflow("upgrade")
def upgrade(instance_id: str, operation_id: str, safety_id: str) -> str:
    """Stop, copy, change, start; when it does not become ready, version and state back together."""
    before: dict[str, Any] = {}
    is_changed = False
    try:
        lifecycle.close_gateway(instance_id, operation_id)
        restore.keep_safety(operation_id, safety_id)
        before = note_before(instance_id)
        change_version(instance_id, operation_id, safety_id, before)
        is_changed = True
        if not lifecycle.open_gateway(instance_id, operation_id):
            raise StepFailed("suspended", "It was paused meanwhile.")
        lifecycle.see_ready(instance_id, operation_id, True)
        see_channels_ready(instance_id)
    except StepFailed as failure:
        return _undo(instance_id, operation_id, safety_id, before, failure.code, is_changed=is_changed)
    end_upgrade(instance_id, operation_id)
    try:
        making.prune(instance_id)
    except StepFailed as failure:
        return failure.code
    return "upgraded"


def _undo(
    instance_id: str, operation_id: str, safety_id: str, before: dict[str, Any], code: str, *, is_changed: bool
) -> str:
    """A `change_version` that failed may have changed the version all the same (killed, then refused); the state it
    cannot have changed: nothing was started."""
    try:
        if before and code != "cancelled":
            lifecycle.close_gateway(instance_id, operation_id)
            change_back(instance_id, before)
        if is_changed and code != "cancelled":
            restore.put_back(instance_id, safety_id)
            code = code if code == "suspended" else "put_back"
        restore.start(instance_id, operation_id)
    except StepFailed as failure:
        lifecycle.release(instance_id)
        code = failure.code
    give_up_upgrade(instance_id, operation_id, safety_id, code)
    return code


@step("note_before")
def note_before(instance_id: str) -> dict[str, Any]:
    """The placement as it is; recorded before anything is changed, it is the way back."""
    instance, _ = files.load(engine.context(), instance_id)
    if instance.placement is None:
        raise ProviderError("the assistant has no place", permanent=True, code="not_placed")
    return dict(instance.placement)


@step("change_version", attempts=3, wait_seconds=5)
def change_version(instance_id: str, operation_id: str, safety_id: str, before: dict[str, Any]) -> None:
    """The next start is one with the pinned version, and there is a copy."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "change_version"):
        instance, _ = files.load(ctx, instance_id)
        if instance.suspended_for:
            raise boot.paused_meanwhile()
        making.demand_safety(ctx, safety_id)
        runtime = ctx.runtime(instance.runtime)
        runtime.prepare()
        _place(ctx, instance_id, runtime.pin(before, None))


@step("change_back", attempts=5, wait_seconds=5)
def change_back(instance_id: str, before: dict[str, Any]) -> None:
    """The next start is one with the version of before."""
    ctx = engine.context()
    instance, _ = files.load(ctx, instance_id)
    _place(ctx, instance_id, ctx.runtime(instance.runtime).pin(instance.placement or before, before))


@step("see_channels_ready", attempts=1)
def see_channels_ready(instance_id: str) -> None:
    """Every claimed channel is ready again: with another version that is part of its health. Raises StepFailed."""
    ctx = engine.context()
    instance, _ = files.load(ctx, instance_id)
    if instance.suspended_for:
        raise boot.paused_meanwhile()
    try:
        boot.wait_channels(ctx, instance_id)
    except ProviderError:
        boot.release_slot(ctx, instance_id)
        raise


@step("end_upgrade")
def end_upgrade(instance_id: str, operation_id: str) -> None:
    """In the assistant's history, and over."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        states.note(db, instance_id, ctx.clock.now(), "upgraded", UPGRADED)
    progress.finish(ctx, operation_id)


@step("give_up_upgrade")
def give_up_upgrade(instance_id: str, operation_id: str, safety_id: str, code: str) -> None:
    """Say so: to the owner on the page, to the operator once."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        backups.mark_failed(db, safety_id, code)
        if code != "cancelled":
            making.tell_operator(db, ctx, instance_id, code, "The upgrade")
    progress.finish(ctx, operation_id, code)


def _place(ctx: Context, instance_id: str, placement: Placement) -> None:
    with ctx.db.tx() as db:
        db.get_one(Instance, instance_id).placement = dict(placement)
