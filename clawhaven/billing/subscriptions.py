"""Subscriptions mirror the vendor's: its current state is read and copied, never derived from an event's order."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clawhaven.billing import patience
from clawhaven.billing.models import Checkout, Cover, Subscription
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

_OVER = frozenset({SubscriptionState.CANCELED, SubscriptionState.INCOMPLETE})

ENTITLED = frozenset({SubscriptionState.TRIALING, SubscriptionState.ACTIVE, SubscriptionState.PAST_DUE})
"""States in which the assistant runs. Past due is the time of grace."""


UNKNOWN_LIFE = timedelta(days=1)
"""So long after its period a subscription in a state we do not know counts as paid."""


def mirror(
    db: Session, checkout: Checkout, vendor: VendorSubscription, now: datetime, plan: str | None = None
) -> Subscription:
    """Make our row equal to what the vendor said at `now`, when it was asked; something older changes nothing.

    `plan`: the vendor's word for the plan where it is one of ours. A state word we do not know is kept out until what
    was paid for is over; then it counts as past due.
    """
    row = db.scalars(
        select(Subscription).where(Subscription.checkout_id == checkout.id).with_for_update()
    ).one_or_none()
    state = SubscriptionState(vendor.state) if vendor.state in set(SubscriptionState) else None
    if row is None:
        return _create(db, checkout, vendor, state or SubscriptionState.INCOMPLETE, plan, now)
    if row.checked_at > now:
        return row
    row.is_ending, row.checked_at = vendor.cancel_at_period_end, now
    patience.note_answered(row)
    row.period_start_at, row.period_end_at = vendor.current_period_start, vendor.current_period_end
    row.trial_end_at, row.pay_url = vendor.trial_end, vendor.pay_url
    row.paused_at = (row.paused_at or now) if vendor.is_paused else None
    row.plan = plan or row.plan
    if vendor.amount_micros is not None:
        row.amount_micros = vendor.amount_micros
    db.flush()
    if state is None and row.state in ENTITLED and now > row.period_end_at + UNKNOWN_LIFE:
        state = SubscriptionState.PAST_DUE
    if state is not None and state in MACHINE.moves[SubscriptionState(row.state)]:
        MACHINE.move(db, row.id, state)
        db.refresh(row)
    return row


def _create(
    db: Session,
    checkout: Checkout,
    vendor: VendorSubscription,
    state: SubscriptionState,
    plan: str | None,
    now: datetime,
) -> Subscription:
    # An assistant is paid for once: what comes on top of a living agreement covers nothing and goes back.
    before = of_instance(db, checkout.instance_id) if checkout.instance_id is not None else None
    is_free = before is None or (before.state in _OVER and state not in _OVER)
    row = Subscription(
        id=new_id("sub"),
        account_id=checkout.account_id,
        instance_id=checkout.instance_id if is_free else None,
        checkout_id=checkout.id,
        plan=plan or checkout.plan,
        provider=checkout.provider,
        reference=vendor.reference,
        state=state,
        is_ending=vendor.cancel_at_period_end,
        period_start_at=vendor.current_period_start,
        period_end_at=vendor.current_period_end,
        checked_at=now,
        amount_micros=checkout.amount_micros if vendor.amount_micros is None else vendor.amount_micros,
        trial_end_at=vendor.trial_end,
        pay_url=vendor.pay_url,
        paused_at=now if vendor.is_paused else None,
        created_at=now,
    )
    db.add(row)
    db.flush()
    if row.instance_id is not None:
        cover(db, row.id, row.instance_id, now)
    return row


def cover(db: Session, subscription_id: str, instance_id: str, now: datetime) -> None:
    """From now on this subscription pays for the assistant, and no other."""
    row = db.get(Cover, instance_id)
    if row is None:
        db.add(Cover(instance_id=instance_id, subscription_id=subscription_id, created_at=now))
    else:
        row.subscription_id, row.created_at = subscription_id, now
    db.flush()


def covered(db: Session, subscription_id: str) -> list[str]:
    """Ids of the assistants it pays for, deleted ones too, oldest first."""
    return list(
        db.scalars(
            select(Cover.instance_id)
            .where(Cover.subscription_id == subscription_id)
            .order_by(Cover.created_at, Cover.instance_id)
        )
    )


def of_instance(db: Session, instance_id: str) -> Subscription | None:
    """The subscription that pays for an instance."""
    return db.scalars(
        select(Subscription)
        .join(Cover, Cover.subscription_id == Subscription.id)
        .where(Cover.instance_id == instance_id)
    ).one_or_none()


def covers(db: Session, subscription_ids: Collection[str]) -> dict[str, list[str]]:
    """`covered` of many: subscription -> ids of its assistants. One that pays for none is left out."""
    query = select(Cover).where(Cover.subscription_id.in_(subscription_ids))
    found: dict[str, list[str]] = {}
    for cover in db.scalars(query.order_by(Cover.created_at, Cover.instance_id)):
        found.setdefault(cover.subscription_id, []).append(cover.instance_id)
    return found


def of_instances(db: Session, instance_ids: Collection[str]) -> dict[str, Subscription]:
    """The subscription that pays for each of these instances that has one."""
    query = select(Cover.instance_id, Subscription).join(Subscription, Cover.subscription_id == Subscription.id)
    return dict(db.execute(query.where(Cover.instance_id.in_(instance_ids))).tuples().all())


def of_account(db: Session, account_id: str) -> list[Subscription]:
    """All of an account's subscriptions, newest first."""
    return list(
        db.scalars(
            select(Subscription)
            .where(Subscription.account_id == account_id)
            .order_by(Subscription.created_at.desc(), Subscription.id)
        )
    )


def current_of(db: Session, account_id: str, plan_id: str | None = None) -> Subscription | None:
    """The newest subscription of an account (on this plan) under which assistants may run."""
    return next(
        (one for one in of_account(db, account_id) if is_entitled(one) and plan_id in (None, one.plan)),
        None,
    )


def unchecked(
    db: Session, providers: Collection[str], *, before: datetime, now: datetime, limit: int
) -> list[Subscription]:
    """Subscriptions of these vendors that may still change and were not answered for since `before`, longest ago first.

    Of at most `limit` each vendor has its share, and one that was asked about in vain comes more and more rarely:
    what always fails keeps nobody else waiting.
    """
    wanted = select(Subscription).where(
        Subscription.checked_at < before,
        Subscription.state != SubscriptionState.CANCELED,
        patience.is_due(Subscription.ask_at, now),
    )
    turn = wanted.order_by(func.coalesce(Subscription.ask_at, Subscription.checked_at), Subscription.id).limit(limit)
    found = [db.scalars(turn.where(Subscription.provider == name)).all() for name in sorted(providers)]
    return patience.take_turns(found, limit)


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
