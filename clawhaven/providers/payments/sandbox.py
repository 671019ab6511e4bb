"""A payment vendor on this machine: no account, no money, the same duplicates and delays as a real one.

Its checkout page is a door's (`/sandbox/checkout/<reference>`), which calls `checkout` and `complete`. Nothing
happens by the calendar: `renew`, `fail_renewal` and `end` rehearse what a real vendor does at a period's end.
"""

from __future__ import annotations

import calendar
import json
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import Field, SecretStr

from clawhaven.core.clock import Clock
from clawhaven.core.ids import new_id
from clawhaven.core.money import to_cents
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import (
    BadSignature,
    Capability,
    CheckoutRequest,
    PaymentEvent,
    PaymentKind,
    VendorCheckout,
    VendorPayment,
    VendorState,
    VendorSubscription,
)
from clawhaven.providers.payments.sandbox_courier import SIGNATURE_HEADER, Courier
from clawhaven.providers.payments.sandbox_store import (
    Announcement,
    Faults,
    Store,
    announce,
    as_time,
    bodies_since,
    row_of,
    word,
)
from clawhaven.providers.payments.signature import verify

Outcome = Literal["paid", "declined", "cancelled"]

_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_FINAL: Final = frozenset({"paid", "cancelled"})
_KINDS: Final = {
    "checkout.completed": PaymentKind.CHECKOUT_COMPLETED,
    "checkout.expired": PaymentKind.CHECKOUT_EXPIRED,
    "subscription.created": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.updated": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.canceled": PaymentKind.SUBSCRIPTION_CHANGED,
    "payment.failed": PaymentKind.PAYMENT_FAILED,
    "refund.created": PaymentKind.REFUNDED,
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """What the checkout page shows. `state` is `open`, `paid`, `declined` or `cancelled`."""

    reference: str
    email: str
    description: str
    amount_micros: int
    interval: str | None
    success_url: str
    cancel_url: str
    state: str


class Sandbox:
    """Implements ports.payments.Payments; every verb may be called from several threads and processes."""

    name = "sandbox"
    capabilities = frozenset({Capability.SUBSCRIPTIONS, Capability.TOPUPS, Capability.REFUND})
    is_for_production = False

    class Options(EnvSettings):
        """Settings of the sandbox vendor."""

        sandbox_payments_secret: SecretStr = Field(
            SecretStr(""),
            description="Signs sandbox events; several, newest first, for rotation. Default: made once in DATA_DIR.",
        )

    def __init__(self, options: Options, settings: Settings, clock: Clock | None = None) -> None:
        self._base_url = settings.base_url
        self._store = Store(settings.data_dir / "sandbox-payments.sqlite3")
        self._clock = clock or Clock()
        self._courier = Courier(self._store, self._clock, settings, options.sandbox_payments_secret)

    # The port

    def create_checkout(self, request: CheckoutRequest) -> VendorCheckout:
        """Create the checkout for `request.key`, or return the one made before.

        ProviderError (permanent) for an amount that is not positive whole cents, an unknown interval, or a key that
        was used with another price.
        """
        _check(request)
        with self._store.tx() as db:
            db.execute(
                "INSERT INTO checkouts (reference, key, email, description, amount_micros, interval, success_url,"
                " cancel_url, metadata, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?)"
                " ON CONFLICT (key) DO NOTHING",
                (
                    new_id("sco"),
                    request.key,
                    request.email,
                    request.description,
                    request.amount_micros,
                    request.interval,
                    request.success_url,
                    request.cancel_url,
                    json.dumps(dict(request.metadata)),
                    self._clock.now().timestamp(),
                ),
            )
            row = db.execute("SELECT * FROM checkouts WHERE key = ?", (request.key,)).fetchone()
        if (row["amount_micros"], row["interval"]) != (request.amount_micros, request.interval):
            raise _refused("idempotency_mismatch", "This checkout key was used before with another price.")
        return VendorCheckout(row["reference"], f"{self._base_url}/sandbox/checkout/{row['reference']}")

    def fetch(self, checkout_reference: str) -> VendorState:
        """The current state of a checkout, all its payments that succeeded (oldest first), its subscription."""
        with self._store.read() as db:
            row = row_of(db, "checkouts", checkout_reference)
            subscription = _subscription(db, row["subscription"]) if row["subscription"] else None
            found = "SELECT * FROM payments WHERE checkout = ? AND state = 'succeeded' ORDER BY created_at, reference"
            payments = db.execute(found, (checkout_reference,)).fetchall()
        paid = tuple(VendorPayment(str(one["reference"]), int(one["amount_micros"])) for one in payments)
        return VendorState(row["state"], paid, subscription)

    def cancel(self, subscription_reference: str, at_period_end: bool) -> None:
        """End a subscription now, or mark it to end with its period; already ended or marked is success."""
        if not at_period_end:
            self.end(subscription_reference)
            return
        self._mark_ending(subscription_reference, is_ending=True)

    def refund(self, payment_reference: str, amount_micros: int, key: str) -> str:
        """Give back part or all of a payment, once per `key`. ProviderError (permanent) beyond what was paid."""
        with self._store.tx() as db:
            before = db.execute("SELECT * FROM refunds WHERE key = ?", (key,)).fetchone()
            if before is not None:
                if (before["payment"], before["amount_micros"]) != (payment_reference, amount_micros):
                    raise _refused("idempotency_mismatch", "This refund key was used before for something else.")
                return str(before["reference"])
            payment = row_of(db, "payments", payment_reference)
            (given,) = db.execute(
                "SELECT coalesce(sum(amount_micros), 0) FROM refunds WHERE payment = ?", (payment_reference,)
            ).fetchone()
            if payment["state"] != "succeeded" or not 0 < amount_micros <= payment["amount_micros"] - given:
                raise _refused("refund_too_large", "A refund must be positive and at most what is left of the payment.")
            now, reference = self._clock.now(), new_id("sref")
            db.execute(
                "INSERT INTO refunds (reference, key, payment, amount_micros, created_at) VALUES (?, ?, ?, ?, ?)",
                (reference, key, payment_reference, amount_micros, now.timestamp()),
            )
            about = _about(payment["checkout"], payment["subscription"], payment_reference, amount_micros)
            announce(db, [Announcement("refund.created", about)], now)
        return reference

    def parse_event(self, headers: Mapping[str, str], body: bytes) -> PaymentEvent:
        """Verify over the raw bytes and normalise. BadSignature first; ProviderError (permanent) for another shape."""
        given = [value for name, value in headers.items() if name.lower() == SIGNATURE_HEADER]
        if len(given) != 1:
            raise BadSignature("the event has no single signature header")
        verify(given[0], body, self._courier.secrets(), self._clock.now())
        try:
            event = json.loads(body)
            data = event["data"]
            return PaymentEvent(
                event_id=str(event["id"]),
                kind=_KINDS.get(event["type"], PaymentKind.OTHER),
                vendor_type=str(event["type"]),
                checkout_reference=word(data.get("checkout")),
                subscription_reference=word(data.get("subscription")),
                created_at=datetime.fromtimestamp(event["created"] / 1000, UTC),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise _refused("malformed_event", "A signed sandbox event has an unknown shape.") from None

    def unseen(self, since: datetime) -> list[tuple[dict[str, Any], bytes]]:
        """Every event from `since` on, oldest first, signed now; acknowledged ones too."""
        with self._store.read() as db:
            bodies = bodies_since(db, since)
        return [(dict(self._courier.headers(body)), body) for body in bodies]

    # The checkout page

    def checkout(self, reference: str) -> Checkout | None:
        """What the page shows, or None when there is no such checkout."""
        with self._store.read() as db:
            row = db.execute("SELECT * FROM checkouts WHERE reference = ?", (reference,)).fetchone()
        if row is None:
            return None
        return Checkout(**{name: row[name] for name in Checkout.__slots__})

    def complete(
        self,
        reference: str,
        outcome: Outcome,
        *,
        duplicate: int = 0,
        reorder: bool = False,
        delay_seconds: float = 0,
    ) -> None:
        """What the customer did on the page; state and events are one transaction.

        Paid and cancelled are final: completing again changes nothing. Declined can be tried again. The events go
        out `1 + duplicate` times, backwards if `reorder`, not before `delay_seconds` have passed.
        """
        if outcome not in ("paid", "declined", "cancelled"):
            raise _refused("unknown_outcome", f"A checkout cannot end as {outcome!r}.")
        with self._store.tx() as db:
            row = row_of(db, "checkouts", reference)
            if row["state"] in _FINAL or row["state"] == outcome:
                return
            now = self._clock.now()
            subscription: str | None = None
            payment = None if outcome == "cancelled" else new_id("spay")
            if outcome == "paid" and row["interval"]:
                subscription = new_id("ssub")
                db.execute(
                    "INSERT INTO subscriptions (reference, checkout, state, interval, amount_micros, period_start,"
                    " period_end) VALUES (?, ?, 'active', ?, ?, ?, ?)",
                    (
                        subscription,
                        reference,
                        row["interval"],
                        row["amount_micros"],
                        now.timestamp(),
                        _after(now, row["interval"]).timestamp(),
                    ),
                )
            if payment:
                _add_payment(db, payment, reference, subscription, row["amount_micros"], outcome == "paid", now)
            db.execute(
                "UPDATE checkouts SET state = ?, payment = ?, subscription = ? WHERE reference = ?",
                (outcome, payment if outcome == "paid" else None, subscription, reference),
            )
            about = _about(reference, subscription, payment, row["amount_micros"], json.loads(row["metadata"]))
            announce(
                db,
                [Announcement(kind, about) for kind in _told(outcome, subscription is not None)],
                now,
                Faults(duplicate, reorder, delay_seconds),
            )

    # Rehearsals

    def renew(self, subscription_reference: str) -> None:
        """The next period begins and is paid; one marked to end ends instead; one past due is paid and recovers."""
        self._turn_period(subscription_reference, is_paid=True)

    def fail_renewal(self, subscription_reference: str) -> None:
        """The next period begins and its payment fails: past_due. One past due fails once more."""
        self._turn_period(subscription_reference, is_paid=False)

    def end(self, subscription_reference: str) -> None:
        """End a subscription now; already ended is success."""
        with self._store.tx() as db:
            self._end(db, row_of(db, "subscriptions", subscription_reference), self._clock.now())

    def undo_cancel(self, subscription_reference: str) -> None:
        """Take back `cancel(…, at_period_end=True)`; not marked is success, ended is a permanent ProviderError."""
        self._mark_ending(subscription_reference, is_ending=False)

    # Delivery

    def deliver(self, once: bool = False) -> int:
        """POST the due events to our own webhook; returns how many copies were acknowledged with a 2xx.

        Passes repeat until nothing is due any more, or end after the first if `once`. What is refused comes again
        after 1 s, 2 s, 4 s … 60 s. Killed between the answer and the note of it, a copy is sent again.
        """
        return self._courier.deliver(once)

    def start(self, stop: threading.Event) -> threading.Thread:
        """Deliver in the background, about every half second, until `stop` is set. Several at once are allowed."""
        return self._courier.start(stop)

    def _turn_period(self, reference: str, is_paid: bool) -> None:
        with self._store.tx() as db:
            row = row_of(db, "subscriptions", reference)
            now, state = self._clock.now(), "active" if is_paid else "past_due"
            if row["state"] == "canceled":
                raise _refused("subscription_ended", "This subscription has ended.")
            if row["cancel_at_period_end"]:
                self._end(db, row, now)
                return
            start, end = row["period_start"], row["period_end"]
            if row["state"] == "active":  # a past-due period has begun already
                start, end = end, _after(as_time(end), row["interval"]).timestamp()
            payment = new_id("spay")
            _add_payment(db, payment, row["checkout"], reference, row["amount_micros"], is_paid, now)
            db.execute(
                "UPDATE subscriptions SET state = ?, period_start = ?, period_end = ? WHERE reference = ?",
                (state, start, end, reference),
            )
            about = _about(row["checkout"], reference, payment, row["amount_micros"])
            kinds = ["payment.succeeded" if is_paid else "payment.failed", "subscription.updated"]
            announce(db, [Announcement(kind, about) for kind in kinds], now)

    def _mark_ending(self, reference: str, is_ending: bool) -> None:
        with self._store.tx() as db:
            row = row_of(db, "subscriptions", reference)
            if row["state"] == "canceled" and not is_ending:
                raise _refused("subscription_ended", "This subscription has ended.")
            if row["state"] == "canceled" or bool(row["cancel_at_period_end"]) == is_ending:
                return
            db.execute("UPDATE subscriptions SET cancel_at_period_end = ? WHERE reference = ?", (is_ending, reference))
            announce(db, [Announcement("subscription.updated", _about(row["checkout"], reference))], self._clock.now())

    def _end(self, db: sqlite3.Connection, row: sqlite3.Row, now: datetime) -> None:
        if row["state"] == "canceled":
            return
        db.execute("UPDATE subscriptions SET state = 'canceled' WHERE reference = ?", (row["reference"],))
        announce(db, [Announcement("subscription.canceled", _about(row["checkout"], row["reference"]))], now)


def _told(outcome: Outcome, is_subscription: bool) -> list[str]:
    if outcome == "cancelled":
        return ["checkout.expired"]
    if outcome == "declined":
        return ["payment.failed"]
    return ["checkout.completed", *(["subscription.created"] if is_subscription else []), "payment.succeeded"]


def _about(
    checkout: str,
    subscription: str | None = None,
    payment: str | None = None,
    amount_micros: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "checkout": checkout,
        "subscription": subscription,
        "payment": payment,
        "amount_micros": amount_micros,
        "metadata": dict(metadata or {}),
    }


def _add_payment(
    db: sqlite3.Connection,
    reference: str,
    checkout: str,
    subscription: str | None,
    amount_micros: int,
    is_paid: bool,
    now: datetime,
) -> None:
    db.execute(
        "INSERT INTO payments (reference, checkout, subscription, amount_micros, state, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (reference, checkout, subscription, amount_micros, "succeeded" if is_paid else "failed", now.timestamp()),
    )


def _subscription(db: sqlite3.Connection, reference: str) -> VendorSubscription:
    row = row_of(db, "subscriptions", reference)
    return VendorSubscription(
        reference=row["reference"],
        state=row["state"],
        current_period_start=as_time(row["period_start"]),
        current_period_end=as_time(row["period_end"]),
        cancel_at_period_end=bool(row["cancel_at_period_end"]),
    )


def _check(request: CheckoutRequest) -> None:
    if request.interval is not None and request.interval not in _MONTHS:
        raise _refused("invalid_interval", f"There is no interval {request.interval!r}.")
    with suppress(ValueError):
        if to_cents(request.amount_micros) > 0:
            return
    raise _refused("invalid_amount", "An amount must be a positive number of whole cents.")


def _after(start: datetime, interval: str) -> datetime:
    years, month = divmod(start.month - 1 + _MONTHS[interval], 12)
    year = start.year + years
    last_day = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last_day))


def _refused(code: str, message: str) -> ProviderError:
    return ProviderError(message, permanent=True, code=code)
