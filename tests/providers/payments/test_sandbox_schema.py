"""A file of the first version opens, keeps what it knew, and can do everything of today."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clawhaven.core.clock import month_after
from tests.contracts.payments import DEARER, charge_of, request_of
from tests.providers.payments.test_sandbox import make

FIRST_VERSION = """
CREATE TABLE checkouts (
    reference TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, email TEXT NOT NULL, description TEXT NOT NULL,
    amount_micros INTEGER NOT NULL, interval TEXT, success_url TEXT NOT NULL, cancel_url TEXT NOT NULL,
    metadata TEXT NOT NULL, state TEXT NOT NULL, payment TEXT, subscription TEXT, created_at REAL NOT NULL);
CREATE TABLE subscriptions (
    reference TEXT PRIMARY KEY, checkout TEXT NOT NULL, state TEXT NOT NULL, interval TEXT NOT NULL,
    amount_micros INTEGER NOT NULL, period_start REAL NOT NULL, period_end REAL NOT NULL,
    cancel_at_period_end INTEGER NOT NULL DEFAULT 0);
CREATE TABLE payments (
    reference TEXT PRIMARY KEY, checkout TEXT NOT NULL, subscription TEXT, amount_micros INTEGER NOT NULL,
    state TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE refunds (
    reference TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, payment TEXT NOT NULL, amount_micros INTEGER NOT NULL,
    created_at REAL NOT NULL);
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, created_at REAL NOT NULL);
CREATE TABLE deliveries (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL REFERENCES events(id), due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, delivered_at REAL);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE delivered_at IS NULL;
"""
BEGAN = datetime.now(UTC) - timedelta(days=40)
RENEWED = month_after(BEGAN, 1)


def write_first_version(path: Path) -> None:
    """One subscription that was renewed once, one open checkout, one refund."""
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        db.executescript(FIRST_VERSION)
        checkout = (
            "INSERT INTO checkouts VALUES (?, ?, 'Ada@example.com', 'Personal', 29000000, 'month', 's', 'c', '{}'"
        )
        at = BEGAN.timestamp()
        db.execute(f"{checkout}, 'paid', 'spay_1', 'ssub_1', ?)", ("sco_1", "chk_1", at))
        db.execute(f"{checkout}, 'open', NULL, NULL, ?)", ("sco_2", "chk_2", at))
        later = month_after(BEGAN, 2).timestamp()
        db.execute(
            "INSERT INTO subscriptions VALUES ('ssub_1', 'sco_1', 'active', 'month', 29000000, ?, ?, 0)",
            (RENEWED.timestamp(), later),
        )
        payment = "INSERT INTO payments VALUES (?, 'sco_1', 'ssub_1', 29000000, 'succeeded', ?)"
        db.execute(payment, ("spay_1", at))
        db.execute(payment, ("spay_2", RENEWED.timestamp() + 5))
        db.execute("INSERT INTO refunds VALUES ('sref_1', 'refund_1', 'spay_1', 1000000, ?)", (at,))


def test_an_old_file_is_read_in_todays_words(tmp_path: Path) -> None:
    write_first_version(tmp_path / "var" / "sandbox-payments.sqlite3")
    vendor = make(tmp_path)
    state = vendor.fetch("sco_1")
    assert [one.refunded_micros for one in state.payments] == [1_000_000, 0]
    starts = [one.period_start.timestamp() for one in state.payments if one.period_start]
    assert starts == [BEGAN.timestamp(), RENEWED.timestamp()]
    assert state.payments[0].period_end == state.payments[1].period_start
    assert state.subscription is not None
    assert (state.subscription.state, state.subscription.plan, state.subscription.pay_url) == ("active", None, None)
    assert vendor.fetch("sco_2").customer_reference == state.customer_reference is not None


def test_an_old_file_does_everything_new(tmp_path: Path) -> None:
    write_first_version(tmp_path / "var" / "sandbox-payments.sqlite3")
    vendor = make(tmp_path)
    customer = str(vendor.fetch("sco_1").customer_reference)
    assert vendor.saved_method(customer) is not None
    assert vendor.create_checkout(request_of("chk_2", email="Ada@example.com", plan="personal")).reference == "sco_2"
    charged = vendor.charge_saved(charge_of("chk_3", customer))
    assert vendor.fetch(charged.reference).checkout_state == "paid"
    assert vendor.advance(datetime.now(UTC) + timedelta(days=31)) == 2
    assert vendor.fetch("sco_2").checkout_state == "expired"
    assert vendor.fetch("sco_1").payments[2].period_start == month_after(BEGAN, 2)
    vendor.change_plan("ssub_1", DEARER, "change_1")
    assert len(vendor.invoices(customer)) == 3


def test_who_was_past_due_in_an_old_file_pays_that_period_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "var" / "sandbox-payments.sqlite3"
    write_first_version(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE subscriptions SET state = 'past_due'")
        db.execute("DELETE FROM payments WHERE reference = 'spay_2'")
    vendor = make(tmp_path)
    before = vendor.fetch("sco_1").subscription
    assert before is not None
    assert before.pay_url
    vendor.renew("ssub_1")
    state = vendor.fetch("sco_1")
    assert state.subscription is not None
    assert (state.subscription.state, state.subscription.pay_url) == ("active", None)
    assert [one.period_start for one in state.payments] == [BEGAN, RENEWED]
    assert state.subscription.current_period_end == before.current_period_end


def test_many_processes_open_an_old_file_at_once(tmp_path: Path) -> None:
    write_first_version(tmp_path / "var" / "sandbox-payments.sqlite3")
    seen: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: seen.append(make(tmp_path).fetch("sco_1").customer_reference)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_a_later_version_leaves_prorations_as_they_are(tmp_path: Path) -> None:
    vendor = make(tmp_path)
    reference = vendor.create_checkout(request_of("chk_1")).reference
    vendor.complete(reference, "paid")
    found = vendor.fetch(reference).subscription
    assert found is not None
    vendor.change_plan(found.reference, DEARER, "change_1")
    before = vendor.fetch(reference)
    assert before.payments[-1].period_start is None
    (path,) = tmp_path.rglob("sandbox-payments.sqlite3")
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE refunds DROP COLUMN is_failed")
        db.execute("ALTER TABLE subscriptions DROP COLUMN is_paused")
    assert make(tmp_path).fetch(reference) == before
