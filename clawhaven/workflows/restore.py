"""Bringing a backup back: stop, put a copy of now aside, replace the state, start. Ends as restored or as it was.

The assistant knows again what it knew then; its settings, channels and secrets stay those of now, from the database.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import Conflict
from clawhaven.core.languages import N_
from clawhaven.instances import backups, operations, states
from clawhaven.instances.backups import MadeFor
from clawhaven.instances.models import Backup, Operation
from clawhaven.workflows import backup as making
from clawhaven.workflows import engine, files, lifecycle, progress
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

RESTORED = N_("A backup was brought back.")


def ask_restore(db: Session, ctx: Context, instance_id: str, backup_id: str, actor: str) -> Operation:
    """Bring this backup back. Raises NotFound, IllegalMove, RateLimited; Conflict `restore_waiting` while another waits
    for the same."""
    instance = lifecycle.locked(db, instance_id)
    making.check_kept(instance)
    backups.find_ready(db, instance_id, backup_id)
    waiting = next((one for one in operations.queued(db, instance_id) if one.kind == "restore"), None)
    if waiting is not None and waiting.backup_id != backup_id:
        raise Conflict(
            "Another backup is about to be restored. Please wait until that is over.", code="restore_waiting"
        )
    if waiting is not None:
        return waiting
    now = ctx.clock.now()
    ratelimit.hit(db, f"restore:{instance_id}", making.AN_HOUR, 3600, now)
    safety = backups.open_backup(db, instance_id, MadeFor.RESTORE, now)
    audit.record(
        db, now, actor, "backup.restore", instance_id, instance.account_id, backup=backup_id, put_aside=safety.id
    )
    operation = operations.open_operation(db, instance_id, "restore", now)
    operation.backup_id = backup_id
    enqueue(
        db,
        ctx,
        "restore",
        f"restore:{operation.id}",
        instance_id,
        operation.id,
        backup_id,
        safety.id,
        queue=engine.INSTANCES,
        partition=instance_id,
    )
    return operation


@workflow("restore")
def restore(instance_id: str, operation_id: str, backup_id: str, safety_id: str) -> str:
    """Stop, put aside, replace, start; when it does not start with that, everything back."""
    is_begun = is_replaced = False
    try:
        lifecycle.close_gateway(instance_id, operation_id)
        keep_safety(operation_id, safety_id)
        is_begun = True
        bring_back(instance_id, operation_id, backup_id, safety_id)
        is_replaced = True
        start(instance_id, operation_id)
    except StepFailed as failure:
        return undo_restore(
            instance_id, operation_id, safety_id, failure.code, is_begun=is_begun, is_replaced=is_replaced
        )
    end_restore(instance_id, operation_id)
    try:
        making.prune(instance_id)
    except StepFailed as failure:
        return failure.code
    return "restored"


def start(instance_id: str, operation_id: str) -> None:
    """With the settings of now; not when something keeps it paused. Raises StepFailed."""
    if lifecycle.open_gateway(instance_id, operation_id):
        lifecycle.see_ready(instance_id, operation_id)
        lifecycle.see_channels(instance_id)


def undo_restore(
    instance_id: str, operation_id: str, safety_id: str, code: str, *, is_begun: bool, is_replaced: bool
) -> str:
    """As it was before, and running if it ran; whatever of that fails is told to the operator. Returns the code.

    A `bring_back` that was begun and failed may have replaced the state all the same (killed, then refused).
    """
    try:
        if is_begun and code != "cancelled":
            lifecycle.close_gateway(instance_id, operation_id)
            try:
                put_back(instance_id, safety_id)
            except StepFailed:
                # Where bring_back itself failed there is a whole state, most likely the one of before: start that.
                if is_replaced:
                    raise
            code = "put_back" if is_replaced else code
        start(instance_id, operation_id)
    except StepFailed as failure:
        lifecycle.release(instance_id)
        code = failure.code
    give_up_restore(instance_id, operation_id, safety_id, code)
    return code


@step("keep_safety", attempts=3, wait_seconds=5)
def keep_safety(operation_id: str, safety_id: str) -> None:
    """A copy of now, before anything is changed; it can be read to its end."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "keep_safety"):
        making.copy(ctx, safety_id)
        making.demand_safety(ctx, safety_id, is_whole=True)


@step("bring_back", attempts=3, wait_seconds=5)
def bring_back(instance_id: str, operation_id: str, backup_id: str, safety_id: str) -> None:
    """The backup's state in place of the present one, whole or not at all."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "bring_back"):
        making.demand_safety(ctx, safety_id)
        replace(ctx, instance_id, backup_id)


@step("put_back", attempts=5, wait_seconds=5)
def put_back(instance_id: str, safety_id: str) -> None:
    """The copy that was put aside, in its place again."""
    replace(engine.context(), instance_id, safety_id, is_way_back=True)


@step("end_restore")
def end_restore(instance_id: str, operation_id: str) -> None:
    """In the assistant's history, and over."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        states.note(db, instance_id, ctx.clock.now(), "restored", RESTORED)
    progress.finish(ctx, operation_id)


@step("give_up_restore")
def give_up_restore(instance_id: str, operation_id: str, safety_id: str, code: str) -> None:
    """Say so: to the owner on the page, to the operator once."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        backups.mark_failed(db, safety_id, code)
        if code != "cancelled":
            making.tell_operator(db, ctx, instance_id, code, "The restore")
    progress.finish(ctx, operation_id, code)


def replace(ctx: Context, instance_id: str, backup_id: str, *, is_way_back: bool = False) -> None:
    """Unpack a backup over the state of a stopped assistant. Raises ProviderError: nothing was changed then.

    `is_way_back`: it was whole on this disk a moment ago, and what is there now does not belong to its version.
    """
    instance, _ = files.load(ctx, instance_id)
    assert instance.placement is not None
    with ctx.db.read() as db:
        made = db.get(Backup, backup_id)
    # As much as could be packed then: the operator may have lowered it since.
    most = max(ctx.settings.backup_max_mb * 1_000_000, made.most_bytes or 0 if made else 0)
    pieces = making.opened(ctx, instance_id, backup_id)
    ctx.runtime(instance.runtime).unpack(instance.placement, pieces, most, is_way_back=is_way_back)
