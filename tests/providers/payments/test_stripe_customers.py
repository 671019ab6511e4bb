"""A customer at Stripe: moved, deleted, and what is still told of one who is gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments import stripe_customers
from clawhaven.providers.payments.stripe_calls import Calls
from tests.fakes.stripe_server import KEY, StripeServer


@pytest.fixture
def vendor() -> Iterator[StripeServer]:
    with StripeServer() as running:
        yield running


def test_an_address_is_set_again_within_a_day(vendor: StripeServer) -> None:
    calls = Calls(vendor.url, KEY)
    vendor.put("customer", "cus", id="cus_1", email="ada@example.com")
    for email in ("new@example.com", "ada@example.com", "new@example.com"):
        stripe_customers.move(calls, "cus_1", email)
        assert vendor.objects["cus_1"]["email"] == email


def test_gone_is_success_and_anything_else_is_not(vendor: StripeServer) -> None:
    calls = Calls(vendor.url, KEY)
    vendor.put("customer", "cus", id="cus_1", email="ada@example.com")
    for _ in range(2):
        stripe_customers.remove(calls, "cus_1")
    assert vendor.objects["cus_1"] == {"id": "cus_1", "object": "customer", "deleted": True}
    stripe_customers.move(calls, "cus_1", "new@example.com")
    assert stripe_customers.charges(calls, "cus_1") == []
    with pytest.raises(ProviderError):
        stripe_customers.remove(Calls(vendor.url, "sk_test_wrong"), "cus_1")
