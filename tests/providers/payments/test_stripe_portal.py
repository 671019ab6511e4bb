"""The customer portal: made once, mended when somebody changed it, and opened by its id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clawhaven.providers.payments import stripe_portal
from clawhaven.providers.payments.stripe_calls import Calls
from clawhaven.providers.payments.stripe_portal import FEATURES
from tests.fakes.stripe_server import KEY, StripeServer
from tests.fakes.stripe_twins import make


@pytest.fixture
def vendor() -> Iterator[StripeServer]:
    with StripeServer() as running:
        yield running


def test_it_is_made_once_and_mended_when_somebody_changed_it(vendor: StripeServer) -> None:
    calls = Calls(vendor.url, KEY)
    assert "made now" in stripe_portal.prepare(calls)
    assert "there already" in stripe_portal.prepare(calls)
    (made,) = vendor.all("billing_portal.configuration")
    assert made["features"]["subscription_cancel"] == {"enabled": False}
    made["features"]["subscription_cancel"] = {"enabled": True, "mode": "immediately"}
    assert "changed back" in stripe_portal.prepare(calls)
    (made,) = vendor.all("billing_portal.configuration")
    assert made["features"]["subscription_cancel"]["enabled"] is False


def test_what_stripe_adds_and_the_order_of_lists_is_no_difference(vendor: StripeServer) -> None:
    calls = Calls(vendor.url, KEY)
    stripe_portal.prepare(calls)
    (made,) = vendor.all("billing_portal.configuration")
    made["features"]["customer_update"]["allowed_updates"].reverse()
    made["features"]["subscription_pause"] = {"enabled": False}
    made["features"]["subscription_cancel"]["mode"] = "at_period_end"
    assert "there already" in stripe_portal.prepare(calls)


def test_it_is_opened_by_its_id_and_without_one_as_the_dashboard_has_it(vendor: StripeServer, tmp_path: Path) -> None:
    payments = make(vendor.url, tmp_path)
    customer = vendor.put("customer", "cus", metadata={})
    vendor.put("billing_portal.configuration", "bpc", active=True, metadata={}, features=FEATURES)
    assert payments.portal_url(customer["id"], "https://haven.example").endswith("/p/")
    stripe_portal.prepare(Calls(vendor.url, KEY))
    ours = vendor.all("billing_portal.configuration")[0]["id"]
    assert payments.portal_url(customer["id"], "https://haven.example").endswith(f"/p/{ours}")
