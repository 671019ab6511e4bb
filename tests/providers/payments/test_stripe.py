"""Stripe against a stand-in that keeps state, through the official library."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import BadSignature, Discount, Payments
from clawhaven.providers.payments.signature import sign
from clawhaven.providers.payments.stripe import HEADER, Stripe
from clawhaven.providers.payments.stripe_calls import API_VERSION
from tests.contracts.payments import DEARER, START, Card, PaymentsContract, charge_of, request_of
from tests.fakes.stripe_recorder import Recorder, strangers
from tests.fakes.stripe_server import SECRET, StripeServer
from tests.fakes.stripe_twins import PI, intent, make, options_of, session

KINDS = (
    *(stripe.BalanceTransaction, stripe.Charge, stripe.Coupon, stripe.Customer, stripe.Dispute, stripe.Event),
    *(stripe.Invoice, stripe.PaymentIntent, stripe.PaymentMethod, stripe.Price, stripe.Product, stripe.Refund),
    *(stripe.Subscription, stripe.billing_portal.Session, stripe.checkout.Session),
)
PAYMENTS = make("http://127.0.0.1:9", Path("unused"))
OF_THE_STAND_IN = {"id", "object", "asked", "subscription_for_filter"}
"""What it notes for itself, and what every object has."""


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


def test_the_stand_in_is_asked_and_answers_as_stripe_is(vendor: StripeServer, tmp_path: Path) -> None:
    payments = make(vendor.url, tmp_path)
    discount = Discount("HALF", percent_off=50, months=3)
    first = payments.create_checkout(request_of("chk_1", discount=discount))
    vendor.pay(first.reference)
    state = payments.fetch(first.reference)
    assert state.subscription is not None
    assert state.customer_reference is not None
    vendor.renew(state.subscription.reference)
    payments.cancel(state.subscription.reference, at_period_end=True)
    payments.undo_cancel(state.subscription.reference)
    payments.change_plan(state.subscription.reference, DEARER, "change_1")
    paid = payments.fetch(first.reference).payments
    payments.refund(paid[0].reference, 1_000_000, "refund_1")
    vendor.dispute(paid[0].reference, "needs_response")
    payments.charge_saved(charge_of("chk_2", state.customer_reference))
    payments.invoices(state.customer_reference)
    payments.saved_method(state.customer_reference)
    payments.portal_url(state.customer_reference, "https://haven.example/billing")
    payments.cancel(state.subscription.reference, at_period_end=False)
    assert [wrong for one in vendor.requests for wrong in strangers(one[0], one[1], one[2])] == []
    kinds: dict[str, Any] = {kind.OBJECT_NAME: kind for kind in KINDS}
    unknown = {
        f"{one['object']}.{name}"
        for one in vendor.objects.values()
        for name in one
        if name not in kinds[one["object"]].__annotations__ and name not in OF_THE_STAND_IN
    }
    assert unknown == set()


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("processing", "processing"),
        ("succeeded", "paid"),
        ("requires_payment_method", "declined"),
        ("canceled", "declined"),
    ],
)
def test_money_on_its_way_is_neither_open_nor_paid(status: str, state: str, tmp_path: Path) -> None:
    waiting = session(status="complete", payment_status="unpaid", payment_intent=intent(status=status))
    waiting["payment_status"] = "paid" if state == "paid" else "unpaid"
    answers = {"GET /v1/checkout/sessions/cs_1": waiting, f"GET /v1/payment_intents/{PI}": intent(status=status)}
    with Recorder(answers) as recorder:
        payments = make(recorder.url, tmp_path)
        found = [payments.fetch("cs_1"), payments.fetch(PI)]
    assert [one.checkout_state for one in found] == [state, state]
    assert [len(one.payments) for one in found] == [int(state == "paid")] * 2


def test_lists_are_read_beyond_the_first_hundred(vendor: StripeServer, tmp_path: Path) -> None:
    payments = make(vendor.url, tmp_path)
    reference = payments.create_checkout(request_of("chk_0")).reference
    vendor.pay(reference)
    (sub,) = vendor.all("subscription")
    for number in range(1, 250):
        vendor.objects[f"sub_{number}"] = sub | {"id": f"sub_{number}", "metadata": {"checkout": f"chk_{number}"}}
    vendor.put("subscription", "sub", **{**sub, "id": "sub_of_somebody_else", "metadata": {}})
    vendor.requests.clear()
    assert {one.checkout_key for one in payments.list_subscriptions()} == {f"chk_{number}" for number in range(250)}
    assert [asked.get("limit") for _, _, asked, _ in vendor.requests] == ["100"] * 3


def test_missed_events_come_oldest_first_beyond_the_first_hundred(vendor: StripeServer, tmp_path: Path) -> None:
    payments = make(vendor.url, tmp_path)
    for number in range(230):
        vendor.tell("charge.refunded", {"id": f"ch_{number}", "object": "charge", "payment_intent": f"pi_{number}"})
    found = [payments.parse_event(*one) for one in payments.unseen(START)]
    assert [one.payment_reference for one in found] == [f"pi_{number}" for number in range(230)]


def test_a_refund_is_given_once_even_when_stripe_forgot_its_key(vendor: StripeServer, tmp_path: Path) -> None:
    payments = make(vendor.url, tmp_path)
    reference = payments.create_checkout(request_of("chk_1", 10_000_000, None)).reference
    vendor.pay(reference)
    payment = payments.fetch(reference).payments[0].reference
    first = payments.refund(payment, 2_000_000, "refund_1")
    vendor.forget_keys()
    assert payments.refund(payment, 2_000_000, "refund_1") == first
    assert payments.fetch(reference).payments[0].refunded_micros == 2_000_000
    vendor.objects[first]["status"] = "failed"
    assert payments.refund(payment, 2_000_000, "refund_1") != first  # what failed is tried again


def test_money_in_another_currency_is_told_apart_and_returned_whole(vendor: StripeServer, tmp_path: Path) -> None:
    payments = make(vendor.url, tmp_path)
    single = payments.create_checkout(request_of("chk_1", 10_000_000, None)).reference
    plan = payments.create_checkout(request_of("chk_2")).reference
    for reference in (single, plan):
        vendor.pay(reference)
    for one in vendor.objects.values():
        if one["object"] in ("invoice", "payment_intent"):
            one["currency"] = "jpy" if one.get("amount") == 1000 else "eur"
    for reference, paid in ((single, "1000 JPY"), (plan, "29.00 EUR")):
        seen = payments.fetch(reference)
        (foreign,) = seen.foreign
        assert (seen.payments, seen.checkout_state, foreign.paid, foreign.is_returned) == ((), "paid", paid, False)
        for _ in range(2):
            payments.refund(foreign.reference, None, f"foreign:{foreign.reference}")
            vendor.forget_keys()
        (after,) = payments.fetch(reference).foreign
        assert after.is_returned
    assert len(vendor.all("refund")) == 2


def test_what_cost_nothing_cannot_be_given_back(vendor: StripeServer, tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as caught:
        make(vendor.url, tmp_path).refund("in_1", 1_000_000, "refund_1")
    assert (caught.value.code, caught.value.permanent, vendor.requests) == ("nothing_paid", True, [])


NAMES = st.sampled_from([HEADER, HEADER.title(), "STRIPE-SIGNATURE"])


@given(headers=st.dictionaries(NAMES | st.text(max_size=20), st.text(max_size=100), max_size=4), body=st.binary())
def test_no_headers_raise_anything_but_bad_signature(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadSignature):
        PAYMENTS.parse_event(headers, body)


def test_two_signature_headers_are_none(tmp_path: Path) -> None:
    good = sign(SECRET, int(datetime.now(UTC).timestamp()), b"{}")
    with pytest.raises(ProviderError, match="unknown shape"):
        PAYMENTS.parse_event({HEADER: good}, b"{}")
    with pytest.raises(BadSignature):
        PAYMENTS.parse_event({HEADER: good, HEADER.title(): good}, b"{}")


def test_without_a_webhook_secret_nothing_is_believed_or_signed(vendor: StripeServer, tmp_path: Path) -> None:
    payments = make(vendor.url, tmp_path, stripe_webhook_secret="")
    with pytest.raises(BadSignature):
        payments.parse_event({HEADER: sign("", int(datetime.now(UTC).timestamp()), b"{}")}, b"{}")
    with pytest.raises(ProviderError, match="STRIPE_WEBHOOK_SECRET is missing"):
        payments.unseen(START)


def test_pages_of_a_domain_of_ones_own_are_allowed(vendor: StripeServer, tmp_path: Path) -> None:
    origins = make(vendor.url, tmp_path, stripe_checkout_origins="https://pay.example.com").checkout_origins
    assert origins[0] == "https://checkout.stripe.com"
    assert origins[-1] == "https://pay.example.com"


def test_settings_are_checked_with_the_products(tmp_path: Path) -> None:
    options = options_of("https://api.stripe.com", stripe_webhook_secret="", stripe_prices="x")
    problems = Stripe.problems(options, Settings(_env_file=None, data_dir=tmp_path / "var"))
    assert [problem.split()[0] for problem in problems] == ["STRIPE_WEBHOOK_SECRET", "STRIPE_PRICES:"]


def test_a_part_of_a_payment_is_disputed_and_lost(vendor: StripeServer, tmp_path: Path) -> None:
    payments = make(vendor.url, tmp_path)
    made = payments.create_checkout(request_of("chk_1", 20_000_000, None))
    vendor.pay(made.reference)
    (paid,) = payments.fetch(made.reference).payments
    payments.refund(paid.reference, 3_000_000, "refund_1")
    for status, word, gone in (("needs_response", "open", 3_000_000), ("lost", "lost", 8_000_000)):
        vendor.dispute(paid.reference, status, 500)
        (seen,) = payments.fetch(made.reference).payments
        assert (seen.dispute, seen.disputed_micros, seen.refunded_micros) == (word, 5_000_000, gone)
