"""What the contract of payment providers asks for, and how a vendor is made to act: cards, calendar, disputes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from clawhaven.ports.payments import (
    Capability,
    ChargeRequest,
    CheckoutRequest,
    Payments,
    Price,
    VendorState,
    VendorSubscription,
)

START = datetime(2020, 1, 1, tzinfo=UTC)
DEARER = Price("metered", "Metered", 59_000_000, "month")
CHEAPER = Price("monthly", "Own key", 9_000_000, "month")

Card = Literal["works", "declined", "needs_3ds"]


def request_of(
    key: str, amount_micros: int = 29_000_000, interval: str | None = "month", **more: Any
) -> CheckoutRequest:
    """A checkout request with everything that does not matter filled in."""
    return CheckoutRequest(
        **{
            "key": key,
            "email": "user@example.com",
            "description": "Personal",
            "amount_micros": amount_micros,
            "interval": interval,
            "success_url": "http://127.0.0.1/success",
            "cancel_url": "http://127.0.0.1/cancel",
            "metadata": {"checkout": key},
            "plan": "personal" if interval else "",
            "account_id": "acc_1",
            **more,
        }
    )


def charge_of(key: str, customer: str, amount_micros: int = 20_000_000) -> ChargeRequest:
    """A payment while the customer is away."""
    return ChargeRequest(key, customer, amount_micros, "Automatic top-up", {"checkout": key})


def needs(payments: Payments, *wanted: Capability) -> None:
    """Skip the test where the vendor cannot do this."""
    missing = [one.value for one in wanted if one not in payments.capabilities]
    if missing:
        pytest.skip(f"this vendor does not offer {', '.join(missing)}")


class Rehearsed:
    """Subclasses override the fixture and the methods."""

    @pytest.fixture
    def payments(self) -> Payments:
        """The provider, against a fresh vendor."""
        raise NotImplementedError

    def finish(self, payments: Payments, reference: str, outcome: Literal["paid", "declined", "cancelled"]) -> None:
        """What the customer does on the vendor's page."""
        raise NotImplementedError

    def use_card(self, payments: Payments, customer: str, card: Card) -> None:
        """The customer saves another card at the vendor, one that behaves like this from now on."""
        raise NotImplementedError

    def turn_period(self, payments: Payments, subscription: str) -> None:
        """The subscription's period (or trial) ends, and the vendor bills the next one with the saved card."""
        raise NotImplementedError

    def dispute(self, payments: Payments, payment: str, outcome: Literal["open", "won", "lost"]) -> None:
        """The customer's bank takes a payment back, or has decided about it."""
        raise NotImplementedError

    def paid(self, payments: Payments, request: CheckoutRequest) -> tuple[str, VendorState]:
        """A checkout that was paid: its reference and what the vendor says then."""
        reference = payments.create_checkout(request).reference
        self.finish(payments, reference, "paid")
        return reference, payments.fetch(reference)

    def subscribed(self, payments: Payments, **more: Any) -> tuple[str, VendorSubscription]:
        """A paid monthly subscription: its checkout's reference, and itself."""
        reference, state = self.paid(payments, request_of("chk_1", **more))
        assert state.subscription is not None
        return reference, state.subscription

    def customer(self, payments: Payments, checkout: str) -> str:
        """The vendor's customer of a paid checkout."""
        found = payments.fetch(checkout).customer_reference
        assert found is not None
        return found

    def events(self, payments: Payments) -> list[tuple[dict[str, Any], bytes]]:
        """Everything the vendor has told so far, signed now, oldest first."""
        return payments.unseen(START)
