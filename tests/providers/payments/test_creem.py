"""Creem against a stand-in that keeps state: the contract, and what is Creem's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from clawhaven.core.clock import Clock
from clawhaven.core.money import from_cents
from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import BadSignature, Capability, Discount, PaymentKind, Payments, Price
from clawhaven.providers.payments import creem_discounts
from clawhaven.providers.payments.creem import Creem
from tests.contracts.payments import CHEAPER, DEARER, START, Card, PaymentsContract, request_of
from tests.fakes.creem_books import METERED, MONTHLY, PERSONAL, SECRET, TOPUP, YEARLY
from tests.fakes.creem_server import KEY, CreemServer

PRODUCTS = f"personal={PERSONAL}, metered={METERED}, monthly={MONTHLY}, yearly={YEARLY}, personal=prod_last_year"


@pytest.fixture
def vendor() -> Iterator[CreemServer]:
    with CreemServer() as running:
        yield running


def options_of(vendor: CreemServer, **more: Any) -> Creem.Options:
    """Everything set, for the stand-in."""
    return Creem.Options(
        _env_file=None,
        **{
            "creem_api_key": SecretStr(KEY),
            "creem_webhook_secret": SecretStr(f"whsec_the_new_one, {SECRET}"),
            "creem_api_url": vendor.url,
            "creem_topup_product": TOPUP,
            "creem_products": PRODUCTS,
            **more,
        },
    )


def make(vendor: CreemServer, tmp_path: Path, clock: Clock | None = None, **more: Any) -> Creem:
    """The provider; made twice in one folder, it is another process on the same machine."""
    settings = Settings(_env_file=None, data_dir=tmp_path / "var")
    return Creem(options_of(vendor, **more), settings, clock)


@pytest.fixture
def creem(vendor: CreemServer, tmp_path: Path) -> Creem:
    return make(vendor, tmp_path)


def posts(vendor: CreemServer, path: str) -> list[dict[str, Any]]:
    """Bodies of what was posted there."""
    return [body for verb, where, _, body in vendor.requests if (verb, where) == ("POST", path)]


def refused(call: Any) -> tuple[bool, str]:
    """How a call fails: for good or not, and its code."""
    with pytest.raises(ProviderError) as caught:
        call()
    return caught.value.permanent, caught.value.code


def subscribe(creem: Creem, vendor: CreemServer, **more: Any) -> tuple[str, str]:
    """A paid monthly subscription: its checkout and itself."""
    reference = creem.create_checkout(request_of("chk_1", **more)).reference
    vendor.pay(reference)
    found = creem.fetch(reference).subscription
    assert found is not None
    return reference, found.reference


class TestContract(PaymentsContract):
    """Creem keeps the contract."""

    @pytest.fixture
    def payments(self, creem: Creem, vendor: CreemServer) -> Payments:
        self.vendor = vendor
        return creem

    def finish(self, payments: Payments, reference: str, outcome: Literal["paid", "declined", "cancelled"]) -> None:
        if outcome == "paid":
            self.vendor.pay(reference)
        elif outcome == "cancelled":
            self.vendor.expire(reference)

    def use_card(self, payments: Payments, customer: str, card: Card) -> None:
        assert card != "needs_3ds", "Creem's own page does 3-D Secure; nothing of it is told"
        (self.vendor.declining.add if card == "declined" else self.vendor.declining.discard)(customer)

    def turn_period(self, payments: Payments, subscription: str) -> None:
        self.vendor.renew(subscription)

    def dispute(self, payments: Payments, payment: str, outcome: Literal["open", "won", "lost"]) -> None:
        self.vendor.dispute(payment, outcome)

    def events(self, payments: Payments) -> list[tuple[dict[str, Any], bytes]]:
        return self.vendor.told


def test_what_it_cannot_do_is_no_capability() -> None:
    missing = set(Capability) - Creem.capabilities
    assert missing == {
        Capability.AMOUNT_OFF,
        Capability.TRIALS,
        Capability.INVOICES,
        Capability.REFUND,
        Capability.CHARGE_SAVED,
        Capability.CUSTOMERS,
    }


def test_a_top_up_is_units_of_the_one_dollar_product(creem: Creem, vendor: CreemServer) -> None:
    creem.create_checkout(request_of("chk_1", 25_000_000, None, email="a@example.com"))
    (sent,) = posts(vendor, "/v1/checkouts")
    assert (sent["product_id"], sent["units"], sent["request_id"]) == (TOPUP, 25, "chk_1")
    assert sent["customer"] == {"email": "a@example.com"}
    assert sent["metadata"] == {"checkout": "chk_1", "account": "acc_1"}
    assert "cancel_url" not in sent


@pytest.mark.parametrize("amount_micros", [10_500_000, 0, -5_000_000, 10_000_001, 10_001_000_000])
def test_a_top_up_is_whole_dollars(creem: Creem, vendor: CreemServer, amount_micros: int) -> None:
    assert refused(lambda: creem.create_checkout(request_of("chk_1", amount_micros, None))) == (True, "invalid_amount")
    assert posts(vendor, "/v1/checkouts") == []


def test_a_known_customer_is_named_by_id(creem: Creem, vendor: CreemServer) -> None:
    first = creem.create_checkout(request_of("chk_1", 10_000_000, None)).reference
    vendor.pay(first)
    customer = creem.fetch(first).customer_reference
    creem.create_checkout(request_of("chk_2", 10_000_000, None, customer_reference=customer))
    assert posts(vendor, "/v1/checkouts")[1]["customer"] == {"id": customer}


def test_another_process_gets_the_same_checkout(creem: Creem, vendor: CreemServer, tmp_path: Path) -> None:
    first = creem.create_checkout(request_of("chk_1"))
    assert make(vendor, tmp_path).create_checkout(request_of("chk_1")) == first
    assert len(vendor.checkouts) == 1


def test_killed_before_it_was_written_down_leaves_an_orphan_nobody_saw(
    creem: Creem, vendor: CreemServer, tmp_path: Path
) -> None:
    creem.create_checkout(request_of("chk_1"))
    for path in (tmp_path / "var" / "creem").glob("*.json"):
        path.write_bytes(b'{"terms": {"amou')
    second = creem.create_checkout(request_of("chk_1"))
    assert creem.create_checkout(request_of("chk_1")) == second
    assert len(vendor.checkouts) == 2


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"price": 3000}, "price"),
        ({"currency": "EUR"}, "currency"),
        ({"billing_period": "every-year"}, "billing_period"),
        ({"billing_type": "onetime"}, "billing_type"),
        ({"status": "archived"}, "status"),
        ({"trial_period_days": 7}, "trial_period_days"),
    ],
)
def test_a_product_that_differs_from_the_plan_is_not_sold(
    creem: Creem, vendor: CreemServer, change: dict[str, Any], word: str
) -> None:
    vendor.products[PERSONAL] |= change
    with pytest.raises(ProviderError, match=f"prod_personal.*{word}") as caught:
        creem.create_checkout(request_of("chk_1"))
    assert (caught.value.permanent, caught.value.code) == (True, "product_mismatch")
    assert vendor.checkouts == {}


def test_a_product_put_right_is_sold_at_once(creem: Creem, vendor: CreemServer) -> None:
    vendor.products[PERSONAL]["price"] = 3000
    assert refused(lambda: creem.create_checkout(request_of("chk_1"))) == (True, "product_mismatch")
    vendor.products[PERSONAL]["price"] = 2900
    assert creem.create_checkout(request_of("chk_1")).reference in vendor.checkouts


def test_plans_without_a_product_and_trials_are_refused(creem: Creem) -> None:
    assert refused(lambda: creem.create_checkout(request_of("chk_1", plan="quarterly"))) == (True, "product_missing")
    assert refused(lambda: creem.create_checkout(request_of("chk_1", trial_days=7))) == (True, "not_offered")
    coupon = Discount("HALF", percent_off=50)
    with_coupon = request_of("chk_1", 10_000_000, None, discount=coupon)
    assert refused(lambda: creem.create_checkout(with_coupon)) == (True, "not_offered")


def test_a_tax_on_top_is_not_ours(tmp_path: Path) -> None:
    with CreemServer(tax_percent=21) as vendor:
        creem = make(vendor, tmp_path)
        reference = creem.create_checkout(request_of("chk_1", 10_000_000, None)).reference
        vendor.pay(reference)
        (payment,) = creem.fetch(reference).payments
        assert vendor.transactions[payment.reference]["amount_paid"] == 1210
        assert payment.amount_micros == 10_000_000
        vendor.give_back(payment.reference, 605)
        assert creem.fetch(reference).payments[0].refunded_micros == 5_000_000
        vendor.give_back(payment.reference, 605)
        assert creem.fetch(reference).payments[0].refunded_micros == 10_000_000


def test_a_coupon_is_a_code_for_this_checkout_alone(creem: Creem, vendor: CreemServer) -> None:
    coupon = Discount("TENTH", percent_off=10, months=3)
    creem.create_checkout(request_of("chk_1", discount=coupon))
    (discount,) = vendor.discounts.values()
    assert posts(vendor, "/v1/checkouts")[0]["discount_code"] == discount["code"]
    assert "TENTH" not in discount["code"]
    assert (discount["max_redemptions"], discount["applies_to_products"]) == (1, [PERSONAL])
    assert (discount["type"], discount["percentage"]) == ("percentage", 10)
    assert (discount["duration"], discount["duration_in_months"]) == ("repeating", 3)


def test_a_coupon_made_before_a_crash_is_found(creem: Creem, vendor: CreemServer) -> None:
    request = request_of("chk_1", discount=Discount("HALF", percent_off=50))
    creem.create_checkout(request_of("chk_0"))  # its product is known from here on
    vendor.fail(500)
    assert refused(lambda: creem.create_checkout(request)) == (False, "creem_down")
    made = creem_discounts.code_for(creem._calls, "chk_1", Discount("HALF", percent_off=50), PERSONAL)
    vendor.pay(creem.create_checkout(request).reference)
    assert list(vendor.discounts) == [made]


def test_a_coupon_that_creem_refuses_stops_the_checkout(creem: Creem, vendor: CreemServer) -> None:
    creem.create_checkout(request_of("chk_0"))
    vendor.fail(400, b'{"message": ["percentage must be positive"]}')
    request = request_of("chk_1", discount=Discount("NONE", percent_off=0))
    assert refused(lambda: creem.create_checkout(request)) == (True, "creem_refused")
    assert len(vendor.checkouts) == 1


def test_changing_the_plan_twice_is_one_upgrade(creem: Creem, vendor: CreemServer) -> None:
    _, subscription = subscribe(creem, vendor)
    for key in ("change_1", "change_1", "change_2"):
        creem.change_plan(subscription, DEARER, key)
    (sent,) = posts(vendor, f"/v1/subscriptions/{subscription}/upgrade")
    assert sent == {"product_id": METERED, "update_behavior": "proration-charge-immediately"}
    mispriced = Price("monthly", "Own key", 8_000_000, "month")
    assert refused(lambda: creem.change_plan(subscription, mispriced, "change_3")) == (True, "product_mismatch")
    creem.cancel(subscription, at_period_end=False)
    assert refused(lambda: creem.change_plan(subscription, CHEAPER, "change_4")) == (True, "subscription_ended")


def test_the_rest_of_a_cheaper_plans_period_goes_back(creem: Creem, vendor: CreemServer) -> None:
    reference, subscription = subscribe(creem, vendor)
    creem.change_plan(subscription, CHEAPER, "change_1")
    (payment,) = creem.fetch(reference).payments
    assert (payment.amount_micros, payment.refunded_micros) == (29_000_000, 20_000_000)


def test_an_older_product_of_a_plan_is_still_that_plan(creem: Creem, vendor: CreemServer) -> None:
    reference, subscription = subscribe(creem, vendor)
    vendor.products["prod_last_year"] = {**vendor.products[PERSONAL], "id": "prod_last_year", "price": 1900}
    vendor.subscriptions[subscription]["product"] = "prod_last_year"
    found = creem.fetch(reference).subscription
    assert found is not None
    assert (found.plan, found.amount_micros) == ("personal", 19_000_000)
    creem.create_checkout(request_of("chk_2"))
    assert posts(vendor, "/v1/checkouts")[1]["product_id"] == PERSONAL


def test_a_subscription_paid_late_or_paused(creem: Creem, vendor: CreemServer, tmp_path: Path) -> None:
    reference, subscription = subscribe(creem, vendor)
    vendor.subscriptions[subscription]["status"] = "paused"
    clock = Clock()
    later = make(vendor, tmp_path, clock)
    seen = []
    for days in (0, 31, 1):
        clock.advance(timedelta(days=days))
        found = later.fetch(reference).subscription
        assert found is not None
        seen.append(found.state)
        if days:
            vendor.subscriptions[subscription]["status"] = "active"
    assert seen == ["active", "unpaid", "past_due"]


def test_other_sales_of_the_store_are_not_ours(creem: Creem, vendor: CreemServer) -> None:
    _, subscription = subscribe(creem, vendor)
    other = {**vendor.subscriptions[subscription], "id": "sub_other", "metadata": {}, "product": TOPUP}
    by_hand = {**vendor.subscriptions[subscription], "id": "sub_by_hand", "metadata": None}
    vendor.subscriptions |= {"sub_other": other, "sub_by_hand": by_hand}
    listed = {one.reference: one.checkout_key for one in creem.list_subscriptions()}
    assert listed == {subscription: "chk_1", "sub_by_hand": None}


def test_lists_are_read_to_their_end(creem: Creem, vendor: CreemServer) -> None:
    reference, subscription = subscribe(creem, vendor)
    for _ in range(120):
        vendor.renew(subscription)
    payments = creem.fetch(reference).payments
    assert len(payments) == 121
    assert len({payment.period_start for payment in payments}) == 121
    assert [payment.reference for payment in payments] == sorted(payment.reference for payment in payments)


def test_missed_events_are_made_of_the_lists(creem: Creem, vendor: CreemServer) -> None:
    _, subscription = subscribe(creem, vendor)
    topup = creem.create_checkout(request_of("chk_2", 10_000_000, None)).reference
    vendor.pay(topup)
    payment = creem.fetch(topup).payments[0].reference
    vendor.give_back(payment, 400)
    events = [creem.parse_event(headers, body) for headers, body in creem.unseen(START)]
    assert {(event.kind, event.subscription_reference) for event in events} == {
        (PaymentKind.SUBSCRIPTION_CHANGED, subscription),
        (PaymentKind.PAYMENT_SUCCEEDED, subscription),
        (PaymentKind.REFUNDED, None),
    }
    assert payment in {event.payment_reference for event in events}
    again = [creem.parse_event(headers, body) for headers, body in creem.unseen(START)]
    assert [event.event_id for event in again] == [event.event_id for event in events]
    vendor.give_back(payment, 100)
    late = [creem.parse_event(headers, body) for headers, body in creem.unseen(datetime.now(UTC) + timedelta(days=1))]
    assert [event.kind for event in late] == [PaymentKind.REFUNDED]
    assert late[0].event_id not in {event.event_id for event in events}


def test_events_are_checked_with_every_secret(creem: Creem, vendor: CreemServer) -> None:
    subscribe(creem, vendor)
    headers, body = vendor.told[0]
    assert creem.parse_event({"Creem-Signature": headers["creem-signature"]}, body).vendor_type == "subscription.active"
    for wrong in ({}, {"creem-signature": "0" * 64}, {"creem-signature": "é" * 64}, headers | {"Creem-Signature": "x"}):
        with pytest.raises(BadSignature):
            creem.parse_event(wrong, body)
    with pytest.raises(BadSignature):
        creem.parse_event(headers, json.dumps(json.loads(body), indent=1).encode())


def test_the_browser_may_go_to_creems_pages(vendor: CreemServer, tmp_path: Path) -> None:
    found = make(vendor, tmp_path, creem_checkout_origins="https://pay.example.com").checkout_origins
    assert {"https://checkout.creem.io", "https://pay.example.com", vendor.url} <= set(found)


def test_a_payment_that_is_not_booked_yet_is_asked_for_again(creem: Creem, vendor: CreemServer) -> None:
    reference = creem.create_checkout(request_of("chk_1", 10_000_000, None)).reference
    vendor.pay(reference)
    vendor.transactions.clear()
    assert refused(lambda: creem.fetch(reference)) == (False, "not_booked_yet")
    plan = creem.create_checkout(request_of("chk_2")).reference
    vendor.pay(plan)
    del vendor.checkouts[plan]["subscription"]
    assert refused(lambda: creem.fetch(plan)) == (False, "not_booked_yet")


def test_money_in_another_currency_is_told_apart(creem: Creem, vendor: CreemServer) -> None:
    reference = creem.create_checkout(request_of("chk_1", 10_000_000, None)).reference
    vendor.pay(reference)
    next(iter(vendor.transactions.values()))["currency"] = "EUR"
    seen = creem.fetch(reference)
    assert (seen.payments, [one.paid for one in seen.foreign]) == ((), ["10.00 EUR"])
    assert not seen.foreign[0].is_returned


def test_a_wrong_key_is_told_without_the_key(vendor: CreemServer, tmp_path: Path) -> None:
    creem = make(vendor, tmp_path, creem_api_key=SecretStr("creem_test_wrong_key"))
    with pytest.raises(ProviderError) as caught:
        creem.create_checkout(request_of("chk_1"))
    assert (caught.value.permanent, caught.value.code) == (True, "creem_key")
    assert "wrong_key" not in str(caught.value)


def test_problems_are_found_at_the_start(vendor: CreemServer) -> None:
    settings = Settings(_env_file=None, payments="creem")
    assert Creem.problems(options_of(vendor), settings) == []
    missing = Creem.problems(Creem.Options(_env_file=None), settings)
    assert [problem.split()[0] for problem in missing] == [
        "CREEM_API_KEY",
        "CREEM_WEBHOOK_SECRET",
        "CREEM_TOPUP_PRODUCT",
        "CREEM_PRODUCTS",
    ]


def test_what_it_keeps_is_a_setting_for_the_margin(vendor: CreemServer, tmp_path: Path) -> None:
    listed = make(vendor, tmp_path).fee_rate
    assert listed is not None
    assert listed.of(from_cents(2400)) == 1_336_000, "its documentation's own example: $24.00, and $1.33 of it"
    ours = make(vendor, tmp_path, creem_fee_percent=Decimal(3), creem_fee_fixed=Decimal("0.25")).fee_rate
    assert ours is not None
    assert ours.of(from_cents(10_000), payments=2) == from_cents(300 + 2 * 25)
