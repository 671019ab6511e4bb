"""Stripe against a stand-in that keeps state, through the official library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from clawhaven.ports.payments import Payments
from clawhaven.providers.payments.stripe_calls import API_VERSION
from tests.contracts.payments import Card, PaymentsContract, request_of
from tests.fakes.stripe_server import StripeServer
from tests.fakes.stripe_twins import make


@pytest.fixture
def vendor() -> Iterator[StripeServer]:
    with StripeServer() as running:
        yield running


class TestContract(PaymentsContract):
    """Stripe keeps the contract."""

    @pytest.fixture
    def payments(self, vendor: StripeServer, tmp_path: Path) -> Payments:
        self.vendor = vendor
        return make(vendor.url, tmp_path)

    def finish(self, payments: Payments, reference: str, outcome: Literal["paid", "declined", "cancelled"]) -> None:
        if outcome == "paid":
            self.vendor.pay(reference)
        elif outcome == "cancelled":
            self.vendor.objects[reference]["status"] = "expired"

    def use_card(self, payments: Payments, customer: str, card: Card) -> None:
        self.vendor.save_card(customer, card)

    def turn_period(self, payments: Payments, subscription: str) -> None:
        self.vendor.renew(subscription)

    def dispute(self, payments: Payments, payment: str, outcome: Literal["open", "won", "lost"]) -> None:
        self.vendor.dispute(payment, "needs_response" if outcome == "open" else outcome)


def test_every_request_is_pinned_and_every_new_thing_has_a_key(vendor: StripeServer, tmp_path: Path) -> None:
    make(vendor.url, tmp_path).create_checkout(request_of("chk_1"))
    assert {headers["stripe-version"] for *_, headers in vendor.requests} == {API_VERSION}
    assert all(headers.get("idempotency-key") for verb, _, _, headers in vendor.requests if verb == "POST")
