"""Tables of the billing room."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from clawhaven.core.db import Base


class Checkout(Base):
    """Our side of a payment page, or of a charge with the saved method. `state`: open, completed, expired.

    `kind`: subscription, topup (the customer pays on a page) or auto_topup (the saved method is charged).
    `plan` is empty for top-ups. `reference` is the vendor's, once made.
    """

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
    kind: Mapped[str] = mapped_column(String(20), default="subscription", server_default="subscription")
    coupon_id: Mapped[str | None] = mapped_column(String(40))
    trial_days: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    charged_at: Mapped[datetime | None]
    """When the vendor was last asked to charge the saved method, written before it is asked; None: never."""
    ask_at: Mapped[datetime | None]
    asks: Mapped[int] = mapped_column(default=0, server_default="0")
    """Asked about in vain so often, and not again before `ask_at` (billing/patience.py)."""


class Customer(Base):
    """Who an account is at a vendor. One per account and vendor."""

    __tablename__ = "vendor_customer"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    provider: Mapped[str] = mapped_column(String(40), primary_key=True)
    reference: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("provider", "reference"),)


class Subscription(Base):
    """A running agreement. `state` uses the field's words; written by billing.subscriptions only.

    `instance_id` is the assistant it was bought for, None when another subscription paid for that one already; all it
    pays for are in `Cover`. `amount_micros` is the recurring
    price it was bought or last accepted at, which the catalogue's may have left since.
    """

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
    amount_micros: Mapped[int] = mapped_column(default=0, server_default="0")
    trial_end_at: Mapped[datetime | None]
    pay_url: Mapped[str | None] = mapped_column(Text)
    """The vendor's page where an unpaid invoice is paid; None: nothing is owed."""
    created_at: Mapped[datetime]
    paused_at: Mapped[datetime | None]
    """Since when the vendor says that it collects no renewal; None: it does."""
    held_at: Mapped[datetime | None]
    """Since when that is our wish, because nothing is given for it, and so ours to take back."""
    ask_at: Mapped[datetime | None]
    asks: Mapped[int] = mapped_column(default=0, server_default="0")
    """Asked about in vain so often, and not again before `ask_at` (billing/patience.py)."""


class Cover(Base):
    """Which subscription pays for an assistant."""

    __tablename__ = "subscription_cover"

    instance_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    subscription_id: Mapped[str] = mapped_column(ForeignKey("subscription.id"), index=True)
    created_at: Mapped[datetime]


class Dunning(Base):
    """One time of trouble of a subscription: grace, then suspended, then deletion on an announced day.

    `state`: grace, suspended, recovered (paid after all), ended (deleted or given up). Written by billing.dunning only.
    At most one of a subscription is open (grace or suspended). `cause`: payment, refund or dispute.
    """

    __tablename__ = "dunning"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    subscription_id: Mapped[str] = mapped_column(ForeignKey("subscription.id"), index=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    cause: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), index=True)
    began_at: Mapped[datetime]
    suspend_at: Mapped[datetime]
    delete_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_dunning_open",
            "subscription_id",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )


class Receipt(Base):
    """A payment that came in, once per vendor payment. `period_*`: the subscription period it pays for, if any."""

    __tablename__ = "receipt"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    checkout_id: Mapped[str] = mapped_column(ForeignKey("checkout.id"))
    provider: Mapped[str] = mapped_column(String(40))
    reference: Mapped[str] = mapped_column(String(200))
    amount_micros: Mapped[int]
    refunded_micros: Mapped[int] = mapped_column(default=0, server_default="0")
    """Given back and booked so far."""
    refunded_at: Mapped[datetime | None]
    """When that was last booked; what a vendor was asked before then does not take it back."""
    returns: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often something of it that had been given back came to us again."""
    fee_micros: Mapped[int | None]
    """What the vendor kept; None where it does not tell."""
    dispute: Mapped[str | None] = mapped_column(String(20))
    dispute_due_at: Mapped[datetime | None]
    """Until when the vendor takes an answer to the dispute; None where it does not tell."""
    disputed_micros: Mapped[int | None]
    """How much of it is disputed; None: all of it."""
    told_at: Mapped[datetime | None]
    """When the vendor was asked for what is written here; an older answer changes none of it."""
    period_start_at: Mapped[datetime | None]
    period_end_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("provider", "reference"),)


class Refund(Base):
    """Money the operator gives back. `state`: asked, done, failed. Its id is the vendor's idempotency key."""

    __tablename__ = "refund"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    receipt_id: Mapped[str] = mapped_column(ForeignKey("receipt.id"), index=True)
    amount_micros: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(20), index=True)
    reference: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str] = mapped_column(Text, default="", server_default="")
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ask_at: Mapped[datetime | None]
    asks: Mapped[int] = mapped_column(default=0, server_default="0")
    """Asked for in vain so often, and not again before `ask_at` (billing/patience.py)."""


class Wallet(Base):
    """What goes with an account's prepaid balance (the balance itself is the ledger's).

    `level`: ok, low or depleted; `episode` counts its changes, so that each is told once. `auto_state`: armed (fires
    at the next crossing), fired (charged or asked for this crossing), failed (told, waits for the owner or a top-up).
    """

    __tablename__ = "wallet"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    level: Mapped[str] = mapped_column(String(20), default="ok", index=True)
    level_at: Mapped[datetime]
    episode: Mapped[int] = mapped_column(default=0)
    refused_at: Mapped[datetime | None]
    """When a call was last refused for want of credit; None since the last credit."""
    is_auto: Mapped[bool] = mapped_column(default=False)
    auto_threshold_micros: Mapped[int] = mapped_column(default=0)
    auto_amount_micros: Mapped[int] = mapped_column(default=0)
    auto_state: Mapped[str] = mapped_column(String(20), default="armed")
    auto_count: Mapped[int] = mapped_column(default=0)
    auto_error: Mapped[str] = mapped_column(Text, default="")


class CreditGrant(Base):
    """Usage credit that was given: per paid period, by a coupon, or by the operator. One per `key`.

    `expires_at` None: it does not expire. What is left of it then is taken back once (`expired_micros`).
    """

    __tablename__ = "credit_grant"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), unique=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    source: Mapped[str] = mapped_column(String(20))
    amount_micros: Mapped[int]
    granted_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    expired_at: Mapped[datetime | None]
    expired_micros: Mapped[int] = mapped_column(default=0)


class Coupon(Base):
    """Something off: `kind` credit (wallet), percent or amount (off a subscription's price). `id` is the code itself.

    `value`: micro-dollars, or whole per cents. `months` None: every period; 0: the first one; else as many months.
    """

    __tablename__ = "coupon"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    value: Mapped[int]
    months: Mapped[int | None]
    max_redemptions: Mapped[int | None]
    redeemed: Mapped[int] = mapped_column(default=0)
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class OncePerPerson(Base):
    """What a person has had, whatever account they used: `what` is a word of billing/once.py, `person` a keyed
    fingerprint of their address. `checkout_id`: with it, as long as it may not be paid."""

    __tablename__ = "once_per_person"

    what: Mapped[str] = mapped_column(String(60), primary_key=True)
    person: Mapped[str] = mapped_column(String(64), primary_key=True)
    checkout_id: Mapped[str | None] = mapped_column(String(40), index=True)
    taken_at: Mapped[datetime]


class Redemption(Base):
    """A coupon is used once per account."""

    __tablename__ = "coupon_redemption"

    coupon_id: Mapped[str] = mapped_column(ForeignKey("coupon.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    checkout_id: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime]


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
    payment_reference: Mapped[str | None] = mapped_column(String(200))
    checkout_key: Mapped[str | None] = mapped_column(String(200))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(20), index=True)
    note: Mapped[str] = mapped_column(Text, default="")
    vendor_created_at: Mapped[datetime]
    received_at: Mapped[datetime]
    handled_at: Mapped[datetime | None]
    ask_at: Mapped[datetime | None]
    asks: Mapped[int] = mapped_column(default=0, server_default="0")
    """Applied in vain so often, and not again before `ask_at` (billing/patience.py)."""

    __table_args__ = (UniqueConstraint("provider", "event_id"),)


class Waiting(Base):
    """A person waiting for a free place."""

    __tablename__ = "waitlist"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)
    created_at: Mapped[datetime]
    invited_at: Mapped[datetime | None]
    language: Mapped[str | None] = mapped_column(String(10))
    """In which the invitation is written; None: English."""


class Comparison(Base):
    """One comparison of vendors, subscriptions, assistants and ledger, and what it found.

    `done`: how many of its looks are over. `plan`: the differences as JSON, once `ended_at` is set; None then: it
    broke. `is_repair`: what is safe was repaired.
    """

    __tablename__ = "comparison"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    asked_by: Mapped[str] = mapped_column(String(60))
    is_repair: Mapped[bool]
    done: Mapped[int] = mapped_column(default=0)
    asked_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    plan: Mapped[str | None] = mapped_column(Text)
