"""The payment-event inbox: the row comes before the work, unique per (provider, event id)."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import Table, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven.billing import patience
from clawhaven.billing.models import InboxEvent
from clawhaven.core.ids import new_id
from clawhaven.ports.payments import PaymentEvent

_TABLE = cast(Table, InboxEvent.__table__)
_ONCE = {
    name: dialect.insert(_TABLE).on_conflict_do_nothing(index_elements=["provider", "event_id"]).returning(_TABLE.c.id)
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


def is_known(db: Session, provider: str, event_id: str) -> bool:
    """True when the event was stored before."""
    query = select(InboxEvent.id).where(InboxEvent.provider == provider, InboxEvent.event_id == event_id)
    return db.scalar(query) is not None


def is_told(db: Session, provider: str, event: PaymentEvent) -> bool:
    """True when another event speaks of the same payment."""
    query = select(InboxEvent.id).where(
        InboxEvent.provider == provider,
        InboxEvent.payment_reference == event.payment_reference,
        InboxEvent.event_id != event.event_id,
    )
    return db.scalar(query.limit(1)) is not None


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
        note="",
        asks=0,
        vendor_created_at=event.created_at,
        received_at=now,
    )
    values = {column.key: getattr(row, column.key) for column in _TABLE.columns}
    done = db.connection().execute(_ONCE[db.get_bind().dialect.name], values)
    return row if done.first() is not None else None


def close(db: Session, row_id: str, state: str, note: str, now: datetime) -> None:
    """The event is `handled` or `ignored`, and why."""
    db.execute(update(InboxEvent).where(InboxEvent.id == row_id).values(state=state, note=note[:500], handled_at=now))


def empty(db: Session, row_id: str) -> None:
    """Forget what a closed event said."""
    db.execute(update(InboxEvent).where(InboxEvent.id == row_id).values(body=b"", note=""))


def note(db: Session, row_id: str, text: str) -> None:
    """Something about an event that is still to be applied."""
    db.execute(update(InboxEvent).where(InboxEvent.id == row_id).values(note=text[:500]))


def left_over(db: Session, before: datetime) -> list[str]:
    """Events received before then that no workflow has finished, the oldest first; the reconciler asks again.

    One that was asked for in vain is left out for a while, so that what always fails keeps nothing else waiting.
    """
    turn = func.coalesce(InboxEvent.ask_at, InboxEvent.received_at)
    query = select(InboxEvent.id).where(
        InboxEvent.state == "received", InboxEvent.received_at < before, patience.is_due(InboxEvent.ask_at, before)
    )
    return list(db.scalars(query.order_by(turn, InboxEvent.id).limit(200)))
