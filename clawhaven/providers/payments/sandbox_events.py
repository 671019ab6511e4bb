"""The sandbox's events: written together with what they tell, delivered later, read by us again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from clawhaven.core.ids import new_id
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import PaymentEvent, PaymentKind
from clawhaven.providers.payments.sandbox_trouble import read_trouble

_FIRST_RETRY_SECONDS: Final = 1
_LONGEST_RETRY_SECONDS: Final = 60

_KINDS: Final = {
    "checkout.completed": PaymentKind.CHECKOUT_COMPLETED,
    "checkout.expired": PaymentKind.CHECKOUT_EXPIRED,
    "subscription.created": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.updated": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.canceled": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.trial_ending": PaymentKind.TRIAL_ENDING,
    "payment.succeeded": PaymentKind.PAYMENT_SUCCEEDED,
    "payment.failed": PaymentKind.PAYMENT_FAILED,
    "payment.action_required": PaymentKind.PAYMENT_FAILED,
    "refund.created": PaymentKind.REFUNDED,
    "refund.failed": PaymentKind.REFUNDED,
    "dispute.opened": PaymentKind.DISPUTED,
    "dispute.closed": PaymentKind.DISPUTED,
}


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


def about(
    checkout: str,
    subscription: str | None = None,
    payment: str | None = None,
    amount_micros: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What an event says: references to look up, and an amount for people who read it."""
    return {
        "checkout": checkout,
        "subscription": subscription,
        "payment": payment,
        "amount_micros": amount_micros,
        "metadata": dict(metadata or {}),
    }


def announce(
    db: sqlite3.Connection, announcements: Sequence[Announcement], at: datetime, faults: Faults | None = None
) -> None:
    """Write events and their deliveries into the caller's transaction, one millisecond apart in their own time.

    `faults` are of this call; those of the demo page (`sandbox_trouble`) are added. Dropped events have no delivery:
    only `unseen` tells them.
    """
    faults, trouble = faults or Faults(), read_trouble(db)
    made: list[str] = []
    at_ms = int(at.timestamp() * 1000)
    for place, announcement in enumerate(announcements):
        event_id = new_id("sevt")
        body = {"id": event_id, "type": announcement.type, "created": at_ms + place, "data": dict(announcement.about)}
        db.execute(
            "INSERT INTO events (id, body, created_at) VALUES (?, ?, ?)",
            (event_id, json.dumps(body, separators=(",", ":")).encode(), (at_ms + place) / 1000),
        )
        made.append(event_id)
    if trouble.is_dropping:
        return
    if faults.reorder or trouble.is_reordering:
        made.reverse()
    due_at = at.timestamp() + max(0.0, faults.delay_seconds) + trouble.delay_seconds
    for _ in range(1 + max(0, faults.duplicate) + trouble.duplicate):
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


def read_event(body: bytes) -> PaymentEvent:
    """A verified body in our vocabulary. ProviderError (permanent) for another shape."""
    try:
        event = json.loads(body)
        data = event["data"]
        return PaymentEvent(
            event_id=str(event["id"]),
            kind=_KINDS.get(event["type"], PaymentKind.OTHER),
            vendor_type=str(event["type"]),
            checkout_reference=_word(data.get("checkout")),
            subscription_reference=_word(data.get("subscription")),
            created_at=datetime.fromtimestamp(event["created"] / 1000, UTC),
            payment_reference=_word(data.get("payment")),
            checkout_key=_word((data.get("metadata") or {}).get("checkout")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        message = "A signed sandbox event has an unknown shape."
        raise ProviderError(message, permanent=True, code="malformed_event") from None


def _word(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("a reference is a word")
    return value
