"""The inbox: one row per event, however often it comes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from clawhaven.billing import inbox
from clawhaven.billing.models import InboxEvent
from clawhaven.core.db import Database
from clawhaven.ports.payments import PaymentEvent, PaymentKind

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def event(number: int) -> PaymentEvent:
    return PaymentEvent(f"evt_{number}", PaymentKind.OTHER, "x", "sco_1", None, NOW)


def test_of_many_deliveries_one_is_new(db: Database) -> None:
    def record(number: int) -> bool:
        with db.tx() as tx:
            return inbox.record(tx, "sandbox", event(number % 6), b"\x00\xff body", NOW) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(record, range(48))) == 6
    with db.tx() as tx:
        assert inbox.record(tx, "stripe", event(0), b"", NOW) is not None, "another vendor may use the same id"
        assert inbox.record(tx, "stripe", event(0), b"", NOW) is None
        assert inbox.record(tx, "stripe", event(1), b"", NOW) is not None, "the transaction goes on after a repeat"


def test_left_over_is_what_nobody_has_closed(db: Database) -> None:
    with db.tx() as tx:
        rows = [inbox.record(tx, "sandbox", event(number), b"body", NOW) for number in range(3)]
        ids = [row.id for row in rows if row]
        inbox.close(tx, ids[0], "handled", "x" * 2000, NOW)
        inbox.close(tx, ids[1], "ignored", "why", NOW)
    with db.read() as tx:
        assert inbox.left_over(tx, NOW + timedelta(seconds=1)) == [ids[2]]
        assert inbox.left_over(tx, NOW) == []
        first = tx.get_one(InboxEvent, ids[0])
        assert (first.state, len(first.note), first.handled_at, first.body) == ("handled", 500, NOW, b"body")


def test_the_oldest_come_first_and_a_note_changes_nothing_else(db: Database) -> None:
    ages = (3, 1, 2)
    with db.tx() as tx:
        rows = {age: inbox.record(tx, "x", event(age), b"", NOW - timedelta(hours=age)) for age in ages}
        ids = {age: row.id for age, row in rows.items() if row}
        inbox.note(tx, ids[3], "x" * 2000)
    with db.read() as tx:
        assert inbox.left_over(tx, NOW) == [ids[3], ids[2], ids[1]]
        noted = tx.get_one(InboxEvent, ids[3])
        assert (noted.state, len(noted.note), noted.handled_at) == ("received", 500, None)
