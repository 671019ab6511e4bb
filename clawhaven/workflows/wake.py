"""The owner's start: what it means depends on where the assistant is."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from clawhaven.billing import dunning, subscriptions
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
        if not dunning.is_paid_for(db, subscriptions.of_instance(db, instance_id)):
            raise PaymentRequired(
                "The subscription has ended or is not paid; it can be started once that is settled under Billing.",
                pay_url=f"{ctx.settings.base_url}/billing",
            )
        audit.record(db, ctx.clock.now(), actor, "instance.retry", instance_id, instance.account_id)
        return provision.ask(db, ctx, instance_id)
    if instance.state == State.SUSPENDED:
        left = [reason for reason in states.reasons(instance) if reason != Reason.OWNER]
        if left:
            raise _suspended(db, ctx, instance_id, left)
        asked = lifecycle.ask_resume(db, ctx, instance_id, Reason.OWNER, actor)
        return asked or lifecycle.ask_again(db, ctx, instance_id)
    known = operations.under_way(db, instance_id) or operations.latest(db, instance_id)
    if instance.state == State.ACTIVE and known is not None:
        return known
    raise IllegalMove(f"The assistant is {states.CALLED[instance.state]} and cannot be started.", state=instance.state)


def _suspended(db: Session, ctx: Context, instance_id: str, reasons: Sequence[Reason]) -> PaymentRequired:
    """The refusal, with the reason and the way out of it."""
    base = ctx.settings.base_url
    told = {str(reason): (f"{base}/billing", "See what to do under Billing") for reason in reasons}
    told[Reason.BALANCE] = (f"{base}/topup", "Top up your balance")
    subscription = subscriptions.of_instance(db, instance_id)
    owed = dunning.pay_url(subscription) if subscription is not None else None
    if owed is not None:
        told[Reason.PAYMENT] = (owed, "Pay what is owed")
    payable = next((reason for reason in (Reason.PAYMENT, Reason.BALANCE) if reason in reasons), None)
    url, way = told[payable] if payable is not None else ("", f"Write to {ctx.settings.support_address}")
    return PaymentRequired(
        f"The assistant is paused: {', '.join(states.BECAUSE[one] for one in reasons)}. Starting it does not change"
        f" that. {way}" + (f": {url}" if url else "."),
        code="suspended",
        reasons=[str(reason) for reason in reasons],
        pay_url=url or None,
    )
