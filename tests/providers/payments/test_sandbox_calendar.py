"""The sandbox's calendar over months: renewals, retries, trials, ends; at once from several sides, and killed."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clawhaven.core.clock import Clock
from clawhaven.ports.payments import Discount, PaymentKind, VendorState
from clawhaven.providers.payments.sandbox import Sandbox
from tests.contracts.payments import START, charge_of, request_of
from tests.providers.payments.test_sandbox import make
from tests.providers.payments.test_sandbox_courier import run_and_kill

FIRST = datetime(2027, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class CalendarClock(Clock):
    """Stands at FIRST and moves only when told to."""

    def now(self) -> datetime:
        return FIRST + self._offset


@pytest.fixture
def clock() -> Clock:
    return CalendarClock()


@pytest.fixture
def vendor(tmp_path: Path, clock: Clock) -> Sandbox:
    return make(tmp_path, clock=clock)


def begin(vendor: Sandbox, key: str = "chk_1", **more: Any) -> str:
    """A paid monthly subscription's checkout."""
    reference = vendor.create_checkout(request_of(key, **more)).reference
    vendor.complete(reference, "paid")
    return reference


def pass_time(vendor: Sandbox, clock: Clock, by: timedelta) -> None:
    """Time passes and the calendar is followed."""
    clock.advance(by)
    vendor.advance()


def state_of(vendor: Sandbox, checkout: str) -> str:
    """The subscription's word."""
    found = vendor.fetch(checkout).subscription
    assert found is not None
    return found.state


def use(vendor: Sandbox, checkout: str, card: Any) -> None:
    """The customer saves a card."""
    customer = vendor.fetch(checkout).customer_reference
    assert customer is not None
    vendor.use_card(customer, card)


def told(vendor: Sandbox) -> list[str]:
    """Vendor types of every event so far."""
    return [json.loads(body)["type"] for _, body in vendor.unseen(START)]


def test_a_year_passes_unattended(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    clock.advance(timedelta(days=370))
    assert vendor.advance() == 12
    assert vendor.advance() == 0
    state = vendor.fetch(checkout)
    starts = [payment.period_start for payment in state.payments]
    assert [f"{start:%d.%m.}" for start in starts if start][:5] == ["31.01.", "28.02.", "31.03.", "30.04.", "31.05."]
    assert len(set(starts)) == 13
    for before, after in zip(state.payments, state.payments[1:], strict=False):
        assert before.period_end == after.period_start == after.paid_at
    assert state.subscription is not None
    assert state.subscription.current_period_start == starts[-1]
    assert state.subscription.current_period_end == datetime(2028, 2, 29, 12, tzinfo=UTC)
    assert len(vendor.invoices(str(state.customer_reference))) == 13


def test_a_failed_renewal_is_tried_three_times_and_then_unpaid_but_not_over(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    use(vendor, checkout, "declined")
    pass_time(vendor, clock, 28 * DAY)
    seen = [(state_of(vendor, checkout), told(vendor).count("payment.failed"))]
    for days in (2, 1, 4, 1, 6, 1, 5):
        pass_time(vendor, clock, days * DAY)
        seen.append((state_of(vendor, checkout), told(vendor).count("payment.failed")))
    late = ("past_due", "past_due", "past_due", "past_due", "past_due", "past_due", "unpaid", "unpaid")
    assert seen == list(zip(late, (1, 1, 2, 2, 3, 3, 4, 4), strict=True))
    assert len(vendor.fetch(checkout).payments) == 1


def test_a_retry_with_a_better_card_recovers(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    use(vendor, checkout, "needs_3ds")
    pass_time(vendor, clock, 28 * DAY)
    assert (state_of(vendor, checkout), told(vendor)[-2]) == ("past_due", "payment.action_required")
    use(vendor, checkout, "works")
    pass_time(vendor, clock, 2 * DAY)
    assert state_of(vendor, checkout) == "past_due"
    pass_time(vendor, clock, DAY)
    state = vendor.fetch(checkout)
    assert state.subscription is not None
    assert (state.subscription.state, state.subscription.pay_url) == ("active", None)
    assert state.payments[1].period_start == state.subscription.current_period_start == FIRST + 28 * DAY
    assert state.payments[1].paid_at == FIRST + 31 * DAY


def test_who_stays_unpaid_owes_the_running_period_only(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    use(vendor, checkout, "declined")
    pass_time(vendor, clock, timedelta(days=100))  # 28 February, 31 March, 30 April have passed
    state = vendor.fetch(checkout)
    assert state.subscription is not None
    assert (state.subscription.state, len(state.payments)) == ("unpaid", 1)
    assert f"{state.subscription.current_period_start:%d.%m.}" == "30.04."
    invoices = vendor.invoices(str(state.customer_reference))
    assert [invoice.state for invoice in invoices] == ["open", "void", "void", "paid"]
    assert state.subscription.pay_url == invoices[0].page_url
    vendor.pay_invoice(invoices[0].reference)
    paid = vendor.fetch(checkout)
    assert paid.subscription is not None
    assert (paid.subscription.state, paid.subscription.pay_url) == ("active", None)
    assert paid.payments[1].period_start == state.subscription.current_period_start
    assert vendor.advance() == 0


def test_a_trial_is_announced_and_becomes_a_paid_period(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor, trial_days=14)
    pass_time(vendor, clock, 10 * DAY)
    assert told(vendor) == ["checkout.completed", "subscription.created"]
    pass_time(vendor, clock, DAY)
    pass_time(vendor, clock, DAY)
    assert told(vendor)[2:] == ["subscription.trial_ending"]
    headers, body = vendor.unseen(START)[-1]
    assert vendor.parse_event(headers, body).kind is PaymentKind.TRIAL_ENDING
    pass_time(vendor, clock, 2 * DAY)
    state = vendor.fetch(checkout)
    assert state.subscription is not None
    assert state.subscription.state == "active"
    assert [(one.period_start, one.amount_micros) for one in state.payments] == [(FIRST + 14 * DAY, 29_000_000)]
    assert state.subscription.current_period_end == datetime(2027, 3, 14, 12, tzinfo=UTC)


def test_a_trial_with_a_coupon_begins_it_with_the_first_paid_period(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor, trial_days=40, discount=Discount("HALF", percent_off=50, months=2))
    pass_time(vendor, clock, timedelta(days=140))
    amounts = [one.amount_micros for one in vendor.fetch(checkout).payments]
    assert amounts == [14_500_000, 14_500_000, 29_000_000, 29_000_000]


def test_a_trial_that_was_cancelled_ends_unpaid_and_unannounced(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor, trial_days=14)
    found = vendor.fetch(checkout).subscription
    assert found is not None
    vendor.cancel(found.reference, at_period_end=True)
    pass_time(vendor, clock, 15 * DAY)
    assert (state_of(vendor, checkout), vendor.fetch(checkout).payments) == ("canceled", ())
    assert "subscription.trial_ending" not in told(vendor)


def test_a_cancelled_subscription_ends_with_its_period(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    found = vendor.fetch(checkout).subscription
    assert found is not None
    vendor.cancel(found.reference, at_period_end=True)
    pass_time(vendor, clock, 27 * DAY)
    assert state_of(vendor, checkout) == "active"
    pass_time(vendor, clock, timedelta(days=300))
    assert (state_of(vendor, checkout), len(vendor.fetch(checkout).payments)) == ("canceled", 1)
    assert told(vendor).count("subscription.canceled") == 1
    assert vendor.list_subscriptions() == []


def test_what_nobody_pays_for_a_day_expires(vendor: Sandbox, clock: Clock) -> None:
    left, refused = (vendor.create_checkout(request_of(f"chk_{number}")).reference for number in (1, 2))
    vendor.complete(refused, "declined")
    checkout = begin(vendor, "chk_3")
    use(vendor, checkout, "needs_3ds")
    waiting = vendor.charge_saved(charge_of("chk_4", str(vendor.fetch(checkout).customer_reference))).reference
    use(vendor, checkout, "declined")
    declined = vendor.charge_saved(charge_of("chk_5", str(vendor.fetch(checkout).customer_reference))).reference
    pass_time(vendor, clock, timedelta(hours=23))
    assert "checkout.expired" not in told(vendor)
    pass_time(vendor, clock, timedelta(hours=1))
    pass_time(vendor, clock, DAY)
    assert told(vendor).count("checkout.expired") == 3
    for reference in (left, refused, waiting):
        vendor.complete(reference, "paid")
        assert (vendor.fetch(reference).checkout_state, vendor.fetch(reference).payments) == ("expired", ())
    assert (vendor.fetch(checkout).checkout_state, vendor.fetch(declined).checkout_state) == ("paid", "declined")


def test_several_calendars_at_once_bill_each_period_once(tmp_path: Path, vendor: Sandbox, clock: Clock) -> None:
    checkouts = [begin(vendor, f"chk_{number}") for number in range(5)]
    clock.advance(timedelta(days=100))
    others = [make(tmp_path, clock=clock) for _ in range(4)]
    done: list[int] = []
    threads = [threading.Thread(target=lambda one=one: done.append(one.advance())) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 15
    for checkout in checkouts:
        assert len({one.period_start for one in vendor.fetch(checkout).payments}) == 4
        assert len(vendor.fetch(checkout).payments) == 4


def test_killed_anywhere_every_period_has_one_payment_and_its_events(tmp_path: Path) -> None:
    vendor = make(tmp_path)
    checkouts = [begin(vendor, f"chk_{number}") for number in range(20)]
    late = datetime.now(UTC) + timedelta(days=200)
    for _ in range(3):
        before = renewals(tmp_path)
        code = f"import datetime; vendor.advance(datetime.datetime.fromisoformat({late.isoformat()!r}))"
        worker = run_and_kill(tmp_path, "", code)
        while renewals(tmp_path) < before + 10 and worker.poll() is None:
            time.sleep(0.005)
        worker.kill()
        assert worker.wait(60) in (-signal.SIGKILL, 0)
        if worker.returncode == 0:
            break
    vendor.advance(late)
    states = {checkout: vendor.fetch(checkout) for checkout in checkouts}
    assert all(len(state.payments) == len(periods(state)) == 7 for state in states.values())
    events = [vendor.parse_event(headers, body) for headers, body in vendor.unseen(START)]
    paid = Counter(event.payment_reference for event in events if event.kind is PaymentKind.PAYMENT_SUCCEEDED)
    assert paid == Counter(one.reference for state in states.values() for one in state.payments)


def test_the_background_follows_the_calendar(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    stop = threading.Event()
    thread = vendor.start(stop)
    clock.advance(timedelta(days=40))
    until = time.monotonic() + 30
    while len(vendor.fetch(checkout).payments) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    stop.set()
    thread.join(30)
    assert len(vendor.fetch(checkout).payments) == 2


def renewals(tmp_path: Path) -> int:
    """Payments in the vendor's file at this moment."""
    with sqlite3.connect(tmp_path / "var" / "sandbox-payments.sqlite3") as db:
        return int(db.execute("SELECT count(*) FROM payments").fetchone()[0])


def periods(state: VendorState) -> set[datetime | None]:
    """The periods that were paid."""
    return {one.period_start for one in state.payments}
