"""Invoices of the sandbox: made, paid with the saved card or by hand, taken back; and the payments that pay them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clawhaven.core.ids import new_id
from clawhaven.ports.payments import SavedMethod, VendorInvoice, VendorPayment
from clawhaven.providers.payments.sandbox_events import Announcement, Faults, about, announce
from clawhaven.providers.payments.sandbox_prices import fee_of
from clawhaven.providers.payments.sandbox_store import as_time, maybe_time, refused, row_of
from clawhaven.providers.payments.sandbox_trouble import Card, take_next_card

METHODS: dict[str, SavedMethod] = {
    "works": SavedMethod("visa", "4242", 12, 2034),
    "declined": SavedMethod("visa", "0341", 12, 2034),
    "needs_3ds": SavedMethod("visa", "3184", 12, 2034),
}
"""The cards there are, with the last digits of Stripe's test cards of the same temper."""


@dataclass(frozen=True, slots=True)
class Desk:
    """One transaction of the vendor. `at`: when it happens by its calendar; `now`: when its events are told."""

    db: sqlite3.Connection
    at: datetime
    now: datetime

    def tell(self, kinds: list[str], about: dict[str, Any], faults: Faults | None = None) -> None:
        """Announce events of these vendor types."""
        announce(self.db, [Announcement(kind, about) for kind in kinds], self.now, faults)


@dataclass(frozen=True, slots=True)
class Bill:
    """What an invoice is for. `period`: start and end of the subscription period it pays for, if it does."""

    customer: str
    checkout: str
    description: str
    amount_micros: int
    subscription: str | None = None
    plan: str | None = None
    period: tuple[datetime, datetime] | None = None
    uses_credit: bool = False


def write_invoice(desk: Desk, bill: Bill) -> sqlite3.Row:
    """An open invoice; the customer's credit at the vendor is used up first where the bill says so."""
    due = bill.amount_micros
    if bill.uses_credit:
        credit = int(row_of(desk.db, "customers", bill.customer)["credit_micros"])
        due = max(0, bill.amount_micros - credit)
        add_credit(desk.db, bill.customer, due - bill.amount_micros)
    reference = new_id("sinv")
    start, end = (at.timestamp() for at in bill.period) if bill.period else (None, None)
    desk.db.execute(
        "INSERT INTO invoices (reference, customer, checkout, subscription, plan, description, state, total_micros,"
        " due_micros, period_start, period_end, created_at) VALUES (?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, ?)",
        (
            reference,
            bill.customer,
            bill.checkout,
            bill.subscription,
            bill.plan,
            bill.description,
            bill.amount_micros,
            due,
            start,
            end,
            desk.at.timestamp(),
        ),
    )
    return row_of(desk.db, "invoices", reference)


def pay_invoice(desk: Desk, invoice: sqlite3.Row) -> str:
    """An open invoice is paid; returns the payment's reference."""
    if invoice["state"] != "open":
        raise refused("invoice_closed", f"This invoice is {invoice['state']}.")
    desk.db.execute("UPDATE invoices SET state = 'paid' WHERE reference = ?", (invoice["reference"],))
    return _write_payment(desk, invoice, is_paid=True)


def fail_invoice(desk: Desk, invoice: sqlite3.Row) -> str:
    """A payment of an open invoice failed; returns that payment's reference."""
    return _write_payment(desk, invoice, is_paid=False)


def void_invoice(desk: Desk, reference: str | None) -> None:
    """Nobody has to pay it any more; credit it had used is given back. None or closed already: nothing happens."""
    if reference is None:
        return
    invoice = row_of(desk.db, "invoices", reference)
    if invoice["state"] == "open":
        desk.db.execute("UPDATE invoices SET state = 'void' WHERE reference = ?", (reference,))
        add_credit(desk.db, invoice["customer"], invoice["total_micros"] - invoice["due_micros"])


def add_credit(db: sqlite3.Connection, customer: str, amount_micros: int) -> None:
    """Change what the vendor owes the customer, to be used by the next invoices of a subscription."""
    db.execute("UPDATE customers SET credit_micros = credit_micros + ? WHERE reference = ?", (amount_micros, customer))


def ask_card(db: sqlite3.Connection, customer: str) -> Card:
    """How a payment with the saved card ends: as asked for on the demo page, once, else as the card is."""
    asked = take_next_card(db)
    if asked is not None:
        return asked
    card: Card | None = row_of(db, "customers", customer)["card"]
    return card or "declined"


def save_card(db: sqlite3.Connection, customer: str, card: Card) -> None:
    """The customer's card from now on."""
    if card not in METHODS:
        raise refused("unknown_card", f"There is no card {card!r}.")
    row_of(db, "customers", customer)
    db.execute("UPDATE customers SET card = ? WHERE reference = ?", (card, customer))


def payments_of(db: sqlite3.Connection, checkout: str) -> tuple[VendorPayment, ...]:
    """Every payment that came of a checkout and succeeded, oldest first."""
    rows = db.execute(
        "SELECT p.*, coalesce((SELECT sum(r.amount_micros) FROM refunds r WHERE r.payment = p.reference"
        " AND NOT r.is_failed), 0) AS given"
        " FROM payments p WHERE p.checkout = ? AND p.state = 'succeeded' ORDER BY p.created_at, p.rowid",
        (checkout,),
    )
    return tuple(_payment(row) for row in rows)


def refund_payment(desk: Desk, payment: sqlite3.Row, amount_micros: int, key: str) -> str:
    """Give back part or all of a payment that succeeded; returns the refund's reference."""
    (given,) = desk.db.execute(
        "SELECT coalesce(sum(amount_micros), 0) FROM refunds WHERE payment = ? AND NOT is_failed",
        (payment["reference"],),
    ).fetchone()
    gone = given + lost_micros(payment)
    if payment["dispute"] == "open" or (gone > given and gone >= payment["amount_micros"]):
        raise refused("payment_disputed", "A disputed payment cannot be refunded: its bank has taken it back.")
    if payment["state"] != "succeeded" or not 0 < amount_micros <= payment["amount_micros"] - gone:
        raise refused("refund_too_large", "A refund must be positive and at most what is left of the payment.")
    reference = new_id("sref")
    desk.db.execute(
        "INSERT INTO refunds (reference, key, payment, amount_micros, created_at) VALUES (?, ?, ?, ?, ?)",
        (reference, key, payment["reference"], amount_micros, desk.at.timestamp()),
    )
    said = about(payment["checkout"], payment["subscription"], payment["reference"], amount_micros)
    desk.tell(["refund.created"], said)
    return reference


def lost_micros(payment: sqlite3.Row) -> int:
    """What a bank has taken of a payment for good: all of it, where the dispute named no part."""
    if payment["dispute"] != "lost":
        return 0
    part: int | None = payment["disputed_micros"]
    return int(payment["amount_micros"]) if part is None else part


def fail_refunds(desk: Desk, payment: sqlite3.Row) -> None:
    """What was given back of a payment did not arrive and comes back to the vendor; nothing given is success.

    Source: docs.stripe.com/refunds#failed-refunds.
    """
    failed = desk.db.execute(
        "UPDATE refunds SET is_failed = 1 WHERE payment = ? AND NOT is_failed", (payment["reference"],)
    )
    if failed.rowcount:
        said = about(payment["checkout"], payment["subscription"], payment["reference"], payment["amount_micros"])
        desk.tell(["refund.failed"], said)


def vendor_invoice(row: sqlite3.Row, page_url: str) -> VendorInvoice:
    """An invoice as the port has it."""
    return VendorInvoice(
        reference=row["reference"],
        number=f"SANDBOX-{row['sequence']:05d}",
        state=row["state"],
        amount_micros=row["due_micros"],
        created_at=as_time(row["created_at"]),
        page_url=page_url,
        pdf_url=f"{page_url}/pdf",
        description=row["description"],
    )


def _write_payment(desk: Desk, invoice: sqlite3.Row, is_paid: bool) -> str:
    reference, amount = new_id("spay"), int(invoice["due_micros"])
    desk.db.execute(
        "INSERT INTO payments (reference, checkout, subscription, customer, invoice, plan, amount_micros, state,"
        " period_start, period_end, fee_micros, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            reference,
            invoice["checkout"],
            invoice["subscription"],
            invoice["customer"],
            invoice["reference"],
            invoice["plan"],
            amount,
            "succeeded" if is_paid else "failed",
            invoice["period_start"],
            invoice["period_end"],
            fee_of(amount) if is_paid else None,
            desk.at.timestamp(),
        ),
    )
    return reference


def _payment(row: sqlite3.Row) -> VendorPayment:
    return VendorPayment(
        reference=row["reference"],
        amount_micros=row["amount_micros"],
        period_start=maybe_time(row["period_start"]),
        period_end=maybe_time(row["period_end"]),
        refunded_micros=min(row["amount_micros"], row["given"] + lost_micros(row)),
        dispute=row["dispute"],
        dispute_due_at=maybe_time(row["dispute_due_at"]) if row["dispute"] == "open" else None,
        disputed_micros=row["disputed_micros"],
        fee_micros=row["fee_micros"],
        paid_at=as_time(row["created_at"]),
        plan=row["plan"] or None,
    )
