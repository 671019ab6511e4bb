"""The sandbox vendor's tables, and how a file of an earlier version gets what it lacks."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Final

from clawhaven.core.clock import month_after
from clawhaven.core.ids import new_id

MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}

# Times are epoch seconds as REAL; amounts are micro-dollars.
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS checkouts (
    reference TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, email TEXT NOT NULL, description TEXT NOT NULL,
    amount_micros INTEGER NOT NULL, interval TEXT, success_url TEXT NOT NULL, cancel_url TEXT NOT NULL,
    metadata TEXT NOT NULL, state TEXT NOT NULL, payment TEXT, subscription TEXT, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS subscriptions (
    reference TEXT PRIMARY KEY, checkout TEXT NOT NULL, state TEXT NOT NULL, interval TEXT NOT NULL,
    amount_micros INTEGER NOT NULL, period_start REAL NOT NULL, period_end REAL NOT NULL,
    cancel_at_period_end INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS payments (
    reference TEXT PRIMARY KEY, checkout TEXT NOT NULL, subscription TEXT, amount_micros INTEGER NOT NULL,
    state TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS refunds (
    reference TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, payment TEXT NOT NULL, amount_micros INTEGER NOT NULL,
    created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL REFERENCES events(id), due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, delivered_at REAL);
CREATE TABLE IF NOT EXISTS customers (
    reference TEXT PRIMARY KEY, owner TEXT NOT NULL UNIQUE, email TEXT NOT NULL, card TEXT,
    credit_micros INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS invoices (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, reference TEXT NOT NULL UNIQUE, customer TEXT NOT NULL,
    checkout TEXT NOT NULL, subscription TEXT, plan TEXT, description TEXT NOT NULL, state TEXT NOT NULL,
    total_micros INTEGER NOT NULL, due_micros INTEGER NOT NULL, period_start REAL, period_end REAL,
    created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS changes (
    key TEXT PRIMARY KEY, subscription TEXT NOT NULL, plan TEXT NOT NULL, amount_micros INTEGER NOT NULL,
    interval TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS portals (
    reference TEXT PRIMARY KEY, customer TEXT NOT NULL, return_url TEXT NOT NULL, expires_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS trouble (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS payments_of ON payments (checkout);
CREATE INDEX IF NOT EXISTS invoices_of ON invoices (customer);
"""

_ADDED: Final = {
    "checkouts": {
        "kind": "TEXT NOT NULL DEFAULT 'checkout'",
        "customer": "TEXT",
        "plan": "TEXT NOT NULL DEFAULT ''",
        "trial_days": "INTEGER NOT NULL DEFAULT 0",
        "discount": "TEXT",
    },
    "subscriptions": {
        "customer": "TEXT",
        "plan": "TEXT NOT NULL DEFAULT ''",
        "description": "TEXT NOT NULL DEFAULT ''",
        "anchor": "REAL",
        "cycle": "INTEGER NOT NULL DEFAULT 0",
        "trial_end": "REAL",
        "is_trial_end_told": "INTEGER NOT NULL DEFAULT 0",
        "discount": "TEXT",
        "discount_from": "REAL",
        "period_micros": "INTEGER",
        "owed": "TEXT",
        "attempts": "INTEGER NOT NULL DEFAULT 0",
        "next_attempt_at": "REAL",
        "created_at": "REAL",
        "is_paused": "INTEGER NOT NULL DEFAULT 0",
    },
    "payments": {
        "customer": "TEXT",
        "invoice": "TEXT",
        "plan": "TEXT",
        "period_start": "REAL",
        "period_end": "REAL",
        "fee_micros": "INTEGER",
        "dispute": "TEXT",
        "dispute_due_at": "REAL",
        "disputed_micros": "INTEGER",
    },
    "refunds": {"is_failed": "INTEGER NOT NULL DEFAULT 0"},
}
"""Columns that came after the first version: table -> name -> declaration."""


def prepare(db: sqlite3.Connection) -> None:
    """Make what is missing, in one transaction; a file of an earlier version keeps all it knows."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in _TABLES.split(";"):
            db.execute(statement)
        missing = {
            (table, name): declaration
            for table, columns in _ADDED.items()
            for name, declaration in columns.items()
            if name not in {row["name"] for row in db.execute(f"PRAGMA table_info({table})")}
        }
        for (table, name), declaration in missing.items():
            db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {declaration}")
        if ("subscriptions", "anchor") in missing:
            _give_customers(db)
            _give_anchors(db)
            _give_periods(db)
            _give_debts(db)
    except BaseException:
        db.rollback()
        raise
    db.commit()


def _give_customers(db: sqlite3.Connection) -> None:
    for row in db.execute("SELECT reference, email, created_at FROM checkouts WHERE customer IS NULL").fetchall():
        owner = f"email:{row['email'].lower()}"
        db.execute(
            "INSERT INTO customers (reference, owner, email, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (new_id("scus"), owner, row["email"], row["created_at"]),
        )
        db.execute(
            "UPDATE checkouts SET customer = (SELECT reference FROM customers WHERE owner = ?) WHERE reference = ?",
            (owner, row["reference"]),
        )
    its_customer = "(SELECT customer FROM checkouts c WHERE c.reference = checkout)"
    db.execute(f"UPDATE payments SET customer = {its_customer} WHERE customer IS NULL")  # noqa: S608 - a literal
    db.execute(f"UPDATE subscriptions SET customer = {its_customer} WHERE customer IS NULL")  # noqa: S608 - a literal
    db.execute(
        "UPDATE customers SET card = 'works' WHERE card IS NULL"
        " AND reference IN (SELECT customer FROM checkouts WHERE state = 'paid')"
    )


def _give_anchors(db: sqlite3.Connection) -> None:
    db.execute(
        "UPDATE subscriptions SET anchor = period_start, created_at = period_start, period_micros = amount_micros,"
        " description = (SELECT description FROM checkouts c WHERE c.reference = checkout) WHERE anchor IS NULL"
    )


def _give_periods(db: sqlite3.Connection) -> None:
    """The n-th payment of a subscription was for its n-th period: nothing else was sold before this version."""
    paid = db.execute(
        "SELECT p.reference, p.subscription, s.interval, p.created_at FROM payments p"
        " JOIN subscriptions s ON s.reference = p.subscription"
        " WHERE p.state = 'succeeded' AND p.period_start IS NULL ORDER BY p.created_at, p.reference"
    ).fetchall()
    seen: dict[str, list[float]] = {}
    for row in paid:
        starts = seen.setdefault(row["subscription"], [])
        first = datetime.fromtimestamp(starts[0] if starts else row["created_at"], UTC)
        length = MONTHS[row["interval"]]
        starts.append(first.timestamp())
        begin, end = (month_after(first, length * (len(starts) - extra)) for extra in (1, 0))
        db.execute(
            "UPDATE payments SET period_start = ?, period_end = ? WHERE reference = ?",
            (begin.timestamp(), end.timestamp(), row["reference"]),
        )


def _give_debts(db: sqlite3.Connection) -> None:
    """Who was past due owes the period that had begun; the calendar asks the card again."""
    owing = db.execute("SELECT * FROM subscriptions WHERE state = 'past_due' AND owed IS NULL").fetchall()
    for row in owing:
        invoice = new_id("sinv")
        db.execute(
            "INSERT INTO invoices (reference, customer, checkout, subscription, plan, description, state, total_micros,"
            " due_micros, period_start, period_end, created_at) VALUES (?, ?, ?, ?, '', ?, 'open', ?, ?, ?, ?, ?)",
            (
                invoice,
                row["customer"],
                row["checkout"],
                row["reference"],
                row["description"],
                row["amount_micros"],
                row["amount_micros"],
                row["period_start"],
                row["period_end"],
                row["period_start"],
            ),
        )
        db.execute(
            "UPDATE subscriptions SET owed = ?, attempts = 1, next_attempt_at = period_start + 259200"
            " WHERE reference = ?",
            (invoice, row["reference"]),
        )
