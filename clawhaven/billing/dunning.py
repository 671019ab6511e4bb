"""Trouble with paying, one episode at a time: grace, then suspended, then deletion on an announced day.

An announced day never moves: what a vendor says later begins no second episode and shortens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.billing.models import Dunning, Receipt, Subscription
from clawhaven.billing.subscriptions import SubscriptionState
from clawhaven.core.ids import new_id
from clawhaven.core.states import Machine


class DunningState(StrEnum):
    """Where an episode is; the first two are open."""

    GRACE = "grace"
    SUSPENDED = "suspended"
    RECOVERED = "recovered"
    ENDED = "ended"


class Cause(StrEnum):
    """Why it began. `ended`: the agreement is over."""

    PAYMENT = "payment"
    REFUND = "refund"
    DISPUTE = "dispute"
    ENDED = "ended"


MACHINE: Machine[DunningState] = Machine(
    "time of trouble",
    Dunning,
    "state",
    {
        DunningState.GRACE: frozenset({DunningState.SUSPENDED, DunningState.RECOVERED, DunningState.ENDED}),
        DunningState.SUSPENDED: frozenset({DunningState.RECOVERED, DunningState.ENDED}),
        DunningState.RECOVERED: frozenset(),
        DunningState.ENDED: frozenset(),
    },
)

COUNTDOWN = (timedelta(days=3), timedelta(days=1))
"""So long before a suspension and a deletion it is told again."""

PAID = frozenset({SubscriptionState.ACTIVE, SubscriptionState.TRIALING})
OWING = frozenset({SubscriptionState.PAST_DUE, SubscriptionState.UNPAID})


def begin(
    db: Session, subscription: Subscription, cause: Cause, now: datetime, *, grace: timedelta, kept: timedelta
) -> tuple[Dunning, bool]:
    """The open episode of a subscription, and True when it begins now. Data is kept for `kept` after the grace."""
    known = open_episode_of(db, subscription.id)
    if known is not None:
        return known, False
    row = Dunning(
        id=new_id("dun"),
        subscription_id=subscription.id,
        account_id=subscription.account_id,
        cause=cause,
        state=DunningState.GRACE,
        began_at=now,
        suspend_at=now + grace,
        delete_at=now + grace + kept,
    )
    try:
        with db.begin_nested():
            db.add(row)
            db.flush()
    except IntegrityError:
        found = open_episode_of(db, subscription.id)
        if found is None:
            raise
        return found, False
    return row, True


def suspend(db: Session, episode: Dunning, now: datetime) -> bool:
    """The grace is over, or was cut short. True the first time."""
    moved = MACHINE.move(db, episode.id, DunningState.SUSPENDED, suspend_at=min(now, episode.suspend_at))
    db.refresh(episode)
    return moved


def recover(db: Session, episode: Dunning, now: datetime) -> bool:
    """Paid after all. True the first time."""
    return MACHINE.move(db, episode.id, DunningState.RECOVERED, ended_at=now)


def end(db: Session, episode: Dunning, now: datetime) -> bool:
    """Deleted, or given up. True the first time."""
    return MACHINE.move(db, episode.id, DunningState.ENDED, ended_at=now)


def worsen(db: Session, episode: Dunning, cause: Cause) -> None:
    """Something graver than what it began with."""
    episode.cause = cause
    db.flush()


def open_episode_of(db: Session, subscription_id: str) -> Dunning | None:
    """The trouble a subscription is in."""
    return db.scalars(
        select(Dunning)
        .where(Dunning.subscription_id == subscription_id, Dunning.ended_at.is_(None))
        .execution_options(populate_existing=True)
    ).one_or_none()


def open_episodes(db: Session, account_id: str) -> list[Dunning]:
    """All the trouble an account is in, the nearest date first."""
    rows = db.scalars(select(Dunning).where(Dunning.account_id == account_id, Dunning.ended_at.is_(None)))
    return sorted(rows, key=lambda one: (one.suspend_at, one.delete_at, one.id))


def open_episode(db: Session, account_id: str) -> Dunning | None:
    """What a banner tells: the account's most urgent trouble."""
    return next(iter(open_episodes(db, account_id)), None)


def all_open(db: Session) -> list[tuple[Dunning, Subscription]]:
    """Every open episode with its subscription, the oldest first."""
    query = (
        select(Dunning, Subscription)
        .join(Subscription, Subscription.id == Dunning.subscription_id)
        .where(Dunning.ended_at.is_(None))
        .order_by(Dunning.began_at, Dunning.id)
    )
    return [(episode, subscription) for episode, subscription in db.execute(query)]


def trials_ending(db: Session, now: datetime, before: timedelta) -> list[Subscription]:
    """Trials that become a payment within `before`."""
    return list(
        db.scalars(
            select(Subscription)
            .where(
                Subscription.state == SubscriptionState.TRIALING,
                Subscription.is_ending.is_(False),
                Subscription.trial_end_at > now,
                Subscription.trial_end_at <= now + before,
            )
            .order_by(Subscription.trial_end_at, Subscription.id)
        )
    )


def may_run(subscription: Subscription | None, episode: Dunning | None) -> bool:
    """True while this agreement lets its assistants run: paid, or in the time of grace of its open trouble. Pure."""
    if subscription is None or subscription.state in (SubscriptionState.CANCELED, SubscriptionState.INCOMPLETE):
        return False
    if episode is not None:
        return episode.state == DunningState.GRACE
    return subscription.state in PAID


def is_paid_for(db: Session, subscription: Subscription | None) -> bool:
    """`may_run` with the trouble as it is now."""
    return subscription is not None and may_run(subscription, open_episode_of(db, subscription.id))


def pay_url(subscription: Subscription) -> str | None:
    """The vendor's page where what is owed is paid; None where paying brings nothing back, as after the end. Pure."""
    return subscription.pay_url if subscription.state in OWING else None


def countdown(episode: Dunning, now: datetime) -> timedelta | None:
    """The last call that is due of an open episode: so long before what comes next. None: nothing was to be told yet.

    A call that falls together with the letter before it (a short grace) is left out. Pure.
    """
    is_grace = episode.state == DunningState.GRACE
    since, until = (episode.began_at, episode.suspend_at) if is_grace else (episode.suspend_at, episode.delete_at)
    due = [before for before in COUNTDOWN if since < until - before <= now < until]
    return due[-1] if due else None


def is_due(episode: Dunning, now: datetime) -> bool:
    """True when the suspension or the deletion of an open episode is due. Pure."""
    return now >= (episode.suspend_at if episode.state == DunningState.GRACE else episode.delete_at)


def objection(receipts: Sequence[Receipt], *, on_refund: bool, on_dispute: bool) -> Cause | None:
    """Why what was paid does not count: a payment is disputed, or the newest period's was lost or given back. Pure.

    `receipts` of one subscription, oldest first. A payment without a period counts as the newest one. An older payment
    that was lost is the operator's to decide: the customer has paid since.
    """
    if on_dispute and any(one.dispute == "open" for one in receipts):
        return Cause.DISPUTE
    dated = [one for one in receipts if one.period_start_at is not None]
    newest = max((one.period_start_at for one in dated if one.period_start_at), default=None)
    current = [one for one in dated if one.period_start_at == newest] or list(receipts[-1:])
    returned = [one for one in current if 0 < one.amount_micros <= one.refunded_micros]
    if any(one.dispute == "lost" for one in current):
        return Cause.DISPUTE if on_dispute else None
    # Paid again for the same period, say after a refund: that counts.
    is_returned = bool(returned) and len(returned) == len(current)
    return Cause.REFUND if on_refund and is_returned else None
