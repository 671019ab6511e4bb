"""Customers, prices and coupons are found or made by our own names, once, whoever is quicker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Discount, Price
from clawhaven.providers.payments.stripe_articles import Articles, cents_of, lookup_key
from clawhaven.providers.payments.stripe_calls import Calls
from tests.fakes.stripe_recorder import Recorder, shaped
from tests.fakes.stripe_server import KEY, StripeServer

PERSONAL = Price("personal", "Personal", 29_000_000, "month")


@pytest.fixture
def vendor() -> Iterator[StripeServer]:
    with StripeServer() as running:
        yield running


def articles(vendor: StripeServer, *chosen: tuple[str, str]) -> Articles:
    return Articles(Calls(vendor.url, KEY), list(chosen))


def made(vendor: StripeServer) -> list[str]:
    return [path for verb, path, *_ in vendor.requests if verb == "POST"]


def test_a_price_has_a_name_of_plan_amount_and_interval() -> None:
    assert lookup_key(PERSONAL) == "clawhaven_personal_2900_month"
    assert lookup_key(Price("yearly", "Yearly", 299_000_000, "year")) == "clawhaven_yearly_29900_year"


@pytest.mark.parametrize("micros", [0, -1_000_000, 29_000_001, 9_999])
def test_only_whole_cents_are_charged(micros: int) -> None:
    with pytest.raises(ProviderError, match="whole cents") as caught:
        cents_of(micros)
    assert (caught.value.code, caught.value.permanent) == ("invalid_amount", True)


def test_a_price_is_made_once(vendor: StripeServer) -> None:
    assert articles(vendor).known_price_id(PERSONAL) is None
    first = articles(vendor).price_id(PERSONAL)
    vendor.forget_keys()
    assert articles(vendor).price_id(PERSONAL) == articles(vendor).known_price_id(PERSONAL) == first
    assert made(vendor) == ["/v1/products", "/v1/prices"]


def test_a_second_price_of_a_plan_shares_its_product(vendor: StripeServer) -> None:
    one = articles(vendor).price_id(PERSONAL)
    vendor.forget_keys()
    two = articles(vendor).price_id(Price("personal", "Personal, dearer", 39_000_000, "month"))
    assert one != two
    assert [product["name"] for product in vendor.all("product")] == ["Personal"]


def test_another_process_may_be_quicker_with_a_price() -> None:
    seen: list[str] = []

    def listed(_: Any) -> list[Any]:
        seen.append("looked")
        return [shaped("price", id="price_of_the_other")] if len(seen) > 1 else []

    taken = (400, {"error": {"type": "invalid_request_error", "message": "A price already uses that lookup key."}})
    answers = {"GET /v1/prices": listed, "POST /v1/products": shaped("product"), "POST /v1/prices": taken}
    with Recorder(answers) as recorder:
        assert Articles(Calls(recorder.url, KEY), []).price_id(PERSONAL) == "price_of_the_other"
        seen.clear()
        recorder.answers["GET /v1/prices"] = []
        with pytest.raises(ProviderError, match="already uses that lookup key"):
            Articles(Calls(recorder.url, KEY), []).price_id(PERSONAL)


def test_an_interval_that_is_not_sold(vendor: StripeServer) -> None:
    with pytest.raises(ProviderError) as caught:
        articles(vendor).price_id(Price("daily", "Daily", 1_000_000, "day"))
    assert (caught.value.code, caught.value.permanent) == ("invalid_interval", True)


def test_of_a_plans_chosen_prices_the_first_is_sold_and_all_are_known(vendor: StripeServer) -> None:
    shape = {"unit_amount": 2900, "currency": "usd", "recurring": {"interval": "month", "interval_count": 1}}
    for name in ("price_new", "price_old"):
        vendor.put("price", "price", id=name, product="prod_theirs", **shape)
    shop = articles(vendor, ("personal", "price_new"), ("personal", "price_old"))
    assert shop.price_id(PERSONAL) == "price_new"
    assert [shop.plan_of("prod_theirs", name) for name in ("price_new", "price_old", "price_x")] == [
        "personal",
        "personal",
        None,
    ]
    assert shop.plan_of("clawhaven_yearly") == "yearly"
    assert made(vendor) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"unit_amount": 2800},
        {"currency": "eur"},
        {"recurring": {"interval": "year", "interval_count": 1}},
        {"recurring": {"interval": "month", "interval_count": 3}},
        {"recurring": None},
    ],
)
def test_a_chosen_price_that_differs_is_not_sold(vendor: StripeServer, wrong: dict[str, Any]) -> None:
    shape = {"unit_amount": 2900, "currency": "usd", "recurring": {"interval": "month", "interval_count": 1}}
    vendor.put("price", "price", id="price_mine", **(shape | wrong))
    with pytest.raises(ProviderError, match="STRIPE_PRICES: price_mine") as caught:
        articles(vendor, ("personal", "price_mine")).price_id(PERSONAL)
    assert (caught.value.code, caught.value.permanent) == ("price_mismatch", True)


def test_an_account_is_one_customer(vendor: StripeServer) -> None:
    vendor.put("customer", "cus", email="ada@example.com", metadata={"account": "acc_other"})
    first = articles(vendor).customer("ada@example.com", "acc_1")
    vendor.forget_keys()
    assert articles(vendor).customer("ada@example.com", "acc_1") == first
    assert len(vendor.all("customer")) == 2


@pytest.mark.parametrize(
    ("discount", "terms"),
    [
        (Discount("A", percent_off=20), {"percent_off": "20", "duration": "once"}),
        (Discount("A", percent_off=20, months=None), {"percent_off": "20", "duration": "forever"}),
        (
            Discount("A", amount_off_micros=5_000_000, months=3),
            {"amount_off": "500", "currency": "usd", "duration": "repeating", "duration_in_months": "3"},
        ),
    ],
)
def test_a_coupon_is_its_terms(vendor: StripeServer, discount: Discount, terms: dict[str, str]) -> None:
    reference = articles(vendor).coupon(discount)
    vendor.forget_keys()
    assert articles(vendor).coupon(discount) == reference
    (coupon,) = vendor.all("coupon")
    assert coupon | terms == coupon
    assert articles(vendor).coupon(Discount("A", percent_off=21)) != reference
