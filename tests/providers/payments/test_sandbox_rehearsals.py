"""What an operator can make happen at the vendor."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from clawhaven.core.clock import Clock
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import PaymentKind
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_trouble import Trouble
from tests.contracts.payments import START, charge_of, request_of
from tests.providers.payments.test_sandbox import make, subscribe, subscription
from tests.providers.payments.test_sandbox_courier import StillClock


@pytest.fixture
def clock() -> Clock:
    return StillClock()


@pytest.fixture
def vendor(tmp_path: Path, clock: Clock) -> Sandbox:
    return make(tmp_path, clock=clock)


def told(vendor: Sandbox) -> list[str]:
    """Vendor types of every event so far."""
    return [json.loads(body)["type"] for _, body in vendor.unseen(START)]


def test_a_dispute_is_opened_once_and_decided_once(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    payment = vendor.fetch(checkout).payments[0].reference
    with pytest.raises(ProviderError) as caught:
        vendor.dispute(payment, "won")
    assert caught.value.code == "no_dispute"
    for verdict in ("open", "open", "won", "won"):
        vendor.dispute(payment, verdict)  # type: ignore[arg-type]
    assert told(vendor)[3:] == ["dispute.opened", "dispute.closed"]
    kept = vendor.fetch(checkout).payments[0]
    assert (kept.dispute, kept.refunded_micros) == ("won", 0)
    for again in ("open", "lost"):
        with pytest.raises(ProviderError):
            vendor.dispute(payment, again)  # type: ignore[arg-type]
    vendor.refund(payment, 29_000_000, "refund_1")


def test_a_disputed_payment_is_not_refunded_and_a_refunded_one_not_disputed(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    first = vendor.fetch(checkout).payments[0].reference
    vendor.refund(first, 1_000_000, "refund_1")
    vendor.dispute(first, "open")
    with pytest.raises(ProviderError) as caught:
        vendor.refund(first, 1_000_000, "refund_2")
    assert caught.value.code == "payment_disputed"
    vendor.dispute(first, "lost")
    lost = vendor.fetch(checkout).payments[0]
    assert (lost.dispute, lost.refunded_micros) == ("lost", 29_000_000)
    vendor.renew(subscription(vendor, checkout).reference)
    second = vendor.fetch(checkout).payments[1].reference
    vendor.refund_rest(second)
    assert vendor.fetch(checkout).payments[1].refunded_micros == 29_000_000
    with pytest.raises(ProviderError) as caught:
        vendor.dispute(second, "open")
    assert caught.value.code == "nothing_to_dispute"
    with pytest.raises(ProviderError):
        vendor.refund_rest(second)


def test_what_is_owed_is_paid_and_nothing_owed_is_fine(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    reference = subscription(vendor, checkout).reference
    vendor.pay_owed(reference)
    assert len(vendor.fetch(checkout).payments) == 1
    for _ in range(4):
        vendor.fail_renewal(reference)
    late = subscription(vendor, checkout)
    assert (late.state, bool(late.pay_url)) == ("unpaid", True)
    vendor.pay_owed(reference)
    assert (subscription(vendor, checkout).state, subscription(vendor, checkout).pay_url) == ("active", None)


def test_an_invoice_page_takes_the_money_once(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    vendor.fail_renewal(subscription(vendor, checkout).reference)
    url = subscription(vendor, checkout).pay_url
    assert url is not None
    invoice = url.rsplit("/", 1)[1]
    page = vendor.invoice(invoice)
    assert page is not None
    assert (page.is_payable, page.invoice.amount_micros, page.email) == (True, 29_000_000, "user@example.com")
    vendor.pay_invoice(invoice, "declined")
    assert subscription(vendor, checkout).state == "past_due"
    for _ in range(2):
        vendor.pay_invoice(invoice)
    vendor.pay_invoice(invoice, "declined")
    assert subscription(vendor, checkout).state == "active"
    assert len(vendor.fetch(checkout).payments) == 2
    assert told(vendor).count("payment.failed") == 2
    assert vendor.invoice("sinv_nothing") is None


def test_a_portal_lasts_an_hour_and_changes_the_card(vendor: Sandbox, clock: Clock) -> None:
    customer = str(vendor.fetch(subscribe(vendor)).customer_reference)
    portal = vendor.portal_url(customer, "http://127.0.0.1/billing").rsplit("/", 1)[1]
    page = vendor.portal(portal)
    assert page is not None
    assert (page.card, page.return_url, len(page.invoices)) == ("works", "http://127.0.0.1/billing", 1)
    vendor.use_portal_card(portal, "declined")
    method = vendor.saved_method(customer)
    assert method is not None
    assert method.last4 == "0341"
    with pytest.raises(ProviderError) as caught:
        vendor.use_portal_card(portal, "gold")  # type: ignore[arg-type]
    assert caught.value.code == "unknown_card"
    clock.advance(timedelta(hours=1))
    assert vendor.portal(portal) is None


def test_the_vendors_calendar_moves_on_and_signatures_stay_of_today(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    real = vendor.now()
    vendor.push_clock(timedelta(days=32))
    vendor.push_clock(timedelta(days=32))
    assert vendor.now() - real == timedelta(days=64)
    assert len(vendor.fetch(checkout).payments) == 3
    for headers, body in vendor.unseen(START):
        event = vendor.parse_event(headers, body)
        assert event.created_at <= real + timedelta(seconds=1)
    with pytest.raises(ProviderError) as caught:
        vendor.push_clock(timedelta(days=-1))
    assert caught.value.code == "invalid_days"


def test_the_stage_shows_what_can_be_rehearsed(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    single = vendor.create_checkout(request_of("chk_2", 10_000_000, None)).reference
    vendor.complete(single, "paid")
    vendor.fail_renewal(subscription(vendor, checkout).reference)
    vendor.make_trouble(Trouble(is_down=True))
    stage = vendor.stage()
    (line,) = stage.subscriptions
    assert (line.state, line.is_owing, line.card, len(line.payments)) == ("past_due", True, "works", 1)
    assert line.payments[0].left_micros == 29_000_000
    (sale,) = stage.sales
    assert (sale.email, sale.is_charge, sale.payment.left_micros) == ("user@example.com", False, 10_000_000)
    assert (stage.trouble.is_down, stage.ahead, stage.waiting_events) == (True, timedelta(), 7)


def test_events_of_a_payment_name_it(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    vendor.renew(subscription(vendor, checkout).reference)
    events = [vendor.parse_event(headers, body) for headers, body in vendor.unseen(START)]
    paid = [event.payment_reference for event in events if event.kind is PaymentKind.PAYMENT_SUCCEEDED]
    assert paid == [payment.reference for payment in vendor.fetch(checkout).payments]


def test_a_single_payment_is_disputed_and_refunded_like_any_other(vendor: Sandbox) -> None:
    checkout = vendor.create_checkout(request_of("chk_2", 10_000_000, None)).reference
    vendor.complete(checkout, "paid")
    charge = vendor.charge_saved(charge_of("chk_3", str(vendor.fetch(checkout).customer_reference))).reference
    charged, paid = (one.payment for one in vendor.stage().sales)
    assert [one.is_charge for one in vendor.stage().sales] == [True, False]
    vendor.dispute(paid.reference, "open")
    vendor.dispute(paid.reference, "lost")
    vendor.refund_rest(charged.reference)
    assert vendor.fetch(checkout).payments[0].dispute == "lost"
    assert vendor.fetch(charge).payments[0].refunded_micros == charged.amount_micros
    assert [one.payment.left_micros for one in vendor.stage().sales] == [0, 0]


def test_a_refund_that_does_not_arrive_is_the_vendors_again(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    payment = vendor.fetch(checkout).payments[0].reference
    vendor.fail_refunds(payment)
    before = told(vendor)
    assert "refund.failed" not in before, "nothing was given back"
    for number in (1, 2):
        vendor.refund(payment, 4_000_000, f"key_{number}")
        vendor.refund(payment, 25_000_000, f"rest_{number}")
        assert vendor.fetch(checkout).payments[0].refunded_micros == 29_000_000
        vendor.fail_refunds(payment)
        vendor.fail_refunds(payment)
        assert vendor.fetch(checkout).payments[0].refunded_micros == 0
    assert told(vendor)[len(before) :] == ["refund.created", "refund.created", "refund.failed"] * 2


def test_an_open_dispute_has_a_day_until_which_it_is_answered(vendor: Sandbox, clock: Clock) -> None:
    checkout = subscribe(vendor)
    payment = vendor.fetch(checkout).payments[0].reference
    vendor.dispute(payment, "open")
    assert vendor.fetch(checkout).payments[0].dispute_due_at == clock.now() + timedelta(days=7)
    vendor.dispute(payment, "won")
    assert vendor.fetch(checkout).payments[0].dispute_due_at is None


def test_who_owed_before_the_pause_owes_no_period_that_begins_in_it(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    reference = subscription(vendor, checkout).reference
    vendor.fail_renewal(reference)
    vendor.pause(reference)
    assert subscription(vendor, checkout).state == "past_due"
    vendor.push_clock(timedelta(days=40))
    paused = subscription(vendor, checkout)
    assert (paused.state, paused.is_paused, paused.pay_url) == ("active", True, None)
    assert len(vendor.fetch(checkout).payments) in (1, 2), "what was owed may have been collected, nothing else"
    assert vendor.list_subscriptions()[0].seen == paused


def test_a_part_of_a_payment_is_disputed_and_the_rest_can_be_given_back(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    payment = vendor.fetch(checkout).payments[0].reference
    vendor.refund(payment, 4_000_000, "refund_1")
    for part in (0, 25_000_001):
        with pytest.raises(ProviderError) as caught:
            vendor.dispute(payment, "open", part)
        assert caught.value.code == "nothing_to_dispute"
    vendor.dispute(payment, "open", 20_000_000)
    seen = vendor.fetch(checkout).payments[0]
    assert (seen.dispute, seen.disputed_micros, seen.refunded_micros) == ("open", 20_000_000, 4_000_000)
    vendor.dispute(payment, "lost")
    seen = vendor.fetch(checkout).payments[0]
    assert (seen.dispute, seen.disputed_micros, seen.refunded_micros) == ("lost", 20_000_000, 24_000_000)
    with pytest.raises(ProviderError):
        vendor.refund(payment, 5_000_001, "refund_2")
    vendor.refund_rest(payment)
    assert vendor.fetch(checkout).payments[0].refunded_micros == 29_000_000
