"""Taking money: the saved card, what happens without one, and that nothing is taken twice even days later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.stripe import Stripe
from tests.contracts.payments import charge_of, request_of
from tests.fakes.stripe_recorder import Recorder
from tests.fakes.stripe_server import StripeServer
from tests.fakes.stripe_twins import make, session


@pytest.fixture
def vendor() -> Iterator[StripeServer]:
    with StripeServer() as running:
        yield running


@pytest.fixture
def payments(vendor: StripeServer, tmp_path: Path) -> Stripe:
    return make(vendor.url, tmp_path)


@pytest.fixture
def customer(vendor: StripeServer) -> str:
    found = vendor.put("customer", "cus", email="ada@example.com", invoice_settings={"default_payment_method": None})
    return str(found["id"])


def test_a_charge_is_made_once_even_when_stripe_forgot_its_key(
    vendor: StripeServer, payments: Stripe, customer: str
) -> None:
    vendor.save_card(customer)
    first = payments.charge_saved(charge_of("chk_2", customer))
    vendor.forget_keys()
    assert payments.charge_saved(charge_of("chk_2", customer)) == first
    assert len(vendor.all("payment_intent")) == 1


def test_a_declined_charge_is_not_tried_again(vendor: StripeServer, payments: Stripe, customer: str) -> None:
    vendor.save_card(customer, "declined")
    first = payments.charge_saved(charge_of("chk_2", customer))
    vendor.save_card(customer, "works")
    vendor.forget_keys()
    assert payments.charge_saved(charge_of("chk_2", customer)) == first
    assert payments.fetch(first.reference).checkout_state == "declined"


def test_without_a_saved_card_the_answer_is_a_page(vendor: StripeServer, payments: Stripe, customer: str) -> None:
    assert payments.saved_method(customer) is None
    asked = payments.charge_saved(charge_of("chk_2", customer))
    assert asked == payments.charge_saved(charge_of("chk_2", customer))
    assert asked.url.startswith("https://checkout.stripe.com/")
    vendor.pay(asked.reference)
    (paid,) = payments.fetch(asked.reference).payments
    assert paid.amount_micros == 20_000_000
    assert payments.saved_method(customer) is not None  # the page kept the card for the next time


def test_a_card_saved_without_being_the_default_is_charged(
    vendor: StripeServer, payments: Stripe, customer: str
) -> None:
    vendor.save_card(customer)
    vendor.objects[customer]["invoice_settings"] = {"default_payment_method": None}
    assert payments.saved_method(customer) is not None
    assert payments.fetch(payments.charge_saved(charge_of("chk_2", customer)).reference).checkout_state == "paid"


def test_a_charge_for_nobody_is_refused_for_good(payments: Stripe) -> None:
    with pytest.raises(ProviderError) as caught:
        payments.charge_saved(charge_of("chk_2", "cus_nobody"))
    assert (caught.value.code, caught.value.permanent) == ("unknown_customer", True)


def test_tax_is_worked_out_only_if_the_operator_wants_it(vendor: StripeServer, tmp_path: Path) -> None:
    for has_tax, key in ((False, "chk_1"), (True, "chk_2")):
        make(vendor.url, tmp_path, stripe_automatic_tax=has_tax).create_checkout(request_of(key))
        asked = vendor.requests[-1][2]
        assert asked.get("automatic_tax") == ({"enabled": "true"} if has_tax else None)
        assert asked.get("customer_update") == ({"address": "auto"} if has_tax else None)


@pytest.mark.parametrize("url", [None, "", "javascript:alert(1)", "http://checkout.example.com"])
def test_an_answer_without_a_safe_page_is_no_checkout(url: str | None, tmp_path: Path) -> None:
    answers = {"POST /v1/checkout/sessions": session(url=url)}
    with Recorder(answers) as recorder, pytest.raises(ProviderError) as caught:
        make(recorder.url, tmp_path).create_checkout(request_of("chk_1", 10_000_000, None, account_id=""))
    assert caught.value.code == "unexpected_answer"


def test_a_charge_is_found_without_being_made(vendor: StripeServer, payments: Stripe, customer: str) -> None:
    assert payments.find_charge(charge_of("chk_2", customer)) is None
    payments.charge_saved(charge_of("chk_2", customer))
    assert payments.find_charge(charge_of("chk_2", customer)) is None, "a page that nobody was sent to"
    vendor.save_card(customer, "declined")
    made = payments.charge_saved(charge_of("chk_3", customer))
    vendor.forget_keys()
    assert payments.find_charge(charge_of("chk_3", customer)) == made
    assert payments.find_charge(charge_of("chk_3", "cus_nobody")) is None
    assert len(vendor.all("payment_intent")) == 1
