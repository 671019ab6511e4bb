"""The owner's start: what it means depends on where the assistant is."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.billing import subscriptions
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import IllegalMove, PaymentRequired
from clawhaven.instances import operations, states
from clawhaven.instances.models import Operation
from clawhaven.instances.states import Reason, State
from clawhaven.workflows import lifecycle, provision


def ask_start(db: Session, ctx: Context, instance_id: str, actor: str) -> Operation:
    """The owner's start: wakes a stopped assistant, tries a failed one again; running already is success."""
    instance = lifecycle.locked(db, instance_id)
    if instance.state == State.FAILED:
        if not subscriptions.is_entitled(subscriptions.of_instance(db, instance_id)):
            raise PaymentRequired("The subscription has ended; there is nothing to start any more.")
        audit.record(db, ctx.clock.now(), actor, "instance.retry", instance_id, instance.account_id)
        return provision.ask(db, ctx, instance_id)
    if instance.state == State.SUSPENDED:
        left = [reason for reason in states.reasons(instance) if reason != Reason.OWNER]
        if left:
            raise PaymentRequired(
                f"The assistant is suspended ({', '.join(left)}); starting it does not change that.",
                code="suspended",
                reasons=[str(reason) for reason in left],
            )
        asked = lifecycle.ask_resume(db, ctx, instance_id, Reason.OWNER, actor)
        return asked or lifecycle.ask_again(db, ctx, instance_id)
    known = operations.under_way(db, instance_id) or operations.latest(db, instance_id)
    if instance.state == State.ACTIVE and known is not None:
        return known
    raise IllegalMove(f"The assistant is {instance.state} and cannot be started.", state=instance.state)
