"""Stripe against a stand-in that keeps state, through the official library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from clawhaven.core.settings import Settings
from clawhaven.ports.payments import Payments
from clawhaven.providers.payments.stripe import Stripe
from clawhaven.providers.payments.stripe_calls import API_VERSION
from tests.contracts.payments import Card, PaymentsContract, request_of
from tests.fakes.stripe_server import KEY, SECRET, StripeServer


@pytest.fixture
def vendor() -> Iterator[StripeServer]:
    with StripeServer() as running:
        yield running


def make(vendor: StripeServer, tmp_path: Path, **more: Any) -> Stripe:
    """The provider against the stand-in."""
    options = Stripe.Options(
        _env_file=None,
        **{
            "stripe_secret_key": SecretStr(KEY),
            "stripe_webhook_secret": SecretStr(f"{SECRET}, whsec_the_old_one"),
            "stripe_api_url": vendor.url,
            **more,
        },
    )
    return Stripe(options, Settings(_env_file=None, data_dir=tmp_path / "var"))


class TestContract(PaymentsContract):
    """Stripe keeps the contract."""

    @pytest.fixture
    def payments(self, vendor: StripeServer, tmp_path: Path) -> Payments:
        self.vendor = vendor
        return make(vendor, tmp_path)

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
    make(vendor, tmp_path).create_checkout(request_of("chk_1"))
    assert {headers["stripe-version"] for *_, headers in vendor.requests} == {API_VERSION}
    assert all(headers.get("idempotency-key") for verb, _, _, headers in vendor.requests if verb == "POST")
