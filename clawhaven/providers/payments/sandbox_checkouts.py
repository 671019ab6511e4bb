"""Checkouts of the sandbox and charges of a saved card: opened once per key, ended once by the customer or the card."""

from __future__ import annotations

import json
import sqlite3
from typing import Final, Literal

from clawhaven.core.ids import new_id
from clawhaven.ports.payments import ChargeRequest, CheckoutRequest
from clawhaven.providers.payments import sandbox_subscriptions as subscriptions
from clawhaven.providers.payments.sandbox_events import Faults, about
from clawhaven.providers.payments.sandbox_invoices import (
    Bill,
    Desk,
    ask_card,
    pay_invoice,
    save_card,
    write_invoice,
)
from clawhaven.providers.payments.sandbox_prices import check_amount, check_request, discounted, pack, unpack
from clawhaven.providers.payments.sandbox_store import refused, row_of

Outcome = Literal["paid", "declined", "cancelled"]

CHARGE: Final = "charge"
_FINAL: Final = frozenset({"paid", "cancelled", "expired"})


def open_checkout(desk: Desk, request: CheckoutRequest) -> sqlite3.Row:
    """The checkout of this key, made now or before. Permanent ProviderError for nonsense and for another price."""
    check_request(request)
    row = _by_key(desk.db, request.key)
    if row is None:
        customer = _customer(desk, request)
        return _insert(desk, "checkout", request.key, customer, request, email=request.email)
    discount = pack(request.discount)
    same = (row["amount_micros"], row["interval"], row["trial_days"], row["discount"]) == (
        request.amount_micros,
        request.interval,
        request.trial_days,
        discount,
    )
    if not same:
        raise refused("idempotency_mismatch", "This checkout key was used before with another price.")
    return row


def complete(desk: Desk, row: sqlite3.Row, outcome: Outcome, faults: Faults) -> None:
    """What the customer did on the page. Paid, cancelled and expired are final, and a declined charge is, too."""
    if outcome not in ("paid", "declined", "cancelled"):
        raise refused("unknown_outcome", f"A checkout cannot end as {outcome!r}.")
    is_charge = row["kind"] == CHARGE
    if row["state"] in _FINAL or row["state"] == outcome or (is_charge and row["state"] == "declined"):
        return
    subscription: str | None = None
    payment: str | None = None
    if outcome == "paid":
        if not is_charge:
            save_card(desk.db, row["customer"], "works")
        if row["interval"]:
            subscription, payment = subscriptions.begin(desk, row)
        else:
            bill = Bill(row["customer"], row["reference"], row["description"], row["amount_micros"])
            payment = pay_invoice(desk, write_invoice(desk, bill))
    desk.db.execute(
        "UPDATE checkouts SET state = ?, payment = ?, subscription = ? WHERE reference = ?",
        (outcome, payment, subscription, row["reference"]),
    )
    kinds = _told(outcome, subscription is not None, payment is not None)
    said = about(row["reference"], subscription, payment, due_micros(desk, row), json.loads(row["metadata"]))
    desk.tell(kinds, said, faults)


def charge(desk: Desk, request: ChargeRequest) -> sqlite3.Row:
    """Charge the saved card once per key; how it ended is the row's `state`.

    Permanent ProviderError for an amount that is none, an unknown customer, one without a card, and a key used before
    for something else.
    """
    check_amount(request.amount_micros)
    row = find_charge(desk.db, request.key)
    if row is not None:
        if (row["amount_micros"], row["customer"]) != (request.amount_micros, request.customer_reference):
            raise refused("idempotency_mismatch", "This charge key was used before for something else.")
        return row
    customer = row_of(desk.db, "customers", request.customer_reference)
    if customer["card"] is None:
        raise refused("no_saved_method", "This customer has no saved card.")
    row = _insert(desk, CHARGE, f"{CHARGE}:{request.key}", customer["reference"], request, email=customer["email"])
    card = ask_card(desk.db, customer["reference"])
    if card == "needs_3ds":
        said = about(row["reference"], None, None, request.amount_micros, request.metadata)
        desk.tell(["payment.action_required"], said)
    else:
        complete(desk, row, "paid" if card == "works" else "declined", Faults())
    return row_of(desk.db, "checkouts", row["reference"])


def find_charge(db: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    """The charge of this key; None when there is none."""
    return _by_key(db, f"{CHARGE}:{key}")


def due_micros(desk: Desk, row: sqlite3.Row) -> int:
    """What is to be paid on the page now: nothing for a trial, less with a coupon."""
    if row["trial_days"]:
        return 0
    return discounted(row["amount_micros"], unpack(row["discount"]), desk.at, desk.at)


def remove_customer(desk: Desk, reference: str) -> None:
    """Take out a customer's address and card, and end what still runs; once more, or nobody, is success."""
    running = "SELECT * FROM subscriptions WHERE customer = ? AND state <> 'canceled'"
    for row in desk.db.execute(running, (reference,)).fetchall():
        subscriptions.end(desk, row)
    gone = "UPDATE customers SET email = '', card = NULL, owner = 'gone:' || reference WHERE reference = ?"
    desk.db.execute(gone, (reference,))
    desk.db.execute("UPDATE checkouts SET email = '' WHERE customer = ?", (reference,))


def _customer(desk: Desk, request: CheckoutRequest) -> str:
    if request.customer_reference:
        return str(row_of(desk.db, "customers", request.customer_reference)["reference"])
    owner = f"account:{request.account_id}" if request.account_id else f"email:{request.email.lower()}"
    desk.db.execute(
        "INSERT INTO customers (reference, owner, email, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (new_id("scus"), owner, request.email, desk.at.timestamp()),
    )
    return str(desk.db.execute("SELECT reference FROM customers WHERE owner = ?", (owner,)).fetchone()["reference"])


def _by_key(db: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute("SELECT * FROM checkouts WHERE key = ?", (key,)).fetchone()
    return row


def _insert(
    desk: Desk, kind: str, key: str, customer: str, request: CheckoutRequest | ChargeRequest, *, email: str
) -> sqlite3.Row:
    asked = request if isinstance(request, CheckoutRequest) else None
    reference = new_id("sco" if asked else "spi")
    desk.db.execute(
        "INSERT INTO checkouts (reference, key, kind, customer, email, description, amount_micros, interval, plan,"
        " trial_days, discount, success_url, cancel_url, metadata, state, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?)",
        (
            reference,
            key,
            kind,
            customer,
            email,
            request.description,
            request.amount_micros,
            asked.interval if asked else None,
            asked.plan if asked else "",
            asked.trial_days if asked else 0,
            pack(asked.discount) if asked else None,
            asked.success_url if asked else "",
            asked.cancel_url if asked else "",
            json.dumps(dict(request.metadata)),
            desk.at.timestamp(),
        ),
    )
    return row_of(desk.db, "checkouts", reference)


def _told(outcome: Outcome, is_subscription: bool, is_payment: bool) -> list[str]:
    if outcome == "cancelled":
        return ["checkout.expired"]
    if outcome == "declined":
        return ["payment.failed"]
    begun = ["subscription.created"] if is_subscription else []
    return ["checkout.completed", *begun, *(["payment.succeeded"] if is_payment else [])]
