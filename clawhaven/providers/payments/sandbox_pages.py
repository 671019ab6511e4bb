"""The pages a person sees at the sandbox vendor: checkout, invoice, portal. A door draws them (`/sandbox/…`)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from clawhaven.core.ids import new_id
from clawhaven.core.money import format_usd
from clawhaven.ports.payments import SavedMethod, VendorInvoice
from clawhaven.providers.payments import sandbox_checkouts as checkouts
from clawhaven.providers.payments import sandbox_subscriptions as subscriptions
from clawhaven.providers.payments.sandbox_checkouts import CHARGE, Outcome
from clawhaven.providers.payments.sandbox_events import Faults, about
from clawhaven.providers.payments.sandbox_invoices import (
    METHODS,
    Desk,
    fail_invoice,
    save_card,
    vendor_invoice,
)
from clawhaven.providers.payments.sandbox_office import Office
from clawhaven.providers.payments.sandbox_paper import write_pdf
from clawhaven.providers.payments.sandbox_prices import unpack
from clawhaven.providers.payments.sandbox_store import as_time, maybe_time, row_of
from clawhaven.providers.payments.sandbox_trouble import Card, ahead

PORTAL_LIFE: Final = timedelta(hours=1)
MOST_INVOICES: Final = 100


@dataclass(frozen=True, slots=True)
class Checkout:
    """What the checkout page shows. `state` is `open`, `paid`, `declined`, `cancelled` or `expired`.

    `due_micros` is what is paid now: nothing for a trial, less with a coupon. `is_charge`: a payment with the saved
    card that its bank wants confirmed.
    """

    reference: str
    email: str
    description: str
    amount_micros: int
    interval: str | None
    success_url: str
    cancel_url: str
    state: str
    due_micros: int
    trial_days: int
    coupon: str
    is_charge: bool


@dataclass(frozen=True, slots=True)
class InvoicePage:
    """What an invoice's page shows. `is_payable`: it is open and its subscription goes on."""

    invoice: VendorInvoice
    email: str
    period_start: datetime | None
    period_end: datetime | None
    is_payable: bool


@dataclass(frozen=True, slots=True)
class PortalPage:
    """What a customer's portal shows. `card` is how the saved one behaves, None without one."""

    reference: str
    email: str
    return_url: str
    card: str | None
    method: SavedMethod | None
    credit_micros: int
    invoices: list[VendorInvoice]


class Pages(Office):
    """The vendor's own pages. Each raises ProviderError while the vendor is switched off."""

    def checkout(self, reference: str) -> Checkout | None:
        """What the page shows, or None when there is no such checkout."""
        with self._reading() as db:
            row = db.execute("SELECT * FROM checkouts WHERE reference = ?", (reference,)).fetchone()
            if row is None:
                return None
            now = self._clock.now()
            due = checkouts.due_micros(Desk(db, now + ahead(db), now), row)
        discount = unpack(row["discount"])
        return Checkout(
            reference=row["reference"],
            email=row["email"],
            description=row["description"],
            amount_micros=row["amount_micros"],
            interval=row["interval"],
            success_url=row["success_url"],
            cancel_url=row["cancel_url"],
            state=row["state"],
            due_micros=due,
            trial_days=row["trial_days"],
            coupon=discount.code if discount else "",
            is_charge=row["kind"] == CHARGE,
        )

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

        Paid, cancelled and expired are final: completing again changes nothing. Declined can be tried again. The
        events go out `1 + duplicate` times, backwards if `reorder`, not before `delay_seconds` have passed.
        """
        with self._serving() as desk:
            row = row_of(desk.db, "checkouts", reference)
            checkouts.complete(desk, row, outcome, Faults(duplicate, reorder, delay_seconds))

    def invoice(self, reference: str) -> InvoicePage | None:
        """What an invoice's page shows, or None when there is no such invoice."""
        with self._reading() as db:
            row = db.execute("SELECT * FROM invoices WHERE reference = ?", (reference,)).fetchone()
            if row is None:
                return None
            customer = row_of(db, "customers", row["customer"])
        return InvoicePage(
            invoice=vendor_invoice(row, self._page("invoice", reference)),
            email=customer["email"],
            period_start=maybe_time(row["period_start"]),
            period_end=maybe_time(row["period_end"]),
            is_payable=row["state"] == "open",
        )

    def paper(self, reference: str) -> bytes | None:
        """An invoice as a PDF file, or None when there is no such invoice."""
        shown = self.invoice(reference)
        if shown is None:
            return None
        invoice = shown.invoice
        period = [f"Period: {shown.period_start:%d %b %Y} to {shown.period_end:%d %b %Y}"] if shown.period_start else []
        return write_pdf(
            [
                f"Invoice {invoice.number}",
                "Sandbox: play money, not a tax document",
                f"Customer: {shown.email}",
                f"For: {invoice.description}",
                *period,
                f"Date: {invoice.created_at:%d %b %Y}",
                f"Amount: {format_usd(invoice.amount_micros)} ({invoice.state})",
            ]
        )

    def pay_invoice(self, reference: str, outcome: Literal["paid", "declined"] = "paid") -> None:
        """What the customer did on an invoice's page; one that is not open any more stays as it is."""
        with self._serving() as desk:
            invoice = row_of(desk.db, "invoices", reference)
            if invoice["state"] != "open":
                return
            row = row_of(desk.db, "subscriptions", invoice["subscription"])
            if outcome == "paid":
                subscriptions.settle(desk, row, invoice)
                return
            payment = fail_invoice(desk, invoice)
            desk.tell(["payment.failed"], about(row["checkout"], row["reference"], payment, invoice["due_micros"]))

    def portal(self, reference: str) -> PortalPage | None:
        """What a portal shows, or None when there is none or its hour is over."""
        with self._reading() as db:
            found = db.execute("SELECT * FROM portals WHERE reference = ?", (reference,)).fetchone()
            if found is None or as_time(found["expires_at"]) <= self._clock.now():
                return None
            customer = row_of(db, "customers", found["customer"])
            invoices = self._invoices(db, customer["reference"])
        return PortalPage(
            reference=reference,
            email=customer["email"],
            return_url=found["return_url"],
            card=customer["card"],
            method=METHODS.get(customer["card"] or ""),
            credit_micros=customer["credit_micros"],
            invoices=invoices,
        )

    def use_card(self, customer_reference: str, card: Card) -> None:
        """The customer saves another card: `works`, `declined` or `needs_3ds`. It pays from the next payment on."""
        with self._serving() as desk:
            save_card(desk.db, customer_reference, card)

    def use_portal_card(self, portal_reference: str, card: Card) -> None:
        """The same from a portal's page. Permanent ProviderError where the portal is unknown."""
        with self._serving() as desk:
            save_card(desk.db, row_of(desk.db, "portals", portal_reference)["customer"], card)

    def _open_portal(self, customer_reference: str, return_url: str) -> str:
        reference = new_id("spor")
        with self._serving() as desk:
            row_of(desk.db, "customers", customer_reference)
            expires_at = (desk.now + PORTAL_LIFE).timestamp()
            desk.db.execute("DELETE FROM portals WHERE expires_at <= ?", (desk.now.timestamp(),))
            desk.db.execute(
                "INSERT INTO portals (reference, customer, return_url, expires_at) VALUES (?, ?, ?, ?)",
                (reference, customer_reference, return_url, expires_at),
            )
        return self._page("portal", reference)

    def _invoices(self, db: sqlite3.Connection, customer_reference: str) -> list[VendorInvoice]:
        row_of(db, "customers", customer_reference)
        found = "SELECT * FROM invoices WHERE customer = ? ORDER BY sequence DESC LIMIT ?"
        rows = db.execute(found, (customer_reference, MOST_INVOICES)).fetchall()
        return [vendor_invoice(row, self._page("invoice", row["reference"])) for row in rows]
