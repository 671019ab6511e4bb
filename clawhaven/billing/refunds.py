"""Refunds the operator asks for: asked in our books first, then done at the vendor under the row's id."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clawhaven.billing import patience
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
        # A bank can send the money back to the vendor days later (https://docs.stripe.com/refunds#failed-refunds).
        RefundState.DONE: frozenset({RefundState.FAILED}),
        RefundState.FAILED: frozenset(),
    },
)


def left_of(db: Session, receipt: Receipt) -> int:
    """What of a payment can still be given back, in micro-dollars: less what went back and what is under way."""
    under_way = select(func.coalesce(func.sum(Refund.amount_micros), 0)).where(
        Refund.receipt_id == receipt.id, Refund.state == RefundState.ASKED
    )
    return max(0, receipt.amount_micros - receipt.refunded_micros - int(db.scalar(under_way) or 0))


def asked(db: Session, account_id: str) -> dict[str, int]:
    """What is under way of each of an account's payments, in micro-dollars; only those where anything is."""
    query = select(Refund.receipt_id, func.sum(Refund.amount_micros)).where(
        Refund.account_id == account_id, Refund.state == RefundState.ASKED
    )
    return {receipt_id: int(amount) for receipt_id, amount in db.execute(query.group_by(Refund.receipt_id))}


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


def is_seen(db: Session, refund: Refund) -> bool:
    """True when the books of its payment have grown by it, next to every refund that is done. What was given back on
    the vendor's own site counts too, so this can be true a moment early, and is never false for long."""
    receipt = receipt_of(db, refund.receipt_id)
    return receipt.refunded_micros >= _done_of(db, receipt.id) + refund.amount_micros


def finish(db: Session, refund_id: str, reference: str, now: datetime) -> bool:
    """The vendor gave it back. True the first time."""
    return MACHINE.move(db, refund_id, RefundState.DONE, reference=reference, ended_at=now)


def fail(db: Session, refund_id: str, error: str, now: datetime) -> bool:
    """The vendor refused for good. True the first time; False also for one that is done, which stays so."""
    row = db.get_one(Refund, refund_id, with_for_update=True, populate_existing=True)
    return row.state != RefundState.DONE and _fail(db, refund_id, error, now)


def undo(db: Session, receipt: Receipt, told_micros: int, now: datetime) -> list[Refund]:
    """The vendor says that only `told_micros` of a payment were given back: the refunds that are done and exceed it
    have failed after all. Returns those; asked again it finds none. One of just the missing amount goes first, else the
    newest."""
    receipt_of(db, receipt.id)
    done = list(
        db.scalars(
            select(Refund)
            .where(Refund.receipt_id == receipt.id, Refund.state == RefundState.DONE)
            .order_by(Refund.ended_at.desc(), Refund.id.desc())
        )
    )
    missing, failed = sum(row.amount_micros for row in done) - told_micros, []
    while missing > 0 and done:
        row = next((one for one in done if one.amount_micros == missing), done[0])
        done.remove(row)
        _fail(db, row.id, "The vendor took it back: the money did not reach the customer.", now)
        missing -= row.amount_micros
        failed.append(row)
    return failed


def overstated(db: Session, since: datetime) -> list[Receipt]:
    """Payments whose refunds done are more than the vendor says was given back; of those with one done since then."""
    done = (
        select(Refund.receipt_id)
        .where(Refund.state == RefundState.DONE)
        .group_by(Refund.receipt_id)
        .having(func.max(Refund.ended_at) >= since)
        .add_columns(func.sum(Refund.amount_micros).label("amount"))
        .subquery()
    )
    return list(
        db.scalars(
            select(Receipt)
            .join(done, done.c.receipt_id == Receipt.id)
            .where(done.c.amount > Receipt.refunded_micros)
            .order_by(Receipt.id)
        )
    )


def left_over(db: Session, before: datetime) -> list[Refund]:
    """Asked for before then, and not done; one that was asked for in vain again is left out for a while."""
    is_late = (Refund.state == RefundState.ASKED, Refund.created_at < before, patience.is_due(Refund.ask_at, before))
    turn = func.coalesce(Refund.ask_at, Refund.created_at)
    return list(db.scalars(select(Refund).where(*is_late).order_by(turn, Refund.id).limit(100)))


def _done_of(db: Session, receipt_id: str) -> int:
    query = select(func.coalesce(func.sum(Refund.amount_micros), 0)).where(
        Refund.receipt_id == receipt_id, Refund.state == RefundState.DONE
    )
    return int(db.scalar(query) or 0)


def _fail(db: Session, refund_id: str, error: str, now: datetime) -> bool:
    return MACHINE.move(db, refund_id, RefundState.FAILED, error=error[:500], ended_at=now)
