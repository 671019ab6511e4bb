"""Subscriptions mirror the vendor's: its current state is read and copied, never derived from an event's order."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.billing.models import Checkout, Subscription
from clawhaven.core.ids import new_id
from clawhaven.core.states import Machine
from clawhaven.ports.payments import VendorSubscription


class SubscriptionState(StrEnum):
    """The field's words."""

    INCOMPLETE = "incomplete"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    UNPAID = "unpaid"
    CANCELED = "canceled"


_LIVE = frozenset(SubscriptionState)

MACHINE: Machine[SubscriptionState] = Machine(
    "subscription",
    Subscription,
    "state",
    {
        SubscriptionState.INCOMPLETE: _LIVE - {SubscriptionState.INCOMPLETE},
        SubscriptionState.TRIALING: _LIVE - {SubscriptionState.TRIALING, SubscriptionState.INCOMPLETE},
        SubscriptionState.ACTIVE: _LIVE - {SubscriptionState.ACTIVE, SubscriptionState.INCOMPLETE},
        SubscriptionState.PAST_DUE: _LIVE - {SubscriptionState.PAST_DUE, SubscriptionState.INCOMPLETE},
        SubscriptionState.UNPAID: _LIVE - {SubscriptionState.UNPAID, SubscriptionState.INCOMPLETE},
        SubscriptionState.CANCELED: frozenset(),
    },
)

ENTITLED = frozenset({SubscriptionState.TRIALING, SubscriptionState.ACTIVE, SubscriptionState.PAST_DUE})
"""States in which the assistant runs. Past due is the time of grace."""


def mirror(db: Session, checkout: Checkout, vendor: VendorSubscription, now: datetime) -> Subscription:
    """Make our row equal to the vendor's. A state word we do not know is kept out: the row stays as it was."""
    row = db.scalars(select(Subscription).where(Subscription.checkout_id == checkout.id)).one_or_none()
    state = SubscriptionState(vendor.state) if vendor.state in set(SubscriptionState) else None
    if row is None:
        row = Subscription(
            id=new_id("sub"),
            account_id=checkout.account_id,
            instance_id=checkout.instance_id,
            checkout_id=checkout.id,
            plan=checkout.plan,
            provider=checkout.provider,
            reference=vendor.reference,
            state=state or SubscriptionState.INCOMPLETE,
            is_ending=vendor.cancel_at_period_end,
            period_start_at=vendor.current_period_start,
            period_end_at=vendor.current_period_end,
            checked_at=now,
            created_at=now,
        )
        db.add(row)
        db.flush()
        return row
    row.is_ending, row.checked_at = vendor.cancel_at_period_end, now
    row.period_start_at, row.period_end_at = vendor.current_period_start, vendor.current_period_end
    db.flush()
    if state is not None and state in MACHINE.moves[SubscriptionState(row.state)]:
        MACHINE.move(db, row.id, state)
        db.refresh(row)
    return row


def of_instance(db: Session, instance_id: str) -> Subscription | None:
    """The newest subscription that pays for an instance."""
    return db.scalars(
        select(Subscription)
        .where(Subscription.instance_id == instance_id)
        .order_by(Subscription.created_at.desc())
        .limit(1)
    ).first()


def unchecked(db: Session, before: datetime, limit: int) -> list[Subscription]:
    """Subscriptions that may still change and whose vendor was not asked since then, longest ago first."""
    return list(
        db.scalars(
            select(Subscription)
            .where(Subscription.checked_at < before, Subscription.state != SubscriptionState.CANCELED)
            .order_by(Subscription.checked_at, Subscription.id)
            .limit(limit)
        )
    )


def of_checkout(db: Session, checkout_id: str) -> Subscription | None:
    """The subscription that a checkout began."""
    return db.scalars(select(Subscription).where(Subscription.checkout_id == checkout_id)).one_or_none()


def by_reference(db: Session, provider: str, reference: str) -> Subscription | None:
    """The subscription a vendor speaks of."""
    return db.scalars(
        select(Subscription).where(Subscription.provider == provider, Subscription.reference == reference)
    ).one_or_none()


def is_entitled(subscription: Subscription | None) -> bool:
    """True while the assistant may run."""
    return subscription is not None and subscription.state in ENTITLED
