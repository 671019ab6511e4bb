"""The sandbox's calendar: what happens to subscriptions because time passes, each thing in a transaction of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from clawhaven.providers.payments import sandbox_subscriptions as subscriptions
from clawhaven.providers.payments.sandbox_events import about
from clawhaven.providers.payments.sandbox_invoices import Desk
from clawhaven.providers.payments.sandbox_store import Store, as_time, row_of

TRIAL_NOTICE: Final = timedelta(days=3)
"""So long before its end a trial's end is told, as Stripe does with `customer.subscription.trial_will_end`."""

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


def advance(store: Store, now: datetime, told_at: Callable[[], datetime]) -> int:
    """Do everything that is due by `now` on the vendor's calendar, in its order and at its own time; how much it was.

    Killed in between, the rest is done by the next call. Several processes may call it at once: each thing is looked
    for again inside its transaction.
    """
    done = 0
    while True:
        with store.read() as db:
            if _next(db, now) is None:
                return done
        with store.tx() as db:
            found = _next(db, now)
            if found is None:
                return done
            _act(Desk(db, as_time(found["due"]), told_at()), row_of(db, "subscriptions", found["reference"]))
        done += 1


def _next(db: sqlite3.Connection, now: datetime) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(_NEXT, (now.timestamp(),)).fetchone()
    return row


def _act(desk: Desk, row: sqlite3.Row) -> None:
    if row["period_end"] <= desk.at.timestamp():
        subscriptions.turn_period(desk, row)
    elif row["state"] == "trialing":
        desk.db.execute("UPDATE subscriptions SET is_trial_end_told = 1 WHERE reference = ?", (row["reference"],))
        desk.tell(["subscription.trial_ending"], about(row["checkout"], row["reference"]))
    else:
        subscriptions.collect(desk, row, row_of(desk.db, "invoices", row["owed"]))
