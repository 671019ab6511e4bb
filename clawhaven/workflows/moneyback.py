"""Giving up on an assistant that never lived: what was paid for it goes back, and the order ends."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.billing import checkouts, refunds, subscriptions
from clawhaven.billing.checkouts import CheckoutState, Kind
from clawhaven.billing.models import Receipt
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Conflict
from clawhaven.core.money import format_usd
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.notices import kinds
from clawhaven.ports.payments import Capability
from clawhaven.workflows import letters, lifecycle
from clawhaven.workflows import refunds as returning

REASON = "The assistant could not be built."


def offered_micros(db: Session, ctx: Context, instance: Instance) -> int | None:
    """What the owner of a failed assistant gets back by giving it up, in micro-dollars; 0: nothing was charged.

    None where a person has to decide: it lived once, its subscription pays for others too, a bank disputes the payment,
    or its vendor gives nothing back from here.
    """
    if instance.state != State.FAILED or instance.active_at is not None or instance.deletion_asked_at is not None:
        return None
    subscription = subscriptions.of_instance(db, instance.id)
    if subscription is not None and subscriptions.covered(db, subscription.id) != [instance.id]:
        return None
    found = _receipts(db, instance)
    if found is None:
        return None
    is_plain = all(
        receipt.dispute is None and Capability.REFUND in ctx.payment(receipt.provider).capabilities for receipt in found
    )
    return sum(refunds.left_of(db, receipt) for receipt in found) if is_plain else None


def give_up(db: Session, ctx: Context, instance_id: str, actor: str) -> int:
    """Ask for the refund and the deletion in the caller's transaction; returns the micro-dollars that go back.

    The deletion ends the subscription. The operator is told. Raises Conflict `no_money_back` where it is not offered.
    """
    instance = lifecycle.locked(db, instance_id)
    amount = offered_micros(db, ctx, instance)
    if amount is None:
        raise Conflict(
            "This cannot be returned by itself any more. Write to us, and we will look at it together.",
            code="no_money_back",
            state=instance.state,
        )
    for receipt in _receipts(db, instance) or []:
        left = refunds.left_of(db, receipt)
        if left > 0:
            returning.ask(db, ctx, receipt.id, left, REASON, actor)
    audit.record(db, ctx.clock.now(), actor, "instance.give_up", instance_id, instance.account_id)
    lifecycle.ask_delete(db, ctx, instance_id, actor)
    url = f"{ctx.settings.base_url}/admin/accounts/{instance.account_id}"
    text = (
        f"{instance.name} ({instance_id}) could not be built ({instance.failure_code}), and its owner has given it up."
        f" {format_usd(amount)} goes back by itself.\n\nSee {url}\n"
    )
    letter = kinds.alert("A customer has given up on an assistant that failed", text)
    letters.post_to(db, ctx, f"given-up:{instance_id}", letter, ctx.settings.support_address)
    return amount


def returned_micros(db: Session, instance: Instance) -> int:
    """What of the payments for this assistant has gone back or is asked for."""
    found = _receipts(db, instance) or []
    return sum(receipt.amount_micros - refunds.left_of(db, receipt) for receipt in found)


def _receipts(db: Session, instance: Instance) -> list[Receipt] | None:
    """The payments for this assistant's own subscription; None when it was ordered under another's."""
    checkout = checkouts.of_instance(db, instance.id)
    if checkout is None or checkout.kind != Kind.SUBSCRIPTION or checkout.state != CheckoutState.COMPLETED:
        return None
    return list(checkouts.receipts_of(db, checkout.id))
