"""Changes of plan to the cent, credit at the vendor, coupons over time, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clawhaven.core.clock import Clock
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Discount, Price, VendorState
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_trouble import Trouble
from tests.contracts.payments import CHEAPER, DEARER
from tests.providers.payments.test_sandbox import make
from tests.providers.payments.test_sandbox_calendar import begin, pass_time, use

FIRST = datetime(2027, 4, 1, tzinfo=UTC)
YEARLY = Price("yearly", "Yearly", 299_000_000, "year")
PERSONAL = Price("personal", "Personal", 29_000_000, "month")


class AprilClock(Clock):
    """Stands at the beginning of a month of 30 days and moves only when told to."""

    def now(self) -> datetime:
        return FIRST + self._offset


@pytest.fixture
def clock() -> Clock:
    return AprilClock()


@pytest.fixture
def vendor(tmp_path: Path, clock: Clock) -> Sandbox:
    return make(tmp_path, clock=clock)


def amounts(state: VendorState) -> list[tuple[int, bool]]:
    """What was paid, and whether for a period."""
    return [(one.amount_micros, one.period_start is not None) for one in state.payments]


def move(vendor: Sandbox, checkout: str, price: Price, key: str = "change_1") -> VendorState:
    """Change the plan of the checkout's subscription."""
    before = vendor.fetch(checkout).subscription
    assert before is not None
    vendor.change_plan(before.reference, price, key)
    return vendor.fetch(checkout)


def test_half_a_month_of_a_dearer_plan_costs_half_the_difference(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    pass_time(vendor, clock, timedelta(days=15))
    state = move(vendor, checkout, DEARER)
    assert amounts(state) == [(29_000_000, True), (15_000_000, False)]
    assert state.subscription is not None
    assert (state.subscription.current_period_start, state.subscription.plan) == (FIRST, "metered")
    pass_time(vendor, clock, timedelta(days=15))
    assert amounts(vendor.fetch(checkout))[2:] == [(59_000_000, True)]
    assert [one.plan for one in vendor.fetch(checkout).payments] == ["personal", None, "metered"]


def test_a_cheaper_plan_leaves_a_credit_that_the_next_invoices_use_up(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    pass_time(vendor, clock, timedelta(days=15))
    move(vendor, checkout, Price("tiny", "Tiny", 8_000_000, "month"))  # 10.50 to the good
    pass_time(vendor, clock, timedelta(days=80))
    paid = amounts(vendor.fetch(checkout))
    assert paid == [(29_000_000, True), (0, True), (5_500_000, True), (8_000_000, True)]


def test_there_and_back_at_once_costs_nothing_in_the_end(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    pass_time(vendor, clock, timedelta(days=10))
    move(vendor, checkout, DEARER, "change_1")
    move(vendor, checkout, PERSONAL, "change_2")
    pass_time(vendor, clock, timedelta(days=20))
    assert amounts(vendor.fetch(checkout)) == [(29_000_000, True), (20_000_000, False), (9_000_000, True)]


def test_another_interval_begins_a_period_now(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    pass_time(vendor, clock, timedelta(days=15))
    state = move(vendor, checkout, YEARLY)
    assert amounts(state) == [(29_000_000, True), (284_500_000, True)]
    assert state.subscription is not None
    assert state.subscription.current_period_start == state.payments[1].period_start == FIRST + timedelta(days=15)
    assert state.subscription.current_period_end == datetime(2028, 4, 16, tzinfo=UTC)
    pass_time(vendor, clock, timedelta(days=300))
    back = move(vendor, checkout, PERSONAL, "change_2")
    assert amounts(back)[2:] == [(0, True)]
    pass_time(vendor, clock, timedelta(days=33))
    assert amounts(vendor.fetch(checkout))[3][1]


def test_a_change_in_a_trial_moves_no_money(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor, trial_days=10)
    state = move(vendor, checkout, DEARER)
    assert state.payments == ()
    assert state.subscription is not None
    assert (state.subscription.state, state.subscription.amount_micros) == ("trialing", 59_000_000)
    pass_time(vendor, clock, timedelta(days=10))
    assert amounts(vendor.fetch(checkout)) == [(59_000_000, True)]


@pytest.mark.parametrize(("card", "code"), [("declined", "card_declined"), ("needs_3ds", "authentication_required")])
def test_a_change_that_is_not_paid_did_not_happen(vendor: Sandbox, card: str, code: str) -> None:
    checkout = begin(vendor)
    before = vendor.fetch(checkout)
    vendor.make_trouble(Trouble(card))  # type: ignore[arg-type]
    with pytest.raises(ProviderError) as caught:
        move(vendor, checkout, DEARER)
    assert (caught.value.permanent, caught.value.code) == (True, code)
    assert vendor.fetch(checkout) == before
    assert vendor.trouble().next_card is None
    assert amounts(move(vendor, checkout, DEARER))[1:] == [(30_000_000, False)]  # the key was not used up


def test_a_cheaper_plan_needs_no_card(vendor: Sandbox) -> None:
    checkout = begin(vendor)
    use(vendor, checkout, "declined")
    state = move(vendor, checkout, CHEAPER)
    assert state.subscription is not None
    assert state.subscription.plan == CHEAPER.plan


def test_a_key_makes_one_change(vendor: Sandbox) -> None:
    checkout = begin(vendor)
    move(vendor, checkout, DEARER, "change_1")
    move(vendor, checkout, PERSONAL, "change_2")
    state = move(vendor, checkout, DEARER, "change_1")  # said again, long after
    assert state.subscription is not None
    assert state.subscription.plan == "personal"
    with pytest.raises(ProviderError) as caught:
        move(vendor, checkout, CHEAPER, "change_1")
    assert caught.value.code == "idempotency_mismatch"


@pytest.mark.parametrize(
    "price", [Price("p", "P", 0, "month"), Price("p", "P", 15_000, "month"), Price("p", "P", 10_000, "day")]
)
def test_impossible_prices_are_refused(vendor: Sandbox, price: Price) -> None:
    with pytest.raises(ProviderError) as caught:
        move(vendor, begin(vendor), price)
    assert caught.value.code in ("invalid_amount", "invalid_interval")


def test_who_owes_or_has_ended_changes_nothing(vendor: Sandbox) -> None:
    checkout = begin(vendor)
    found = vendor.fetch(checkout).subscription
    assert found is not None
    vendor.fail_renewal(found.reference)
    with pytest.raises(ProviderError) as caught:
        move(vendor, checkout, DEARER)
    assert caught.value.code == "invoice_open"
    vendor.end(found.reference)
    with pytest.raises(ProviderError) as caught:
        move(vendor, checkout, DEARER)
    assert caught.value.code == "subscription_ended"
    ended = vendor.fetch(checkout).subscription
    assert ended is not None
    assert ended.pay_url is None
    assert [one.state for one in vendor.invoices(str(vendor.fetch(checkout).customer_reference))] == ["void", "paid"]


def test_a_change_keeps_the_coupon_for_its_months(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor, discount=Discount("HALF", percent_off=50, months=2))
    pass_time(vendor, clock, timedelta(days=15))
    assert amounts(move(vendor, checkout, DEARER)) == [(14_500_000, True), (7_500_000, False)]
    pass_time(vendor, clock, timedelta(days=50))
    assert amounts(vendor.fetch(checkout))[2:] == [(29_500_000, True), (59_000_000, True)]


def test_a_voided_invoice_gives_its_credit_back(vendor: Sandbox, clock: Clock) -> None:
    checkout = begin(vendor)
    pass_time(vendor, clock, timedelta(days=15))
    move(vendor, checkout, Price("small", "Small", 20_000_000, "month"))  # 4.50 to the good
    use(vendor, checkout, "declined")
    pass_time(vendor, clock, timedelta(days=16))
    customer = str(vendor.fetch(checkout).customer_reference)
    assert vendor.invoices(customer)[0].amount_micros == 15_500_000
    pass_time(vendor, clock, timedelta(days=31))  # unpaid, and the next period has begun
    assert [one.amount_micros for one in vendor.invoices(customer)] == [15_500_000, 15_500_000, 29_000_000]
