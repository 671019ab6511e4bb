"""Payment events: stored by the door, applied here by re-reading the vendor, never by trusting an event's order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from clawhaven.billing import checkouts, inbox, subscriptions
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Checkout, InboxEvent, Receipt
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.logs import get_logger
from clawhaven.core.money import format_usd
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State, reasons
from clawhaven.ledger import entries
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import BadSignature, Capability, VendorPayment, VendorState, VendorSubscription
from clawhaven.workflows import access, engine, letters, lifecycle, provision
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

log = get_logger("clawhaven.payments")

UNKNOWN_TRIES = 5
"""An event can overtake the answer that tells us its checkout's reference; it is looked for again for some seconds."""


def receive(ctx: Context, provider: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Verify, store, ask for the work. Raises BadSignature. False: this event was here before."""
    event = ctx.payment(provider).parse_event(headers, body)
    with ctx.db.tx() as db:
        row = inbox.record(db, provider, event, body, ctx.clock.now())
        if row is None:
            return False
        ask(db, ctx, row)
    return True


def ask(db: Session, ctx: Context, row: InboxEvent, again: str = "") -> None:
    """Enqueue the work for a stored event; what concerns one checkout is applied one after the other."""
    checkout_id = _checkout_of(db, row)
    partition = checkout_id or row.checkout_reference or row.subscription_reference or row.id
    workflow_id = f"event:{row.provider}:{row.event_id}" + (f":{again}" if again else "")
    enqueue(db, ctx, "apply_payment", workflow_id, row.id, queue=engine.EVENTS, partition=partition)


def ask_settle(db: Session, ctx: Context, checkout_id: str, *, is_overdue: bool = False) -> None:
    """Ask for the vendor's truth about a checkout without an event; `is_overdue`: unpaid then means expired."""
    workflow_id = f"settle:{checkout_id}:{int(ctx.clock.now().timestamp())}"
    enqueue(db, ctx, "settle", workflow_id, checkout_id, is_overdue, queue=engine.EVENTS, partition=checkout_id)


UNWANTED = "unwanted"
"""Paid for an assistant that was given up meanwhile: the money goes back."""


@workflow("apply_payment")
def apply_payment(row_id: str) -> str:
    """Find what the event speaks of, read the vendor's truth, make ours equal."""
    try:
        for attempt in range(UNKNOWN_TRIES):
            checkout_id = find_checkout(row_id)
            if checkout_id is not None:
                break
            engine.sleep(1 + attempt)
        else:
            close_event(row_id, "ignored", "no checkout of ours has this reference")
            return "ignored"
        if settle_checkout(checkout_id) == UNWANTED:
            give_back(checkout_id)
        close_event(row_id, "handled", "")
    except StepFailed as failure:
        # The row stays `received`; the reconciler asks the vendor again.
        return failure.code
    return "handled"


@workflow("settle")
def settle(checkout_id: str, is_overdue: bool) -> str:
    """Make ours equal to the vendor's; give back what was paid for nothing; expire what nobody paid."""
    try:
        outcome = settle_checkout(checkout_id)
        if outcome == UNWANTED:
            give_back(checkout_id)
        elif is_overdue and outcome != "paid":
            expire_checkout(checkout_id)
    except StepFailed as failure:
        return failure.code
    return outcome


@step("expire_checkout")
def expire_checkout(checkout_id: str) -> None:
    """Nobody paid within a day: the draft goes, its place is free."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        checkout = checkouts.get(db, checkout_id)
        if checkout.state == CheckoutState.OPEN and checkouts.expire(db, checkout_id, ctx.clock.now()):
            _drop_draft(db, ctx, checkout.instance_id or "")


@step("find_checkout")
def find_checkout(row_id: str) -> str | None:
    """The checkout an event speaks of, directly or through its subscription."""
    ctx = engine.context()
    with ctx.db.read() as db:
        return _checkout_of(db, db.get_one(InboxEvent, row_id))


def _checkout_of(db: Session, row: InboxEvent) -> str | None:
    if row.checkout_reference is not None:
        found = checkouts.by_reference(db, row.provider, row.checkout_reference)
        if found is not None:
            return found.id
    if row.subscription_reference is not None:
        subscription = subscriptions.by_reference(db, row.provider, row.subscription_reference)
        if subscription is not None:
            return subscription.checkout_id
    return None


@step("settle_checkout", attempts=6, wait_seconds=2)
def settle_checkout(checkout_id: str) -> str:
    """Read the vendor's state outside any transaction, then make ours equal in one."""
    ctx = engine.context()
    with ctx.db.read() as db:
        checkout = checkouts.get(db, checkout_id)
    if checkout.reference is None:
        return "open"
    seen = ctx.payment(checkout.provider).fetch(checkout.reference)
    with ctx.db.tx() as db:
        return equalise(db, ctx, checkouts.get(db, checkout_id), seen)


@step("give_back", attempts=6, wait_seconds=2)
def give_back(checkout_id: str) -> None:
    """End the subscription and return the money of a payment that nothing can be given for; once per payment."""
    ctx = engine.context()
    now = ctx.clock.now()
    with ctx.db.read() as db:
        checkout = checkouts.get(db, checkout_id)
        subscription = subscriptions.of_checkout(db, checkout_id)
        paid = checkouts.receipts_of(db, checkout_id)
    provider = ctx.payment(checkout.provider)
    if subscription is not None and subscription.state != "canceled":
        provider.cancel(subscription.reference, at_period_end=False)
    for receipt in paid:
        if Capability.REFUND in provider.capabilities:
            provider.refund(receipt.reference, receipt.amount_micros, f"give-back:{receipt.id}")
        with ctx.db.tx() as db:
            _book_refund(db, ctx, checkout, receipt, now)


@step("close_event")
def close_event(row_id: str, state: str, note: str) -> None:
    """The event is done with."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        inbox.close(db, row_id, state, note, ctx.clock.now())


def equalise(db: Session, ctx: Context, checkout: Checkout, seen: VendorState) -> str:
    """Make our rows equal to what the vendor says now. Any number of times, in any order: the same end."""
    now = ctx.clock.now()
    outcome = seen.checkout_state
    if seen.checkout_state == "paid":
        for payment in seen.payments:
            _book_payment(db, ctx, checkout, payment, now)
        checkouts.complete(db, checkout.id, now)
        if checkout.instance_id and not _begin(db, ctx, checkout.instance_id, now):
            outcome = UNWANTED
    elif seen.checkout_state in ("expired", "cancelled"):
        if checkout.state == "open" and checkouts.expire(db, checkout.id, now) and checkout.instance_id:
            checkout.last_outcome = "cancelled"
            _drop_draft(db, ctx, checkout.instance_id)
    elif seen.checkout_state == "declined":
        checkout.last_outcome = "declined"
    if seen.subscription is not None:
        _follow_subscription(db, ctx, checkout, seen.subscription, now)
    return outcome


def _book_payment(db: Session, ctx: Context, checkout: Checkout, payment: VendorPayment, now: datetime) -> None:
    reference, amount = payment.reference, payment.amount_micros
    if not checkouts.add_receipt(db, checkout, reference, amount, now) or amount == 0:
        return
    plan = ctx.plans.get(checkout.plan)
    wallet = access.wallet_of(db, ctx, checkout.account_id)
    key = f"payment:{checkout.provider}:{reference}"
    paid = format_usd(amount)
    entries.credit(
        db,
        key=key,
        ledger_account_id=wallet,
        amount_micros=amount,
        now=now,
        kind="payment",
        ref=checkout.id,
        note=f"Payment for {plan.name}",
    )
    entries.debit(
        db,
        key=f"plan:{checkout.provider}:{reference}",
        ledger_account_id=wallet,
        amount_micros=amount,
        now=now,
        kind="plan",
        to="subscription_revenue",
        ref=checkout.id,
        note=f"{plan.name}, one {plan.interval}",
    )
    audit.record(
        db, now, f"provider:{checkout.provider}", "payment.received", checkout.id, checkout.account_id, paid=paid
    )
    letters.post(
        db, ctx, f"receipt:{key}", kinds.receipt(ctx.settings.brand_name, paid, plan.name), checkout.account_id
    )


def _book_refund(db: Session, ctx: Context, checkout: Checkout, receipt: Receipt, now: datetime) -> None:
    wallet = access.wallet_of(db, ctx, checkout.account_id)
    note = "Returned: the assistant was given up before it was paid"
    key, amount = f"{receipt.provider}:{receipt.reference}", receipt.amount_micros
    entries.credit(
        db,
        key=f"unplan:{key}",
        kind="plan_returned",
        source="subscription_revenue",
        ledger_account_id=wallet,
        amount_micros=amount,
        now=now,
        ref=checkout.id,
        note=note,
    )
    entries.debit(
        db,
        key=f"refund:{key}",
        kind="refund",
        to="payments",
        ledger_account_id=wallet,
        amount_micros=amount,
        now=now,
        ref=checkout.id,
        note=note,
    )
    provider = ctx.payment(checkout.provider)
    if Capability.REFUND not in provider.capabilities:
        text = f"{checkout.provider} cannot refund by itself: return {format_usd(amount)} for {checkout.id} by hand."
        letter = kinds.alert("A refund is waiting for you", text)
        letters.post_to(db, ctx, f"refund:{key}", letter, ctx.settings.support_address)
    audit.record(db, now, "workflow:apply_payment", "payment.returned", checkout.id, checkout.account_id)


def _begin(db: Session, ctx: Context, instance_id: str, now: datetime) -> bool:
    """Provision what was paid for, once. False when it was given up before the money came."""
    instance = lifecycle.locked(db, instance_id)
    if instance.paid_at is not None:
        return True
    if instance.state != State.PENDING or instance.deletion_asked_at is not None:
        return False
    instance.paid_at = now
    db.flush()
    provision.ask(db, ctx, instance_id)
    return True


def _drop_draft(db: Session, ctx: Context, instance_id: str) -> None:
    instance = db.get(Instance, instance_id)
    if instance is not None and instance.state == State.PENDING and instance.deletion_asked_at is None:
        lifecycle.ask_delete(db, ctx, instance_id, "workflow:apply_payment")


def _follow_subscription(
    db: Session, ctx: Context, checkout: Checkout, vendor: VendorSubscription, now: datetime
) -> None:
    subscription = subscriptions.mirror(db, checkout, vendor, now)
    if subscription.instance_id is None:
        return
    instance = lifecycle.locked(db, subscription.instance_id)
    if instance.deletion_asked_at is not None or instance.state not in (State.ACTIVE, State.SUSPENDED):
        return
    is_entitled = subscriptions.is_entitled(subscription)
    is_suspended = Reason.PAYMENT in reasons(instance)
    if not is_entitled and not is_suspended:
        lifecycle.ask_suspend(db, ctx, instance.id, Reason.PAYMENT, "workflow:apply_payment")
    elif is_entitled and is_suspended:
        lifecycle.ask_resume(db, ctx, instance.id, Reason.PAYMENT, "workflow:apply_payment")


def sync(ctx: Context, since: timedelta = timedelta(days=2)) -> int:
    """Ask every vendor for events we may have missed; returns how many were new. One bad event stops no other."""
    missed = 0
    for name, provider in ctx.payments.items():
        events: list[tuple[dict[str, Any], bytes]] = provider.unseen(ctx.clock.now() - since)
        for headers, body in events:
            try:
                missed += receive(ctx, name, headers, body)
            except (BadSignature, ProviderError) as error:
                log.warning("an event from the vendor cannot be read", provider=name, error=type(error).__name__)
    return missed
