"""What the sandbox vendor remembers: one SQLite file of its own, apart from the product's database."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from clawhaven.core.ids import new_id
from clawhaven.ports.errors import ProviderError

_BUSY_TIMEOUT_SECONDS: Final = 30
_FIRST_RETRY_SECONDS: Final = 1
_LONGEST_RETRY_SECONDS: Final = 60

# Times are epoch seconds as REAL; amounts are micro-dollars.
_SCHEMA: Final = """
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
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at) WHERE delivered_at IS NULL;
"""


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event to be: its vendor type and what it is about."""

    type: str
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Faults:
    """How the announcements reach the product: extra copies, backwards, late."""

    duplicate: int = 0
    reorder: bool = False
    delay_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One copy of one event that the product has not acknowledged yet."""

    sequence: int
    event_id: str
    body: bytes


class Store:
    """The file and its transactions. Connections are opened for each, so threads and forks need no care."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ready = False
        self._making = threading.Lock()

    @contextmanager
    def tx(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction: state and its events together or not at all. ProviderError when the file fails."""
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.rollback()
                raise
            db.commit()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One snapshot for reading; waits for no writer. ProviderError when the file fails."""
        with self._connect() as db:
            db.execute("BEGIN")
            yield db

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self._prepare()
            with closing(self._open()) as db:
                yield db
        except (sqlite3.Error, OSError) as error:
            raise ProviderError(f"The sandbox's payment store failed: {error}", code="sandbox_store") from error

    def _prepare(self) -> None:
        with self._making:
            if self._ready and self._path.exists():
                return
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600, exist_ok=True)
            with closing(self._open()) as db:
                db.execute("PRAGMA journal_mode=WAL").close()
                db.executescript(_SCHEMA)
            self._ready = True

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA synchronous=FULL").close()
        return db


def announce(
    db: sqlite3.Connection, announcements: Sequence[Announcement], now: datetime, faults: Faults | None = None
) -> None:
    """Write events and their deliveries into the caller's transaction, one millisecond apart in their own time."""
    faults = faults or Faults()
    made: list[str] = []
    at_ms = int(now.timestamp() * 1000)
    for place, announcement in enumerate(announcements):
        event_id = new_id("sevt")
        body = {"id": event_id, "type": announcement.type, "created": at_ms + place, "data": dict(announcement.about)}
        db.execute(
            "INSERT INTO events (id, body, created_at) VALUES (?, ?, ?)",
            (event_id, json.dumps(body, separators=(",", ":")).encode(), (at_ms + place) / 1000),
        )
        made.append(event_id)
    if faults.reorder:
        made.reverse()
    due_at = now.timestamp() + max(0.0, faults.delay_seconds)
    for _ in range(1 + max(0, faults.duplicate)):
        db.executemany("INSERT INTO deliveries (event, due_at) VALUES (?, ?)", [(event, due_at) for event in made])


def due(db: sqlite3.Connection, now: datetime, limit: int = 100) -> list[Delivery]:
    """Undelivered copies whose time has come, in the order they are to be sent."""
    rows = db.execute(
        "SELECT d.sequence, d.event, e.body FROM deliveries d JOIN events e ON e.id = d.event"
        " WHERE d.delivered_at IS NULL AND d.due_at <= ? ORDER BY d.due_at, d.sequence LIMIT ?",
        (now.timestamp(), limit),
    )
    return [Delivery(row["sequence"], row["event"], row["body"]) for row in rows]


def mark(db: sqlite3.Connection, delivery: Delivery, is_delivered: bool, now: datetime) -> None:
    """Write down how a sending ended: done, or again after 1 s, 2 s, 4 s … at most 60 s."""
    if is_delivered:
        db.execute(
            "UPDATE deliveries SET delivered_at = ?, attempts = attempts + 1 WHERE sequence = ?",
            (now.timestamp(), delivery.sequence),
        )
        return
    row = db.execute("SELECT attempts FROM deliveries WHERE sequence = ?", (delivery.sequence,)).fetchone()
    wait = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(int(row["attempts"]), 10))
    db.execute(
        "UPDATE deliveries SET due_at = ?, attempts = attempts + 1 WHERE sequence = ? AND delivered_at IS NULL",
        (now.timestamp() + wait, delivery.sequence),
    )


def bodies_since(db: sqlite3.Connection, since: datetime) -> list[bytes]:
    """The raw bodies of every event from `since` on, oldest first."""
    rows = db.execute("SELECT body FROM events WHERE created_at >= ? ORDER BY sequence", (since.timestamp(),))
    return [row["body"] for row in rows]


def row_of(
    db: sqlite3.Connection, table: Literal["checkouts", "subscriptions", "payments"], reference: str
) -> sqlite3.Row:
    """One row by its reference; a permanent ProviderError when the vendor has no such thing."""
    row = db.execute(f"SELECT * FROM {table} WHERE reference = ?", (reference,)).fetchone()  # noqa: S608 - a literal
    if row is None:
        noun = table.removesuffix("s")
        raise ProviderError(f"The sandbox has no such {noun}.", permanent=True, code=f"unknown_{noun}")
    found: sqlite3.Row = row
    return found


def as_time(seconds: float) -> datetime:
    """Stored epoch seconds as aware UTC time."""
    return datetime.fromtimestamp(seconds, UTC)


def word(value: object) -> str | None:
    """A reference out of an event: a string or nothing. Raises TypeError."""
    if value is not None and not isinstance(value, str):
        raise TypeError("a reference is a word")
    return value
