"""Money the operator gives back: asked for in one transaction, done once by the vendor, booked by settling."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from clawhaven.billing import patience, refunds
from clawhaven.billing.models import Receipt, Refund
from clawhaven.billing.refunds import RefundState
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Invalid
from clawhaven.core.money import format_usd
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability
from clawhaven.workflows import engine, letters, payments
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

PATIENCE = timedelta(minutes=15)
"""A refund that is not done by then is asked for again, under the same key."""

UNSEEN = timedelta(days=1)
"""A refund that the vendor took and that is not in its books by then has failed: a person has to look."""

RETURNS = timedelta(days=35)
"""A bank may send a refund back for up to thirty days (https://docs.stripe.com/refunds#failed-refunds)."""


def ask(db: Session, ctx: Context, receipt_id: str, amount_micros: int, reason: str, actor: str) -> Refund:
    """Give back part or all of a payment, in the caller's transaction; the vendor is asked right after.

    Raises NotFound, Invalid naming `amount`, `reason` or `receipt` (a vendor that cannot), Conflict (disputed).
    """
    receipt = refunds.receipt_of(db, receipt_id)
    if Capability.REFUND not in ctx.payment(receipt.provider).capabilities:
        raise Invalid(
            f"{receipt.provider} gives nothing back from here. Refund the payment {receipt.reference} on its own"
            " dashboard; the books follow by themselves.",
            field="receipt",
            reason="not offered",
        )
    now = ctx.clock.now()
    row = refunds.open_refund(db, receipt, amount_micros, reason, actor, now)
    amount = format_usd(amount_micros)
    audit.record(db, now, actor, "refund.ask", row.id, row.account_id, receipt=receipt_id, amount=amount)
    _enqueue(db, ctx, row, f"refund:{row.id}")
    return row


@workflow("refund")
def refund(refund_id: str) -> str:
    """Ask the vendor once per row, settle what it then says, close the row and tell the customer."""
    try:
        reference = send_refund(refund_id)
        if reference is None:
            return "failed"
        checkout_id = checkout_of(refund_id)
        # Booked before it is closed, so that what is left of the receipt is never counted too high.
        payments.settle_checkout(checkout_id)
        close_refund(refund_id, reference)
    except StepFailed as failure:
        # The row stays `asked`; the sweep asks again under the same key.
        return failure.code
    return "done"


@step("send_refund", attempts=6, wait_seconds=2)
def send_refund(refund_id: str) -> str | None:
    """The vendor's reference of the refund; None when it was refused for good, which is told to the operator."""
    ctx = engine.context()
    with ctx.db.read() as db:
        row = db.get_one(Refund, refund_id)
        receipt = db.get_one(Receipt, row.receipt_id)
    if row.state != RefundState.ASKED:
        return row.reference if row.state == RefundState.DONE else None
    try:
        return ctx.payment(receipt.provider).refund(receipt.reference, row.amount_micros, row.id)
    except ProviderError as error:
        if not error.permanent:
            raise
        problem = error.message
    with ctx.db.tx() as db:
        if refunds.fail(db, refund_id, problem, ctx.clock.now()):
            _tell_failed(
                db, ctx, row, receipt, f"was refused by {receipt.provider}:\n\n{problem}\n\nNothing was given back"
            )
    return None


@step("checkout_of_refund")
def checkout_of(refund_id: str) -> str:
    """The checkout whose payment goes back."""
    ctx = engine.context()
    with ctx.db.read() as db:
        return _checkout_id(db, db.get_one(Refund, refund_id))


@step("close_refund")
def close_refund(refund_id: str, reference: str) -> None:
    """Done, once our books say so too: the row, its line in the log and the customer's letter in one transaction."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        now, row = ctx.clock.now(), db.get_one(Refund, refund_id)
        if row.state != RefundState.ASKED:
            return
        if not refunds.is_seen(db, row):
            # The sweep asks again, under the same key.
            if row.created_at < now - UNSEEN and refunds.fail(db, refund_id, "It never showed at the vendor.", now):
                receipt = db.get_one(Receipt, row.receipt_id)
                why = f"was taken by {receipt.provider} ({reference}), which does not show it. Look there"
                _tell_failed(db, ctx, row, receipt, why)
            return
        if not refunds.finish(db, refund_id, reference, now):
            return
        amount = format_usd(row.amount_micros)
        audit.record(db, now, row.actor, "refund.done", refund_id, row.account_id, amount=amount)
        letter = kinds.refund_sent(ctx.settings.brand_name, amount, row.reason, f"{ctx.settings.base_url}/billing")
        letters.post(db, ctx, f"refund:{refund_id}", letter, row.account_id)


@workflow("sweep_refunds")
def sweep_refunds(scheduled_at: datetime, context: Any) -> None:
    """Refunds that were asked for and are not done, and those that were done and came back."""
    with contextlib.suppress(StepFailed):
        ask_for_refunds()


@step("ask_for_refunds", attempts=1)
def ask_for_refunds() -> int:
    """One sweep; returns how many were asked for again, or have failed after all."""
    ctx = engine.context()
    return ask_again(ctx) + fail_returned(ctx)


def ask_again(ctx: Context) -> int:
    """Ask once more for every refund that is late and that nobody works on; returns how many."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        late = refunds.left_over(db, now - PATIENCE)
    idle = [row for row in late if engine.is_over(ctx, f"refund:{row.id}")]
    for row in idle:
        with ctx.db.tx() as db:
            patience.note_asked(db, db.get_one(Refund, row.id), now)
            _enqueue(db, ctx, row, f"refund:{row.id}:{int(now.timestamp())}")
    return len(idle)


def fail_returned(ctx: Context) -> int:
    """Refunds that were done and that the vendor has taken back since are failed and told; returns how many."""
    count = 0
    with ctx.db.read() as db:
        found = refunds.overstated(db, ctx.clock.now() - RETURNS)
    for one in found:
        with ctx.db.tx() as db:
            receipt = refunds.receipt_of(db, one.id)
            for row in refunds.undo(db, receipt, receipt.refunded_micros, ctx.clock.now()):
                why = f"came back to {receipt.provider}: the customer's bank did not take it. Pay it in another way"
                _tell_failed(db, ctx, row, receipt, why)
                count += 1
    return count


def _tell_failed(db: Session, ctx: Context, row: Refund, receipt: Receipt, why: str) -> None:
    amount = format_usd(row.amount_micros)
    audit.record(db, ctx.clock.now(), "workflow:refund", "refund.fail", row.id, row.account_id, why=why)
    text = (
        f"The refund of {amount} of the payment {receipt.reference} (account {row.account_id}) {why}.\n\n"
        f"See {ctx.settings.base_url}/admin\n"
    )
    letter = kinds.alert(f"A refund of {amount} failed", text)
    letters.post_to(db, ctx, f"refund-failed:{row.id}", letter, ctx.settings.support_address)


def _enqueue(db: Session, ctx: Context, row: Refund, workflow_id: str) -> None:
    enqueue(db, ctx, "refund", workflow_id, row.id, queue=engine.EVENTS, partition=_checkout_id(db, row))


def _checkout_id(db: Session, row: Refund) -> str:
    return db.get_one(Receipt, row.receipt_id).checkout_id
