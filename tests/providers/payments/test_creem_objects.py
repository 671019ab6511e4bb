"""Creem's documented objects and events, read into the port's shapes."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import PaymentEvent, PaymentKind
from clawhaven.providers.payments import creem_objects as objects

NOW = datetime(2024, 10, 20, tzinfo=UTC)
START = datetime(2024, 10, 12, 11, 58, 38, tzinfo=UTC)
START_MS = 1728734318000
DAY_MS = 86_400_000

TRANSACTION = {
    "id": "tran_5yMaWzAl3jxuGJMCOrYWwk",
    "object": "transaction",
    "amount": 1000,
    "amount_paid": 1210,
    "currency": "USD",
    "type": "invoice",
    "tax_country": "NL",
    "tax_amount": 210,
    "status": "paid",
    "refunded_amount": None,
    "order": "ord_4aDwWXjMLpes4Kj4XqNnUA",
    "subscription": "sub_6pC2lNB6joCRQIZ1aMrTpi",
    "period_start": START_MS,
    "period_end": 1731412718000,
    "created_at": 1728734327109,
    "mode": "test",
}
PRODUCT = {
    "id": "prod_d1AY2Sadk9YAvLI0pj97f",
    "price": 1000,
    "currency": "USD",
    "billing_type": "recurring",
    "billing_period": "every-month",
    "tax_mode": "exclusive",
}
SUBSCRIPTION = {
    "id": "sub_6pC2lNB6joCRQIZ1aMrTpi",
    "object": "subscription",
    "product": PRODUCT,
    "customer": {"id": "cust_1OcIK1GEuVvXZwD19tjq2z", "object": "customer"},
    "status": "active",
    "last_transaction_id": "tran_5yMaWzAl3jxuGJMCOrYWwk",
    "current_period_start_date": "2024-10-12T11:58:38.000Z",
    "current_period_end_date": "2024-11-12T11:58:38.000Z",
    "canceled_at": None,
    "created_at": "2024-10-12T11:58:45.425Z",
    "updated_at": "2024-10-12T11:58:45.425Z",
    "metadata": {"checkout": "cho_1"},
}
CHECKOUT = {
    "id": "ch_4l0N34kxo16AhRKUHFUuXr",
    "object": "checkout",
    "request_id": "cho_1",
    "status": "completed",
    "order": {"id": "ord_4aDwWXjMLpes4Kj4XqNnUA", "transaction": "tran_5yMaWzAl3jxuGJMCOrYWwk", "status": "paid"},
    "product": PRODUCT,
    "subscription": SUBSCRIPTION,
}
AROUND = {"transaction": TRANSACTION, "subscription": SUBSCRIPTION, "checkout": CHECKOUT, "order": CHECKOUT["order"]}


def event(event_type: str, about: Any) -> bytes:
    """An event as Creem sends it."""
    return json.dumps(
        {"id": "evt_5WHHcZPv7VS0YUsberIuOz", "eventType": event_type, "created_at": 1728734325927, "object": about}
    ).encode()


@pytest.mark.parametrize(
    ("event_type", "kind"),
    [
        ("subscription.active", PaymentKind.SUBSCRIPTION_CHANGED),
        ("subscription.paid", PaymentKind.PAYMENT_SUCCEEDED),
        ("subscription.trialing", PaymentKind.SUBSCRIPTION_CHANGED),
        ("subscription.update", PaymentKind.SUBSCRIPTION_CHANGED),
        ("subscription.canceled", PaymentKind.SUBSCRIPTION_CHANGED),
        ("subscription.scheduled_cancel", PaymentKind.SUBSCRIPTION_CHANGED),
        ("subscription.expired", PaymentKind.SUBSCRIPTION_CHANGED),
        ("subscription.paused", PaymentKind.SUBSCRIPTION_CHANGED),
        ("subscription.past_due", PaymentKind.PAYMENT_FAILED),
        ("subscription.unpaid", PaymentKind.PAYMENT_FAILED),
        ("subscription.renewed", PaymentKind.OTHER),
    ],
)
def test_events_of_a_subscription(event_type: str, kind: PaymentKind) -> None:
    assert objects.event_of(event(event_type, SUBSCRIPTION)) == PaymentEvent(
        event_id="evt_5WHHcZPv7VS0YUsberIuOz",
        kind=kind,
        vendor_type=event_type,
        checkout_reference=None,
        subscription_reference="sub_6pC2lNB6joCRQIZ1aMrTpi",
        created_at=datetime(2024, 10, 12, 11, 58, 45, 927_000, tzinfo=UTC),
        payment_reference="tran_5yMaWzAl3jxuGJMCOrYWwk",
        checkout_key="cho_1",
    )


def test_a_strange_one_of_a_list_hides_no_other() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert objects.listed_subscription({"id": "sub_1", "status": "active"}, {}, now) is None
    found = objects.listed_subscription({**SUBSCRIPTION, "status": "paused"}, {}, now)
    assert found is not None
    assert found.is_paused


def test_a_completed_checkout_names_everything() -> None:
    found = objects.event_of(event("checkout.completed", CHECKOUT))
    assert found.kind is PaymentKind.CHECKOUT_COMPLETED
    assert found.checkout_reference == "ch_4l0N34kxo16AhRKUHFUuXr"
    assert found.subscription_reference == "sub_6pC2lNB6joCRQIZ1aMrTpi"
    assert found.payment_reference == "tran_5yMaWzAl3jxuGJMCOrYWwk"
    assert found.checkout_key == "cho_1"
    named = objects.event_of(event("checkout.completed", {**CHECKOUT, "metadata": {}, "request_id": "cho_2"}))
    assert named.checkout_key == "cho_2"
    for strange in (7, "", "x" * 201, None):
        bad = {**CHECKOUT, "metadata": {"checkout": strange}, "request_id": strange}
        assert objects.event_of(event("checkout.completed", bad)).checkout_key is None
    single = {key: value for key, value in CHECKOUT.items() if key != "subscription"} | {"order": None}
    bare = objects.event_of(event("checkout.completed", single))
    assert (bare.subscription_reference, bare.payment_reference) == (None, None)


@pytest.mark.parametrize(
    ("event_type", "kind"),
    [("refund.created", PaymentKind.REFUNDED), ("dispute.created", PaymentKind.DISPUTED)],
)
def test_refunds_and_disputes_name_their_payment(event_type: str, kind: PaymentKind) -> None:
    found = objects.event_of(event(event_type, {"id": "ref_1", "object": event_type.partition(".")[0], **AROUND}))
    assert (found.kind, found.payment_reference) == (kind, "tran_5yMaWzAl3jxuGJMCOrYWwk")
    assert found.checkout_reference == "ch_4l0N34kxo16AhRKUHFUuXr"
    assert found.subscription_reference == "sub_6pC2lNB6joCRQIZ1aMrTpi"
    alone = objects.event_of(event(event_type, {"id": "ref_1", "transaction": {"id": "tran_1"}}))
    assert (alone.checkout_reference, alone.payment_reference) == (None, "tran_1")


@pytest.mark.parametrize("event_type", ["credits.granted", "customer_credits.exhausted", "something.new"])
def test_events_we_do_not_know_are_other(event_type: str) -> None:
    found = objects.event_of(event(event_type, {"id": "cct_1", "object": "customer_credits_grant"}))
    assert (found.kind, found.checkout_reference, found.payment_reference) == (PaymentKind.OTHER, None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b'{"id": "evt_1", "eventType": "checkout.completed", "created_at": 1}',
        b'{"id": 1, "eventType": "checkout.completed", "created_at": 1, "object": {}}',
        b'{"id": "evt_1", "eventType": 1, "created_at": 1, "object": {}}',
        b'{"id": "evt_1", "eventType": "x", "created_at": 1e300, "object": {}}',
        b'{"id": "evt_1", "eventType": "x", "created_at": "soon", "object": {}}',
        b'{"id": "evt_1", "eventType": "x", "created_at": null, "object": {}}',
        b'{"id": "evt_1", "eventType": "x", "created_at": NaN, "object": {}}',
    ],
)
def test_a_signed_event_of_another_shape_is_a_permanent_error(body: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        objects.event_of(body)
    assert (caught.value.permanent, caught.value.code) == (True, "malformed_event")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "object", "order", "status"]), inner),
    max_leaves=8,
)


@given(_JSON, _JSON, st.sampled_from(["checkout", "subscription", "transaction", "refund"]), _JSON)
def test_no_event_raises_anything_else(event_id: Any, created_at: Any, what: str, about: Any) -> None:
    inner = about | {"object": what} if isinstance(about, dict) else about
    body = json.dumps({"id": event_id, "eventType": "x", "created_at": created_at, "object": inner}).encode()
    with suppress(ProviderError):
        assert objects.event_of(body).kind is PaymentKind.OTHER


@pytest.mark.parametrize(
    ("money", "net"),
    [
        ({"amount": 1000, "amount_paid": 1210, "tax_amount": 210}, 1000),
        ({"amount": 1000, "amount_paid": 1000, "tax_amount": 174}, 1000),
        ({"amount": 1000, "amount_paid": 1000, "tax_amount": None}, 1000),
        ({"amount": 1000, "amount_paid": 605, "tax_amount": 105, "discount_amount": 500}, 500),
        ({"amount": 500, "amount_paid": 605, "tax_amount": 105, "discount_amount": 500}, 500),
        ({"amount": 1000, "amount_paid": 500, "tax_amount": 87, "discount_amount": 500}, 500),
        ({"amount": 1000, "amount_paid": None, "discount_amount": 400}, 600),
        ({"amount": 1000, "amount_paid": 0, "tax_amount": 0, "discount_amount": 1000}, 0),
        ({"amount": 1000.0, "amount_paid": 1210.0, "tax_amount": 210.0}, 1000),
    ],
)
def test_a_tax_on_top_is_left_out_and_one_within_stays(money: dict[str, Any], net: int) -> None:
    assert objects.net_cents({"amount": 0, **money}) == net


@pytest.mark.parametrize(
    ("status", "refunded", "expected"),
    [("paid", None, 0), ("refunded", None, 1000), ("refunded", 1210, 1000), ("partialRefund", 605, 500)],
)
def test_what_was_given_back_of_it(status: str, refunded: int | None, expected: int) -> None:
    assert objects.refunded_cents({**TRANSACTION, "status": status, "refunded_amount": refunded}) == expected
    assert objects.refunded_cents({**TRANSACTION, "status": "partially_refunded", "refunded_amount": 605}) == 500


def test_a_payment_as_documented() -> None:
    (found,) = objects.payments_of([TRANSACTION], START)
    assert (found.reference, found.amount_micros) == ("tran_5yMaWzAl3jxuGJMCOrYWwk", 10_000_000)
    assert (found.period_start, found.period_end) == (START, datetime(2024, 11, 12, 11, 58, 38, tzinfo=UTC))
    assert (found.refunded_micros, found.dispute, found.fee_micros) == (0, None, None)
    assert found.paid_at == datetime(2024, 10, 12, 11, 58, 47, 109_000, tzinfo=UTC)


@pytest.mark.parametrize("status", ["pending", "declined", "uncollectible", "canceled", "void", [], {}])
def test_what_was_not_paid_is_no_payment(status: Any) -> None:
    assert objects.payments_of([{**TRANSACTION, "status": status}], START) == ()


@pytest.mark.parametrize("status", ["chargedBack", "chargeback"])
def test_a_chargeback_is_open_until_the_money_is_gone(status: str) -> None:
    (is_open,) = objects.payments_of([{**TRANSACTION, "status": status}], START)
    assert (is_open.dispute, is_open.refunded_micros) == ("open", 0)
    (lost,) = objects.payments_of([{**TRANSACTION, "status": status, "refunded_amount": 1210}], START)
    assert (lost.dispute, lost.refunded_micros) == ("lost", 10_000_000)


def numbered(number: int, start_day: float, end_day: float, created_day: float) -> dict[str, Any]:
    """A subscription's transaction; days count from the first period's start."""
    first, last = (START_MS + int(day * DAY_MS) for day in (start_day, end_day))
    created = START_MS + int(created_day * DAY_MS)
    return {**TRANSACTION, "id": f"tran_{number}", "period_start": first, "period_end": last, "created_at": created}


def test_prorations_pay_for_no_period() -> None:
    found = objects.payments_of(
        [numbered(4, 31, 61, 31.1), numbered(1, 0, 31, 0), numbered(2, 10, 31, 10), numbered(3, 0, 31, 11)],
        START + timedelta(days=31),
    )
    assert [one.reference for one in found] == ["tran_1", "tran_2", "tran_3", "tran_4"]
    assert [one.period_start for one in found] == [START, None, None, START + timedelta(days=31)]


def test_a_change_that_begins_a_new_period_pays_for_it() -> None:
    middle = START + timedelta(days=10)
    found = objects.payments_of([numbered(1, 0, 31, 0), numbered(2, 10, 41, 10)], middle)
    assert [one.period_start for one in found] == [START, middle]


def test_a_single_payment_has_no_period() -> None:
    (found,) = objects.payments_of([{**TRANSACTION, "type": "payment"}], None)
    assert (found.period_start, found.period_end) == (None, None)


@pytest.mark.parametrize(
    ("status", "state", "is_ending"),
    [
        ("active", "active", False),
        ("trialing", "trialing", False),
        ("past_due", "past_due", False),
        ("unpaid", "unpaid", False),
        ("canceled", "canceled", False),
        ("scheduled_cancel", "active", True),
        ("paused", "active", False),
        ("incomplete", "incomplete", False),
        ("expired", "past_due", False),
        ("something_new", "active", False),
    ],
)
def test_states_of_a_subscription(status: str, state: str, is_ending: bool) -> None:
    plans = {PRODUCT["id"]: "personal"}
    found = objects.subscription_of({**SUBSCRIPTION, "status": status}, plans, NOW, None)
    assert (found.state, found.cancel_at_period_end) == (state, is_ending)
    assert (found.plan, found.amount_micros) == ("personal", 10_000_000)
    assert (found.trial_end is not None) == (state == "trialing")


def test_a_period_that_ended_without_a_payment_is_past_due_after_a_day() -> None:
    end = datetime(2024, 11, 12, 11, 58, 38, tzinfo=UTC)
    assert objects.state_of(SUBSCRIPTION, end + timedelta(hours=23)) == "active"
    assert objects.state_of(SUBSCRIPTION, end + timedelta(hours=25)) == "past_due"
    assert objects.state_of({**SUBSCRIPTION, "status": "paused"}, end + timedelta(hours=1)) == "unpaid"


@pytest.mark.parametrize("status", ["something_new", "active", "scheduled_cancel"])
def test_a_new_word_never_runs_on_unpaid(status: str) -> None:
    end = datetime(2024, 11, 12, 11, 58, 38, tzinfo=UTC)
    told = {**SUBSCRIPTION, "status": status}
    assert objects.state_of(told, end + timedelta(hours=23)) == "active"
    assert objects.state_of(told, end + timedelta(hours=25)) == "past_due"
    assert objects.state_of({**told, "current_period_end_date": None}, end + timedelta(days=99)) == "active"


def test_an_expired_one_may_still_be_paid() -> None:
    end = datetime(2024, 11, 12, 11, 58, 38, tzinfo=UTC)
    for at in (end - timedelta(days=1), end + timedelta(hours=1), end + timedelta(days=60)):
        assert objects.state_of({**SUBSCRIPTION, "status": "expired"}, at) == "past_due"


def test_a_subscription_with_ids_for_objects_and_few_dates() -> None:
    bare = {"id": "sub_1", "status": "canceled", "product": "prod_x", "created_at": "2024-10-12T11:58:45.425Z"}
    found = objects.subscription_of(bare, {}, NOW, None)
    assert (found.plan, found.amount_micros, found.state) == (None, None, "canceled")
    assert found.current_period_start == found.current_period_end


@pytest.mark.parametrize(
    "change",
    [
        {"status": None},
        {"current_period_start_date": "soon"},
        {"current_period_start_date": None, "created_at": None},
        {"id": None},
        {"product": {"id": "prod_1", "price": 10.5}},
        {"product": {"id": "prod_1", "price": -1}},
        {"product": {"id": "prod_1", "price": "10"}},
        {"product": {"id": "prod_1", "price": float("nan")}},
        {"product": {"id": "prod_1", "price": True}},
        {"status": ["active"]},
    ],
)
def test_another_shape_is_an_unexpected_answer(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as caught:
        objects.subscription_of({**SUBSCRIPTION, **change}, {}, NOW, None)
    assert (caught.value.permanent, caught.value.code) == (False, "unexpected_answer")


def test_an_unseen_change_is_told_once_per_change() -> None:
    since = datetime(2024, 10, 12, tzinfo=UTC)
    first = objects.unseen_subscription(SUBSCRIPTION, since)
    assert first is not None
    assert objects.event_of(first).subscription_reference == SUBSCRIPTION["id"]
    assert objects.unseen_subscription(SUBSCRIPTION, NOW) is None
    changed = objects.unseen_subscription({**SUBSCRIPTION, "updated_at": "2024-10-19T00:00:00Z"}, since)
    assert changed is not None
    assert objects.event_of(changed).event_id != objects.event_of(first).event_id
    owing = objects.unseen_subscription({**SUBSCRIPTION, "status": "past_due"}, since)
    assert owing is not None
    assert objects.event_of(owing).kind is PaymentKind.PAYMENT_FAILED


@pytest.mark.parametrize(
    ("metadata", "key"),
    [({"checkout": "cho_1", "account": "acc_1"}, "cho_1"), ({"checkout": 7}, None), ({}, None), (None, None)],
)
def test_an_unseen_subscription_names_its_checkout(metadata: dict[str, Any] | None, key: str | None) -> None:
    made = objects.unseen_subscription({**SUBSCRIPTION, "metadata": metadata}, datetime(2024, 10, 12, tzinfo=UTC))
    assert made is not None
    told = objects.event_of(made)
    assert (told.checkout_key, told.is_made) == (key, True)
    assert b"acc_1" not in made


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, None),
        ({"created_at": 1729400000000}, PaymentKind.PAYMENT_SUCCEEDED),
        ({"created_at": 1729400000000, "subscription": None}, None),
        ({"created_at": 1729400000000, "status": "declined"}, None),
        ({"status": "refunded"}, PaymentKind.REFUNDED),
        ({"status": "partialRefund", "refunded_amount": 100, "subscription": None}, PaymentKind.REFUNDED),
        ({"status": "chargedBack"}, PaymentKind.DISPUTED),
    ],
)
def test_unseen_transactions(change: dict[str, Any], kind: PaymentKind | None) -> None:
    made = objects.unseen_transaction({**TRANSACTION, **change}, datetime(2024, 10, 19, tzinfo=UTC))
    assert (made and objects.event_of(made).kind) == kind
