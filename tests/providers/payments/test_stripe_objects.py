"""Stripe's objects in our words, made of Stripe's own example objects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import ForeignPayment, PaymentKind
from clawhaven.providers.payments import stripe_objects as objects
from tests.fakes.stripe_recorder import shaped
from tests.fakes.stripe_twins import CUS, END, PI, START, SUB, charge, intent, invoice, price, subscription, when


def plan_of(product: object, _: object = None) -> str | None:
    return str(product).removeprefix("clawhaven_") if product else None


def read(raw: dict[str, Any]) -> Any:
    return objects.subscription_of(raw, plan_of, None)


def paid(*invoices: dict[str, Any], trial_end: int = 0, charges: Any = (), disputes: Any = None) -> Any:
    return objects.Receipts(
        list(charges), {key: objects.Dispute(word) for key, word in (disputes or {}).items()}, plan_of
    ).of_invoices(list(invoices), trial_end)


def event(kind: str, told: dict[str, Any]) -> Any:
    return objects.event_of(json.dumps(shaped("event", id="evt_1", type=kind, data={"object": told})).encode())


# Subscriptions


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *((word, word) for word in ("incomplete", "trialing", "active", "past_due", "canceled", "unpaid")),
        ("incomplete_expired", "canceled"),
        ("paused", "unpaid"),
    ],
)
def test_states_are_the_ports(theirs: str, ours: str) -> None:
    assert read(subscription(status=theirs)).state == ours


def test_an_unknown_state_is_an_unexpected_answer() -> None:
    with pytest.raises(ProviderError) as caught:
        read(subscription(status="dreaming"))
    assert (caught.value.code, caught.value.permanent) == ("unexpected_answer", False)


def test_a_subscription_is_read_from_its_item() -> None:
    found = read(subscription())
    assert (found.reference, found.plan, found.amount_micros) == (SUB, "personal", 29_000_000)
    assert (found.current_period_start, found.current_period_end) == (when(START), when(END))
    assert (found.cancel_at_period_end, found.trial_end) == (False, None)
    assert read(subscription(trial_end=END)).trial_end == when(END)


@pytest.mark.parametrize("more", [{"cancel_at_period_end": True}, {"cancel_at": END}])
def test_both_ways_to_cancel_later_count(more: dict[str, Any]) -> None:
    assert read(subscription(**more)).cancel_at_period_end


def test_a_subscription_without_an_item_is_an_unexpected_answer() -> None:
    with pytest.raises(ProviderError, match="did not answer as Stripe does"):
        read(subscription(items={"object": "list", "data": []}))


# Payments


def test_an_invoice_pays_for_the_period_of_its_line() -> None:
    (found,) = paid(invoice(), charges=[charge(amount_refunded=900)])
    assert (found.reference, found.amount_micros, found.refunded_micros) == (PI, 29_000_000, 9_000_000)
    assert (found.period_start, found.period_end, found.plan) == (when(START), when(END), "personal")
    assert (found.fee_micros, found.paid_at, found.dispute) == (1_140_000, when(START), None)


def test_a_proration_pays_for_no_period() -> None:
    raw = invoice(billing_reason="subscription_update")
    raw["lines"]["data"][0]["parent"]["subscription_item_details"]["proration"] = True
    (found,) = paid(raw)
    assert (found.amount_micros, found.period_start, found.plan) == (29_000_000, None, None)


def test_a_trials_invoice_is_no_payment() -> None:
    free = invoice(amount_paid=0, total=0, payments={"object": "list", "data": []})
    assert paid(free, trial_end=END) == ()
    (coupon,) = paid(free)  # without a trial it is a period that a coupon made free
    assert (coupon.reference, coupon.amount_micros, coupon.period_start) == ("in_1", 0, when(START))


@pytest.mark.parametrize("status", ["draft", "open", "void", "uncollectible"])
def test_what_was_not_paid_is_no_payment(status: str) -> None:
    assert paid(invoice(status=status)) == ()


def test_payments_are_told_oldest_first() -> None:
    newest = invoice(id="in_2", payments={"object": "list", "data": []})
    assert [one.reference for one in paid(newest, invoice())] == [PI, "in_2"]


def test_of_two_payments_for_one_invoice_the_first_stands_for_the_period() -> None:
    parts = [
        shaped("invoice_payment", status=status, amount_paid=cents, payment={"payment_intent": name})
        for name, cents, status in (("pi_1", 2000, "paid"), ("pi_2", 900, "paid"), ("pi_3", None, "canceled"))
    ]
    first, second = paid(invoice(payments={"object": "list", "data": parts}))
    assert (first.reference, first.amount_micros, first.period_start) == ("pi_1", 20_000_000, when(START))
    assert (second.reference, second.amount_micros, second.period_start) == ("pi_2", 9_000_000, None)


def disputed(**more: Any) -> objects.Dispute:
    return objects.dispute_of({"status": "lost", "amount": 1000, "currency": "usd", **more})


@pytest.mark.parametrize(
    ("disputes", "refunded", "gone", "told"),
    [
        ([disputed()], 0, 10_000_000, 10_000_000),
        ([disputed()], 900, 19_000_000, 10_000_000),
        ([disputed()], 2_500, 29_000_000, 10_000_000),
        ([disputed(amount=4_000)], 0, 29_000_000, 40_000_000),
        ([disputed(), disputed(amount=500)], 0, 15_000_000, 15_000_000),
        ([disputed(), disputed(status="needs_response")], 0, 10_000_000, 10_000_000),
        ([disputed(status="won")], 900, 9_000_000, 10_000_000),
        ([disputed(currency="eur")], 0, 29_000_000, None),
        ([disputed(), disputed(currency="eur")], 0, 29_000_000, None),
    ],
)
def test_of_a_dispute_only_what_it_is_about_is_lost(
    disputes: list[objects.Dispute], refunded: int, gone: int, told: int | None
) -> None:
    worst = objects.weightiest(disputes)
    assert worst is not None
    receipts = objects.Receipts([charge(amount_refunded=refunded)], {PI: worst}, plan_of)
    (found,) = receipts.of_invoices([invoice()], 0)
    assert (found.refunded_micros, found.disputed_micros) == (gone, told)


def test_without_its_charge_nobody_tells_what_a_dispute_took() -> None:
    assert objects.weightiest([]) is None
    (found,) = objects.Receipts([], {PI: disputed()}, plan_of).of_invoices([invoice()], 0)
    assert found.refunded_micros is None


def test_a_lost_dispute_is_money_gone() -> None:
    (found,) = paid(invoice(), charges=[charge()], disputes={PI: "lost"})
    assert (found.dispute, found.refunded_micros) == ("lost", 29_000_000)


def test_a_payment_in_another_currency_is_not_taken_for_dollars() -> None:
    intent = {"id": PI, "status": "succeeded", "amount_received": 2900, "created": START, "currency": "jpy"}
    receipts = objects.Receipts([], {}, plan_of)
    assert (receipts.of_intent(intent), tuple(paid(invoice(currency="eur")))) == (None, ())
    assert receipts.foreign_of_intent(intent) == ForeignPayment(PI, "2900 JPY")
    told = {one.paid for one in receipts.foreign_of_invoices([invoice(currency="eur"), invoice(currency="kwd")])}
    assert told == {"29.00 EUR", "2.900 KWD"}
    gone = objects.Receipts([charge(refunded=True)], {}, plan_of).foreign_of_invoices([invoice(currency="eur")])
    assert [one.is_returned for one in gone] == [True]
    dollars = receipts.of_intent({**intent, "currency": "usd"})
    assert dollars is not None
    assert dollars.amount_micros == 29_000_000


def test_a_fee_in_another_currency_is_not_told() -> None:
    booked = {"object": "balance_transaction", "fee": 99, "currency": "eur"}
    (found,) = paid(invoice(), charges=[charge(balance_transaction=booked)])
    assert found.fee_micros is None


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("won", "won"),
        ("lost", "lost"),
        *((one, "inquiry") for one in ("warning_needs_response", "warning_under_review")),
        *((one, "inquiry_closed") for one in ("warning_closed", "prevented")),
        *((one, "open") for one in ("needs_response", "under_review", "appeal_under_review")),
    ],
)
def test_disputes_are_open_won_lost_or_only_asked_about(status: str, word: str) -> None:
    assert objects.dispute_of({"status": status}).state == word in objects.DISPUTES


def test_a_strange_one_of_a_list_hides_no_other() -> None:
    assert objects.listed_subscription({"id": "sub_1", "status": "active", "items": {"data": []}}, plan_of) is None
    assert objects.dispute_of({"status": "needs_response", "evidence_details": {"due_by": 60}}).due_at == objects.at(60)
    assert objects.dispute_of({"status": "lost", "evidence_details": {"due_by": 60}}).due_at is None
    assert [objects.is_cut_short(one) for one in ({"has_more": True}, {"has_more": False}, {}, None)] == [
        True,
        False,
        False,
        False,
    ]


def test_what_can_still_be_paid_has_a_page() -> None:
    owed = invoice(status="open", amount_remaining=2900, hosted_invoice_url="https://invoice.stripe.com/i/owed")
    assert objects.pay_url_of([invoice(), owed]) == "https://invoice.stripe.com/i/owed"
    for settled in (invoice(), owed | {"attempted": False}, owed | {"amount_remaining": 0}, owed | {"status": "void"}):
        assert objects.pay_url_of([settled]) is None


# Events

SESSION = shaped("checkout.session", id="cs_1", subscription=SUB)
BILL = invoice(parent={"type": "subscription_details", "subscription_details": {"subscription": SUB}})
DISPUTE = {"object": "dispute", "id": "du_1", "payment_intent": PI}


@pytest.mark.parametrize(
    ("kind", "told", "word", "references"),
    [
        ("checkout.session.completed", SESSION, "checkout_completed", ("cs_1", SUB)),
        ("checkout.session.async_payment_succeeded", SESSION, "payment_succeeded", ("cs_1", SUB)),
        ("checkout.session.async_payment_failed", SESSION, "payment_failed", ("cs_1", SUB)),
        ("checkout.session.expired", SESSION, "checkout_expired", ("cs_1", SUB)),
        ("customer.subscription.updated", subscription(), "subscription_changed", (None, SUB)),
        ("customer.subscription.deleted", subscription(), "subscription_changed", (None, SUB)),
        ("customer.subscription.trial_will_end", subscription(), "trial_ending", (None, SUB)),
        ("invoice.paid", BILL, "payment_succeeded", (None, SUB)),
        ("invoice.payment_failed", BILL, "payment_failed", (None, SUB)),
        ("invoice.payment_action_required", BILL, "payment_failed", (None, SUB)),
        ("invoice.paid", invoice(parent=None) | {"subscription": SUB}, "payment_succeeded", (None, SUB)),
        ("charge.refunded", charge(), "refunded", (None, None)),
        ("charge.dispute.created", DISPUTE, "disputed", (None, None)),
        ("charge.dispute.closed", DISPUTE, "disputed", (None, None)),
        ("payment_intent.succeeded", intent(metadata={"charge": "chk_2"}), "payment_succeeded", (PI, None)),
        ("payment_intent.succeeded", intent(), "other", (None, None)),
        ("price.created", price(), "other", (None, None)),
        ("a.kind.of.the.future", {}, "other", (None, None)),
    ],
)
def test_each_event_names_what_to_read_again(
    kind: str, told: dict[str, Any], word: str, references: tuple[str | None, str | None]
) -> None:
    found = event(kind, told)
    assert (found.event_id, found.vendor_type, found.kind) == ("evt_1", kind, PaymentKind(word))
    assert (found.checkout_reference, found.subscription_reference) == references
    assert found.created_at == when(1_234_567_890)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("checkout.session.completed", SESSION | {"metadata": {"checkout": "chk_1"}}),
        ("customer.subscription.created", subscription()),
        ("invoice.paid", invoice(parent={"subscription_details": {"metadata": {"checkout": "chk_1"}}})),
        ("payment_intent.succeeded", intent(metadata={"checkout": "chk_1", "charge": "chk_1"})),
        ("charge.refunded", charge(metadata={"checkout": "chk_1"})),
    ],
)
def test_an_event_names_our_checkout_where_stripe_keeps_it(kind: str, told: dict[str, Any]) -> None:
    assert event(kind, told).checkout_key == "chk_1"
    assert event(kind, told | {"metadata": {}, "parent": None}).checkout_key is None


@pytest.mark.parametrize("kind", ["charge.refunded", "refund.updated", "refund.failed", "charge.dispute.updated"])
def test_refunds_and_disputes_name_their_payment(kind: str) -> None:
    assert event(kind, charge()).payment_reference == PI
    assert event(kind, charge(payment_intent={"id": PI, "object": "payment_intent"})).payment_reference == PI


def test_every_event_we_ask_for_has_a_meaning() -> None:
    assert len(set(objects.EVENTS)) == len(objects.EVENTS)
    told = {"id": "x_1", "customer": CUS, "metadata": {"charge": "chk_1"}}
    assert PaymentKind.OTHER not in {event(kind, told).kind for kind in objects.EVENTS}


def outcome(body: bytes) -> Any:
    try:
        objects.event_of(body)
    except ProviderError as error:
        return error.code, error.permanent
    return "an event"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(
    body=st.binary(max_size=200)
    | JSON.map(lambda found: json.dumps(found).encode())
    | st.fixed_dictionaries(
        {"id": JSON, "type": JSON | st.sampled_from(objects.EVENTS), "created": JSON, "data": JSON},
    ).map(lambda found: json.dumps(found).encode())
    | st.tuples(
        st.sampled_from(objects.EVENTS), JSON, st.sampled_from(["subscription", "parent", "metadata", "id"])
    ).map(
        lambda parts: json.dumps(
            {"id": "evt_1", "type": parts[0], "created": 1, "data": {"object": {parts[2]: parts[1]}}}
        ).encode()
    )
)
def test_a_signed_body_of_any_shape_is_an_event_or_a_permanent_error(body: bytes) -> None:
    assert outcome(body) in ("an event", ("malformed_event", True))


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"id":"evt_1"}', b"null", b"\xff", b"9" * 10_000])
def test_a_strange_body_is_a_permanent_error(body: bytes) -> None:
    assert outcome(body) == ("malformed_event", True)


def test_an_event_leads_back_by_our_own_id() -> None:
    told = {"id": "pi_1", "metadata": {"checkout": "cho_1", "charge": "1"}}
    body = {"id": "evt_1", "type": "payment_intent.succeeded", "created": 1, "data": {"object": told}}
    assert objects.event_of(json.dumps(body).encode()).checkout_key == "cho_1"
    for wrong in ({}, {"checkout": 5}, {"checkout": "x" * 201}, None):
        told["metadata"] = wrong
        assert objects.event_of(json.dumps(body).encode()).checkout_key is None


def test_what_disputes_cost_is_kept_too_and_comes_back_when_it_is_given_back() -> None:
    def moved(fee: int, currency: str = "usd") -> dict[str, Any]:
        return {"object": "balance_transaction", "amount": -2900, "fee": fee, "currency": currency}

    lost = {"status": "lost", "balance_transactions": [moved(1500)]}
    won = {"status": "won", "balance_transactions": [moved(1500), moved(-1500)]}
    assert objects.dispute_fee_of(lost) == 1500
    assert objects.dispute_fee_of(won) == 0
    assert objects.dispute_fee_of({"status": "lost", "balance_transactions": [moved(1500, "eur"), "txn_1"]}) == 0
    assert objects.dispute_fee_of({"status": "needs_response"}) == 0
    for fee, kept in ((1500, 16_140_000), (0, 1_140_000)):
        receipts = objects.Receipts([charge()], {PI: objects.Dispute("lost", fee=fee)}, plan_of)
        (found,) = receipts.of_invoices([invoice()], 0)
        assert found.fee_micros == kept
    untold = objects.Receipts([charge(balance_transaction=None)], {PI: objects.Dispute("lost", fee=1500)}, plan_of)
    assert untold.of_invoices([invoice()], 0)[0].fee_micros is None, "the larger part of it is not known"
