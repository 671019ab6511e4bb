"""The sandbox's calendar: what happens because time passes, each thing in a transaction of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from clawhaven.providers.payments import sandbox_subscriptions as subscriptions
from clawhaven.providers.payments.sandbox_checkouts import CHARGE
from clawhaven.providers.payments.sandbox_events import about
from clawhaven.providers.payments.sandbox_invoices import Desk
from clawhaven.providers.payments.sandbox_store import Store, as_time, row_of

TRIAL_NOTICE: Final = timedelta(days=3)
"""So long before its end a trial's end is told, as Stripe does with `customer.subscription.trial_will_end`."""

CHECKOUT_LIFE: Final = timedelta(days=1)
"""So long a checkout, or a charge that waits for 3-D Secure, can be paid, as at Stripe."""

_NOTICE_SECONDS: Final = TRIAL_NOTICE.total_seconds()

# The next thing to happen to each subscription, and when.
_NEXT: Final = f"""
SELECT reference, due FROM (
    SELECT reference, min(
        period_end,
        CASE WHEN state = 'past_due' THEN coalesce(next_attempt_at, period_end) ELSE period_end END,
        CASE WHEN state = 'trialing' AND NOT is_trial_end_told AND NOT cancel_at_period_end
             THEN max(created_at, trial_end - {_NOTICE_SECONDS}) ELSE period_end END) AS due
    FROM subscriptions WHERE state <> 'canceled')
WHERE due <= ? ORDER BY due, reference LIMIT 1
"""  # noqa: S608 - a number of ours

# The next checkout that nobody has paid for too long, in the same shape.
_STALE: Final = f"""
SELECT reference, created_at + {CHECKOUT_LIFE.total_seconds()} AS due FROM checkouts
WHERE (state = 'open' OR (state = 'declined' AND kind <> '{CHARGE}')) AND due <= ?
ORDER BY due, reference LIMIT 1
"""  # noqa: S608 - numbers and words of ours


def advance(store: Store, now: datetime, told_at: Callable[[], datetime]) -> int:
    """Do everything that is due by `now` on the vendor's calendar, each thing at its own time; how much it was.

    Killed in between, the rest is done by the next call. Several processes may call it at once: each thing is looked
    for again inside its transaction.
    """
    return _follow(store, _STALE, _expire, now, told_at) + _follow(store, _NEXT, _act, now, told_at)


def _follow(
    store: Store, query: str, act: Callable[[Desk, str], None], now: datetime, told_at: Callable[[], datetime]
) -> int:
    done = 0
    while True:
        with store.read() as db:
            if _first(db, query, now) is None:
                return done
        with store.tx() as db:
            found = _first(db, query, now)
            if found is None:
                return done
            act(Desk(db, as_time(found["due"]), told_at()), found["reference"])
        done += 1


def _first(db: sqlite3.Connection, query: str, now: datetime) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(query, (now.timestamp(),)).fetchone()
    return row


def _expire(desk: Desk, reference: str) -> None:
    desk.db.execute("UPDATE checkouts SET state = 'expired' WHERE reference = ?", (reference,))
    desk.tell(["checkout.expired"], about(reference))


def _act(desk: Desk, reference: str) -> None:
    row = row_of(desk.db, "subscriptions", reference)
    if row["period_end"] <= desk.at.timestamp():
        subscriptions.turn_period(desk, row)
    elif row["state"] == "trialing":
        desk.db.execute("UPDATE subscriptions SET is_trial_end_told = 1 WHERE reference = ?", (row["reference"],))
        desk.tell(["subscription.trial_ending"], about(row["checkout"], row["reference"]))
    else:
        subscriptions.collect(desk, row, row_of(desk.db, "invoices", row["owed"]))
