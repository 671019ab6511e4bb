"""Another key with which an assistant reaches our model proxy, for one that leaked: no call is refused on the way.

The key before is accepted until a gateway has been started with the new one. That may be a later start: of one that is
paused now, or that could not be restarted.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import IllegalMove, NotFound
from clawhaven.instances import operations, states
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import State
from clawhaven.workflows import access, boot, engine, lifecycle, progress
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

AN_HOUR = 10
"""Replacements of one assistant's key: each restarts it."""

KIND = "replace_key"


def can_replace(instance: Instance) -> bool:
    """True for an assistant that runs, or is paused, and stays."""
    return instance.state in (State.ACTIVE, State.SUSPENDED) and instance.deletion_asked_at is None


def ask_replace(db: Session, ctx: Context, instance_id: str, actor: str) -> Operation:
    """Make a new key and restart with it; one that is paused gets it when it is started next.

    Asked while it is under way, that is what is meant. Raises NotFound, IllegalMove, RateLimited.
    """
    if db.get(Instance, instance_id) is None:
        raise NotFound("There is no such assistant.")
    instance = lifecycle.locked(db, instance_id)
    if not can_replace(instance):
        is_going = instance.deletion_asked_at is not None and instance.state != State.DELETED
        called = "being deleted" if is_going else states.CALLED[instance.state]
        raise IllegalMove(f"The assistant is {called}: its key cannot be replaced.", state=instance.state)
    known = operations.latest(db, instance_id, KIND)
    if known is not None and known.state in ("queued", "running"):
        return known
    now = ctx.clock.now()
    ratelimit.hit(db, f"replace-key:{instance_id}", AN_HOUR, 3600, now)
    audit.record(db, now, actor, "instance.replace_key", instance_id, instance.account_id)
    operation = operations.open_operation(db, instance_id, KIND, now)
    enqueue(
        db,
        ctx,
        KIND,
        f"{KIND}:{operation.id}",
        instance_id,
        operation.id,
        queue=engine.INSTANCES,
        partition=instance_id,
    )
    return operation


@workflow("replace_key")
def replace_key(instance_id: str, operation_id: str) -> str:
    """Make a key, restart the gateway with it, end the key before; `later` for one that is paused."""
    try:
        make_key(instance_id, operation_id)
        lifecycle.close_gateway(instance_id, operation_id)
        is_started = lifecycle.open_gateway(instance_id, operation_id)
        if is_started:
            lifecycle.see_ready(instance_id, operation_id)
            lifecycle.see_channels(instance_id)
    except StepFailed as failure:
        lifecycle.release(instance_id)
        lifecycle.finish(operation_id, failure.code)
        return failure.code
    lifecycle.finish(operation_id)
    return "replaced" if is_started else "later"


@step("make_key")
def make_key(instance_id: str, operation_id: str) -> None:
    """In the row, sealed, and accepted from now on beside the one before."""
    ctx = engine.context()
    boot.refuse_unwanted(ctx, instance_id)
    with progress.shown(ctx, operation_id, "make_key"), ctx.db.tx() as db:
        access.replace_key(db, ctx, lifecycle.locked(db, instance_id))
