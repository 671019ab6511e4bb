"""The payment-event inbox: the row comes before the work, unique per (provider, event id)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.billing.models import InboxEvent
from clawhaven.core.ids import new_id
from clawhaven.ports.payments import PaymentEvent


def record(db: Session, provider: str, event: PaymentEvent, body: bytes, now: datetime) -> InboxEvent | None:
    """Store a verified event; None when it was stored before."""
    row = InboxEvent(
        id=new_id("pev"),
        provider=provider,
        event_id=event.event_id,
        kind=str(event.kind),
        vendor_type=event.vendor_type,
        checkout_reference=event.checkout_reference,
        subscription_reference=event.subscription_reference,
        payment_reference=event.payment_reference,
        checkout_key=event.checkout_key,
        body=body,
        state="received",
        vendor_created_at=event.created_at,
        received_at=now,
    )
    try:
        with db.begin_nested():
            db.add(row)
            db.flush()
    except IntegrityError:
        return None
    return row


def close(db: Session, row_id: str, state: str, note: str, now: datetime) -> None:
    """The event is `handled` or `ignored`, and why."""
    db.execute(update(InboxEvent).where(InboxEvent.id == row_id).values(state=state, note=note[:500], handled_at=now))


def note(db: Session, row_id: str, text: str) -> None:
    """Something about an event that is still to be applied."""
    db.execute(update(InboxEvent).where(InboxEvent.id == row_id).values(note=text[:500]))


def left_over(db: Session, before: datetime) -> list[str]:
    """Events received before then that no workflow has finished, the oldest first; the reconciler asks again."""
    return list(
        db.scalars(
            select(InboxEvent.id)
            .where(InboxEvent.state == "received", InboxEvent.received_at < before)
            .order_by(InboxEvent.received_at, InboxEvent.id)
            .limit(200)
        )
    )
