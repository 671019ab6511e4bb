"""Money that was given back, and what of it comes to us again: booked by the difference to what is booked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from clawhaven.accounts import directory
from clawhaven.billing import checkouts, refunds
from clawhaven.billing.checkouts import Kind
from clawhaven.billing.models import Checkout, Receipt
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.money import format_usd
from clawhaven.ledger import entries
from clawhaven.notices import kinds
from clawhaven.ports.payments import VendorPayment
from clawhaven.workflows import access, letters


def note(db: Session, receipt: Receipt, payment: VendorPayment, asked_at: datetime, now: datetime) -> int:
    """Write down how much of a payment the vendor, asked at `asked_at`, says was given back; returns the difference to
    what was booked, in micro-dollars. Below zero: a refund failed after all, or a lost dispute was turned.

    An answer older than the last one changes nothing, and that something came to us again is believed only of a vendor
    that was asked after the refund was booked.
    """
    if payment.refunded_micros is None or checkouts.is_older(receipt, asked_at):
        return 0
    told, booked = min(payment.refunded_micros, receipt.amount_micros), receipt.refunded_micros
    is_older = receipt.refunded_at is not None and asked_at < receipt.refunded_at
    if told == booked or (told < booked and is_older):
        return 0
    receipt.refunded_micros, receipt.refunded_at = told, now
    if told < booked:
        receipt.returns += 1
    db.flush()
    return told - booked


def book(db: Session, ctx: Context, checkout: Checkout, receipt: Receipt, moved: int, title: str) -> None:
    """Book what `note` returned. `title` of the plan, for what the customer reads."""
    if moved > 0:
        _book_refund(db, ctx, checkout, receipt, moved, title)
    elif moved < 0:
        _book_return(db, ctx, checkout, receipt, -moved, title)


def _book_refund(db: Session, ctx: Context, checkout: Checkout, receipt: Receipt, amount: int, title: str) -> None:
    """The part of a top-up that was spent already becomes a debt."""
    key = f"{receipt.provider}:{receipt.reference}:{receipt.refunded_micros}"
    # The same sum may go back once more after it had come to us again.
    key += f":{receipt.returns}" if receipt.returns else ""
    is_lost = receipt.dispute == "lost"
    note, shared = "Payment lost in a dispute" if is_lost else "Money returned", _shared(db, ctx, checkout, amount)
    if checkout.kind == Kind.SUBSCRIPTION:
        why = note if is_lost else f"{title} taken back"
        entries.credit(db, key=f"unplan:{key}", kind="plan_returned", source="subscription_revenue", note=why, **shared)
    entries.debit(db, key=f"refund:{key}", kind="refund", to="payments", note=note, below_floor=True, **shared)
    _record(db, ctx, checkout, "payment.returned", amount)


def _book_return(db: Session, ctx: Context, checkout: Checkout, receipt: Receipt, amount: int, title: str) -> None:
    """Exactly what the refund had booked, the other way; told to the operator and to the customer, once."""
    key = f"{receipt.provider}:{receipt.reference}:{receipt.returns}"
    is_plan, shared = checkout.kind == Kind.SUBSCRIPTION, _shared(db, ctx, checkout, amount)
    note = "The dispute was decided anew" if receipt.dispute == "won" else "The refund came back from your bank"
    entries.credit(db, key=f"unrefund:{key}", kind="refund", note=note, **shared)
    if is_plan:
        why, to = f"{title} paid after all", "subscription_revenue"
        entries.debit(
            db,
            key=f"replan:{key}",
            kind="plan_returned",
            to=to,
            note=why,
            below_floor=True,
            **shared,
        )
    _record(db, ctx, checkout, "payment.restored", amount)
    failed = refunds.undo(db, receipt, receipt.refunded_micros, ctx.clock.now())
    _tell(db, ctx, receipt, amount, len(failed), is_plan=is_plan)


def _shared(db: Session, ctx: Context, checkout: Checkout, amount: int) -> dict[str, Any]:
    """What both entries of a movement have in common."""
    wallet = access.wallet_of(db, ctx, checkout.account_id)
    return {"ledger_account_id": wallet, "amount_micros": amount, "now": ctx.clock.now(), "ref": checkout.id}


def _tell(db: Session, ctx: Context, receipt: Receipt, amount_micros: int, failed: int, *, is_plan: bool) -> None:
    settings, amount = ctx.settings, format_usd(amount_micros)
    who = directory.get(db, receipt.account_id).user.email
    asked = f" {failed} refund{'s' if failed > 1 else ''} of yours failed by that." if failed else ""
    text = (
        f"{amount} of the payment {receipt.reference} at {receipt.provider} had been given back to {who}, and came to"
        f" us again: a bank did not take it, or decided a dispute anew.{asked}\n\nIt is booked as"
        f" {'paid for the plan' if is_plan else 'part of the balance'} again. If the customer should have it, pay it in"
        f" another way.\n\nSee {settings.base_url}/admin/accounts/{receipt.account_id}\n"
    )
    key = f"refund-undone:{receipt.id}:{receipt.returns}"
    letter = kinds.alert(f"{amount} that was given back came to us again", text)
    letters.post_to(db, ctx, key, letter, settings.support_address)
    mine = kinds.refund_returned(
        settings.brand_name,
        amount,
        f"{settings.base_url}/billing",
        is_plan=is_plan,
        is_dispute=receipt.dispute in ("open", "won", "lost"),
    )
    letters.post(db, ctx, f"refund-returned:{receipt.id}:{receipt.returns}", mine, receipt.account_id)


def _record(db: Session, ctx: Context, checkout: Checkout, action: str, amount_micros: int) -> None:
    amount, actor = format_usd(amount_micros), f"provider:{checkout.provider}"
    audit.record(db, ctx.clock.now(), actor, action, checkout.id, checkout.account_id, amount=amount)
