"""Refunds the operator asks for: asked in our books first, then done at the vendor under the row's id."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clawhaven.billing.models import Receipt, Refund
from clawhaven.core.errors import Conflict, Invalid, NotFound
from clawhaven.core.ids import new_id
from clawhaven.core.money import MICROS_PER_CENT, format_usd
from clawhaven.core.states import Machine

LONGEST_REASON = 300


class RefundState(StrEnum):
    """Where a refund is."""

    ASKED = "asked"
    DONE = "done"
    FAILED = "failed"


MACHINE: Machine[RefundState] = Machine(
    "refund",
    Refund,
    "state",
    {
        RefundState.ASKED: frozenset({RefundState.DONE, RefundState.FAILED}),
        RefundState.DONE: frozenset(),
        RefundState.FAILED: frozenset(),
    },
)


def left_of(db: Session, receipt: Receipt) -> int:
    """What of a payment can still be given back, in micro-dollars: less what went back and what is under way."""
    under_way = select(func.coalesce(func.sum(Refund.amount_micros), 0)).where(
        Refund.receipt_id == receipt.id, Refund.state == RefundState.ASKED
    )
    return max(0, receipt.amount_micros - receipt.refunded_micros - int(db.scalar(under_way) or 0))


def receipt_of(db: Session, receipt_id: str) -> Receipt:
    """The receipt, held until the transaction ends. Raises NotFound."""
    receipt = db.get(Receipt, receipt_id, with_for_update=True, populate_existing=True)
    if receipt is None:
        raise NotFound("There is no such payment.")
    return receipt


def open_refund(db: Session, receipt: Receipt, amount_micros: int, reason: str, actor: str, now: datetime) -> Refund:
    """Write down what is asked of a receipt that is held.

    Raises Invalid naming `amount` or `reason`, and Conflict for a payment that the customer's bank has taken back.
    """
    why = " ".join(reason.split())
    if not 3 <= len(why) <= LONGEST_REASON:
        raise Invalid(
            f"Give a reason of 3 to {LONGEST_REASON} characters; the customer reads it.",
            field="reason",
            reason="length",
        )
    if amount_micros <= 0 or amount_micros % MICROS_PER_CENT:
        raise Invalid("A refund is a positive amount in whole cents.", field="amount", reason="not an amount")
    if receipt.dispute in ("open", "lost"):
        raise Conflict(
            "This payment is disputed: the customer's bank decides, or has decided. Answer it on the vendor's site.",
            code="illegal_move",
        )
    left = left_of(db, receipt)
    if amount_micros > left:
        raise Invalid(f"At most {format_usd(left)} of this payment is left.", field="amount", reason="too much")
    row = Refund(
        id=new_id("ref"),
        account_id=receipt.account_id,
        receipt_id=receipt.id,
        amount_micros=amount_micros,
        reason=why,
        actor=actor,
        state=RefundState.ASKED,
        created_at=now,
    )
    db.add(row)
    db.flush()
    return row


def finish(db: Session, refund_id: str, reference: str, now: datetime) -> bool:
    """The vendor gave it back. True the first time."""
    return MACHINE.move(db, refund_id, RefundState.DONE, reference=reference, ended_at=now)


def fail(db: Session, refund_id: str, error: str, now: datetime) -> bool:
    """The vendor refused for good. True the first time."""
    return MACHINE.move(db, refund_id, RefundState.FAILED, error=error[:500], ended_at=now)


def left_over(db: Session, before: datetime) -> list[Refund]:
    """Asked for before then, and not done."""
    return list(
        db.scalars(
            select(Refund)
            .where(Refund.state == RefundState.ASKED, Refund.created_at < before)
            .order_by(Refund.created_at, Refund.id)
            .limit(100)
        )
    )
