"""Tables of the billing room."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from clawhaven.core.db import Base


class Checkout(Base):
    """Our side of a payment page. `state`: open, completed, expired. `reference` is the vendor's, once made."""

    __tablename__ = "checkout"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    instance_id: Mapped[str | None] = mapped_column(String(40), index=True)
    plan: Mapped[str] = mapped_column(String(40))
    provider: Mapped[str] = mapped_column(String(40))
    amount_micros: Mapped[int]
    state: Mapped[str] = mapped_column(String(20), index=True)
    reference: Mapped[str | None] = mapped_column(String(200), unique=True)
    url: Mapped[str | None] = mapped_column(Text)
    last_outcome: Mapped[str | None] = mapped_column(String(20))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Subscription(Base):
    """A running agreement. `state` uses the field's words; written by billing.subscriptions only."""

    __tablename__ = "subscription"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    instance_id: Mapped[str | None] = mapped_column(String(40), index=True)
    checkout_id: Mapped[str] = mapped_column(ForeignKey("checkout.id"), unique=True)
    plan: Mapped[str] = mapped_column(String(40))
    provider: Mapped[str] = mapped_column(String(40))
    reference: Mapped[str] = mapped_column(String(200), unique=True)
    state: Mapped[str] = mapped_column(String(20))
    is_ending: Mapped[bool] = mapped_column(default=False)
    period_start_at: Mapped[datetime]
    period_end_at: Mapped[datetime]
    checked_at: Mapped[datetime] = mapped_column(index=True)
    """When the vendor was last asked about it."""
    created_at: Mapped[datetime]


class Receipt(Base):
    """A payment that came in, once per vendor payment."""

    __tablename__ = "receipt"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    checkout_id: Mapped[str] = mapped_column(ForeignKey("checkout.id"))
    provider: Mapped[str] = mapped_column(String(40))
    reference: Mapped[str] = mapped_column(String(200))
    amount_micros: Mapped[int]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("provider", "reference"),)


class InboxEvent(Base):
    """A verified event as it came. `state`: received, handled, ignored. Unique per (provider, event id)."""

    __tablename__ = "payment_event"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    provider: Mapped[str] = mapped_column(String(40))
    event_id: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(40))
    vendor_type: Mapped[str] = mapped_column(String(100))
    checkout_reference: Mapped[str | None] = mapped_column(String(200))
    subscription_reference: Mapped[str | None] = mapped_column(String(200))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(20), index=True)
    note: Mapped[str] = mapped_column(Text, default="")
    vendor_created_at: Mapped[datetime]
    received_at: Mapped[datetime]
    handled_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("provider", "event_id"),)


class Waiting(Base):
    """A person waiting for a free place."""

    __tablename__ = "waitlist"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)
    created_at: Mapped[datetime]
    invited_at: Mapped[datetime | None]
