"""`clawhaven admin stripe setup`: makes what is missing, changes what is wrong, and else nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Price
from clawhaven.providers.payments.stripe_calls import API_VERSION
from clawhaven.providers.payments.stripe_objects import EVENTS
from clawhaven.providers.payments.stripe_setup import prepare
from tests.fakes.stripe_server import StripeServer
from tests.fakes.stripe_twins import options_of

HOOK = "https://haven.example/api/webhooks/stripe"
PRICES = [Price("personal", "Personal", 29_000_000, "month"), Price("quarterly", "Quarterly", 75_000_000, "quarter")]


@pytest.fixture
def vendor() -> Iterator[StripeServer]:
    with StripeServer() as running:
        yield running


def writes(vendor: StripeServer) -> list[str]:
    """The paths of what changed something since the last look."""
    found = [path for verb, path, *_ in vendor.requests if verb != "GET"]
    vendor.requests.clear()
    return found


def test_it_makes_what_there_is_not_and_the_second_time_nothing(vendor: StripeServer) -> None:
    first = prepare(options_of(vendor.url), PRICES, HOOK)
    assert writes(vendor) == [
        *["/v1/products", "/v1/prices"] * 2,
        "/v1/webhook_endpoints",
        "/v1/billing_portal/configurations",
    ]
    assert all("made now" in line for line in [*first[:3], first[-1]])
    assert "STRIPE_WEBHOOK_SECRET=whsec_new" in first
    second = prepare(options_of(vendor.url), PRICES, HOOK)
    assert writes(vendor) == []
    assert len(second) == 4
    assert all("there already" in line for line in second)
    assert "whsec" not in "\n".join(second)
    (endpoint,) = vendor.all("webhook_endpoint")
    assert (endpoint["url"], endpoint["api_version"], tuple(endpoint["enabled_events"])) == (HOOK, API_VERSION, EVENTS)
    assert [one["recurring"] for one in vendor.all("price")] == [
        {"interval": "month", "interval_count": 3},
        {"interval": "month", "interval_count": 1},
    ]


def test_a_new_price_of_a_plan_is_a_new_price_there(vendor: StripeServer) -> None:
    prepare(options_of(vendor.url), PRICES[:1], HOOK)
    prepare(options_of(vendor.url), [Price("personal", "Personal", 35_000_000, "month")], HOOK)
    assert [(one["unit_amount"], one["product"]) for one in vendor.all("price")] == [
        (3500, "clawhaven_personal"),
        (2900, "clawhaven_personal"),
    ]
    assert len(vendor.all("product")) == 1


@pytest.mark.parametrize("wrong", [{"enabled_events": ["invoice.paid"]}, {"status": "disabled"}])
def test_an_endpoint_that_lacks_something_is_put_right(vendor: StripeServer, wrong: dict[str, object]) -> None:
    prepare(options_of(vendor.url), [], HOOK)
    (endpoint,) = vendor.all("webhook_endpoint")
    endpoint |= wrong
    vendor.requests.clear()
    line, _ = prepare(options_of(vendor.url), [], HOOK)
    assert writes(vendor) == [f"/v1/webhook_endpoints/{endpoint['id']}"]
    assert "its secret is as before" in line
    assert tuple(vendor.all("webhook_endpoint")[0]["enabled_events"]) == EVENTS


def test_an_endpoint_of_another_version_stays_and_gets_a_neighbour(vendor: StripeServer) -> None:
    vendor.put("webhook_endpoint", "we", url=HOOK, api_version="2020-08-27", enabled_events=["*"], status="enabled")
    prepare(options_of(vendor.url), [], HOOK)
    assert sorted(one["api_version"] for one in vendor.all("webhook_endpoint")) == ["2020-08-27", API_VERSION]


def test_a_deleted_endpoint_is_made_again_although_stripe_remembers_the_key(vendor: StripeServer) -> None:
    for _ in range(3):
        lines = prepare(options_of(vendor.url), [], HOOK)
        assert "STRIPE_WEBHOOK_SECRET=whsec_new" in lines
        (endpoint,) = vendor.all("webhook_endpoint")
        assert endpoint["id"] in lines[0]
        del vendor.objects[endpoint["id"]]


def test_without_a_public_address_prices_are_made_and_no_endpoint(vendor: StripeServer) -> None:
    lines = prepare(options_of(vendor.url), PRICES, "http://127.0.0.1:8080/api/webhooks/stripe")
    assert vendor.all("webhook_endpoint") == []
    assert len(vendor.all("price")) == 2
    assert "set BASE_URL" in lines[2]
    assert "stripe listen" in lines[3]


@pytest.mark.parametrize(("key", "words"), [("", "is missing"), ("pk_test_x", "is malformed")])
def test_without_a_key_nothing_is_asked(vendor: StripeServer, key: str, words: str) -> None:
    with pytest.raises(ProviderError, match=f"STRIPE_SECRET_KEY {words}") as caught:
        prepare(options_of(vendor.url, stripe_secret_key=key), PRICES, HOOK)
    assert (caught.value.code, caught.value.permanent, vendor.requests) == ("stripe_key", True, [])


def test_a_price_of_the_operators_own_is_compared(vendor: StripeServer) -> None:
    prepare(options_of(vendor.url), PRICES[:1], HOOK)
    (mine,) = vendor.all("price")
    chosen = options_of(vendor.url, stripe_prices=f"personal={mine['id']}")
    assert prepare(chosen, PRICES[:1], HOOK)[0].startswith(f"plan personal: {mine['id']}, there already")
    with pytest.raises(ProviderError, match="is not the price of the plan 'personal'") as caught:
        prepare(chosen, [Price("personal", "Personal", 30_000_000, "month")], HOOK)
    assert caught.value.code == "price_mismatch"
