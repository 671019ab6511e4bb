"""A payment vendor on this machine: no account, no money, the same duplicates and delays as a real one.

Its pages are a door's (`/sandbox/…`, see sandbox_pages.py). Its calendar renews by itself where a worker runs
(`start`); `renew`, `fail_renewal`, `dispute` and the rest of sandbox_rehearsals.py make things happen now.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field, SecretStr

from clawhaven.core.clock import Clock
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.payments import (
    BadSignature,
    Capability,
    ChargeRequest,
    CheckoutRequest,
    FeeRate,
    ListedSubscription,
    PaymentEvent,
    Price,
    SavedMethod,
    VendorCheckout,
    VendorInvoice,
    VendorState,
)
from clawhaven.providers.payments import sandbox_checkouts as checkouts
from clawhaven.providers.payments import sandbox_subscriptions as subscriptions
from clawhaven.providers.payments.sandbox_courier import SIGNATURE_HEADER, Courier
from clawhaven.providers.payments.sandbox_events import bodies_since, read_event
from clawhaven.providers.payments.sandbox_invoices import METHODS, payments_of, refund_payment
from clawhaven.providers.payments.sandbox_pages import Pages
from clawhaven.providers.payments.sandbox_rehearsals import Rehearsals
from clawhaven.providers.payments.sandbox_store import Store, refused, row_of
from clawhaven.providers.payments.signature import verify


class Sandbox(Pages, Rehearsals):
    """Implements ports.payments.Payments; every verb may be called from several threads and processes.

    While it is switched off (`Trouble.is_down`), every verb but `parse_event` raises ProviderError `sandbox_down`.
    """

    name = "sandbox"
    capabilities = frozenset(Capability)
    is_for_production = False
    is_customer_by_email = False
    fee_rate: FeeRate | None = None
    checkout_origins: Sequence[str] = ()

    class Options(EnvSettings):
        """Settings of the sandbox vendor."""

        sandbox_payments_secret: SecretStr = Field(
            SecretStr(""),
            description="Signs sandbox events; several, newest first, for rotation. Default: made once in DATA_DIR.",
        )

    def __init__(self, options: Options, settings: Settings, clock: Clock | None = None) -> None:
        store = Store(settings.data_dir / "sandbox-payments.sqlite3")
        super().__init__(store, clock or Clock(), settings.base_url)
        self._courier = Courier(store, self._clock, settings, options.sandbox_payments_secret)

    def create_checkout(self, request: CheckoutRequest) -> VendorCheckout:
        """Create the checkout for `request.key`, or return the one made before.

        ProviderError (permanent) for an amount that is not positive whole cents, an unknown interval or customer, a
        trial or discount that cannot be, or a key that was used with another price.
        """
        with self._serving() as desk:
            row = checkouts.open_checkout(desk, request)
        return VendorCheckout(row["reference"], self._page("checkout", row["reference"]))

    def fetch(self, checkout_reference: str) -> VendorState:
        """The current state of a checkout or charge, its payments that succeeded (oldest first), its subscription."""
        with self._reading() as db:
            row = row_of(db, "checkouts", checkout_reference)
            found = row_of(db, "subscriptions", row["subscription"]) if row["subscription"] else None
            paid = payments_of(db, checkout_reference)
        pages = f"{self._base_url}/sandbox/invoice"
        subscription = subscriptions.vendor_subscription(found, pages) if found else None
        return VendorState(row["state"], paid, subscription, row["customer"])

    def cancel(self, subscription_reference: str, at_period_end: bool) -> None:
        """End a subscription now, or mark it to end with its period; already ended or marked is success."""
        with self._serving() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            if at_period_end:
                subscriptions.mark_ending(desk, row, is_ending=True)
            else:
                subscriptions.end(desk, row)

    def undo_cancel(self, subscription_reference: str) -> None:
        """Take back `cancel(…, at_period_end=True)`; not marked is success, ended is a permanent ProviderError."""
        with self._serving() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            subscriptions.mark_ending(desk, row, is_ending=False)

    def pause(self, subscription_reference: str) -> None:
        """Collect no renewal until `resume`; paused already or ended is success."""
        with self._serving() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            subscriptions.mark_paused(desk, row, is_paused=True)

    def resume(self, subscription_reference: str) -> None:
        """Collect renewals again, from the next one on; not paused or ended is success."""
        with self._serving() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            subscriptions.mark_paused(desk, row, is_paused=False)

    def change_plan(self, subscription_reference: str, price: Price, key: str) -> None:
        """Move to another price now. A dearer one is paid for the rest of the period, a cheaper one leaves a credit.

        Another interval begins a period now. ProviderError (permanent) when the saved card does not pay
        (`card_declined`, `authentication_required`), an invoice is open or the subscription has ended: nothing changed.
        """
        with self._serving() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            refusal = subscriptions.change_plan(desk, row, price, key)
        if refusal is not None:
            raise refusal

    def refund(self, payment_reference: str, amount_micros: int | None, key: str) -> str:
        """Give back part or all of a payment (None), once per `key`. ProviderError (permanent) beyond what was paid."""
        with self._serving() as desk:
            payment = row_of(desk.db, "payments", payment_reference)
            amount_micros = payment["amount_micros"] if amount_micros is None else amount_micros
            before = desk.db.execute("SELECT * FROM refunds WHERE key = ?", (key,)).fetchone()
            if before is not None:
                if (before["payment"], before["amount_micros"]) != (payment_reference, amount_micros):
                    raise refused("idempotency_mismatch", "This refund key was used before for something else.")
                return str(before["reference"])
            return refund_payment(desk, payment, amount_micros, key)

    def charge_saved(self, request: ChargeRequest) -> VendorCheckout:
        """Charge the saved card once per key; `fetch` says how it ended, `url` is where 3-D Secure is confirmed.

        ProviderError (permanent) for an unknown customer, one without a saved card, and a key used for another charge.
        """
        with self._serving() as desk:
            row = checkouts.charge(desk, request)
        return VendorCheckout(row["reference"], self._page("checkout", row["reference"]))

    def find_charge(self, request: ChargeRequest) -> VendorCheckout | None:
        """The charge of this key, or None."""
        with self._reading() as db:
            row = checkouts.find_charge(db, request.key)
        return VendorCheckout(row["reference"], self._page("checkout", row["reference"])) if row else None

    def portal_url(self, customer_reference: str, return_url: str) -> str:
        """A page for the saved card and the invoices, for an hour."""
        return self._open_portal(customer_reference, return_url)

    def invoices(self, customer_reference: str) -> list[VendorInvoice]:
        """The customer's invoices, newest first, at most 100."""
        with self._reading() as db:
            return self._invoices(db, customer_reference)

    def saved_method(self, customer_reference: str) -> SavedMethod | None:
        """The saved card, or None."""
        with self._reading() as db:
            return METHODS.get(row_of(db, "customers", customer_reference)["card"] or "")

    def move_customer(self, customer_reference: str, email: str) -> None:
        """The address of a customer from now on; a customer who is gone is success."""
        with self._serving() as desk:
            there = "UPDATE customers SET email = ? WHERE reference = ? AND owner NOT LIKE 'gone:%'"
            desk.db.execute(there, (email, customer_reference))

    def remove_customer(self, customer_reference: str) -> None:
        """Take out address and card, and end what still runs. Gone is success."""
        with self._serving() as desk:
            checkouts.remove_customer(desk, customer_reference)

    def list_subscriptions(self) -> list[ListedSubscription]:
        """Every subscription that has not ended, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT s.*, c.key FROM subscriptions s"
                " JOIN checkouts c ON c.reference = s.checkout WHERE s.state <> 'canceled' ORDER BY s.rowid"
            ).fetchall()
        return [
            ListedSubscription(
                row["reference"],
                row["state"],
                row["key"],
                row["customer"],
                subscriptions.vendor_subscription(row, None),
            )
            for row in rows
        ]

    def parse_event(self, headers: Mapping[str, str], body: bytes) -> PaymentEvent:
        """Verify over the raw bytes and normalise. BadSignature first; ProviderError (permanent) for another shape."""
        given = [value for name, value in headers.items() if name.lower() == SIGNATURE_HEADER]
        if len(given) != 1:
            raise BadSignature("the event has no single signature header")
        verify(given[0], body, self._courier.secrets(), self._clock.now())
        return read_event(body)

    def unseen(self, since: datetime) -> list[tuple[dict[str, Any], bytes]]:
        """Every event from `since` on, oldest first, signed now; acknowledged and dropped ones too."""
        with self._reading() as db:
            bodies = bodies_since(db, since)
        return [(dict(self._courier.headers(body)), body) for body in bodies]

    # Delivery

    def deliver(self, once: bool = False) -> int:
        """POST the due events to our own webhook; returns how many copies were acknowledged with a 2xx.

        Passes repeat until nothing is due any more, or end after the first if `once`. What is refused comes again
        after 1 s, 2 s, 4 s … 60 s. Killed between the answer and the note of it, a copy is sent again.
        """
        return self._courier.deliver(once)

    def start(self, stop: threading.Event) -> threading.Thread:
        """Follow the calendar and deliver in the background, about every half second, until `stop` is set.

        Several at once are allowed.
        """
        return self._courier.start(stop, self.advance)
