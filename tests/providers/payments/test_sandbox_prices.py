"""The sandbox's arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.money import MICROS_PER_CENT
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Discount
from clawhaven.providers.payments.sandbox_prices import (
    check_request,
    discounted,
    fee_of,
    pack,
    period_of,
    share_of,
    unpack,
)
from tests.contracts.payments import request_of

FIRST = datetime(2027, 1, 31, 12, tzinfo=UTC)
PRICE = 29_000_000


def test_a_fee_is_a_card_fee_in_whole_cents() -> None:
    assert fee_of(29_000_000) == 1_140_000  # 84.1 cents and 30
    assert fee_of(10_000_000) == 590_000
    assert fee_of(0) == 0
    assert fee_of(100_000) == 100_000  # never more than was paid


@given(st.integers(0, 10**6), st.floats(-1e6, 1e8), st.integers(1, 10**8))
def test_a_share_is_whole_cents_within_the_amount(cents: int, rest: float, total: int) -> None:
    share = share_of(cents * MICROS_PER_CENT, rest, total)
    assert 0 <= share <= cents * MICROS_PER_CENT
    assert share % MICROS_PER_CENT == 0


def test_shares_of_half_a_period() -> None:
    assert share_of(29_000_000, 15 * 86_400, 30 * 86_400) == 14_500_000
    assert share_of(10_000, 1, 2) == 10_000  # half a cent is rounded up


def test_periods_keep_their_day_of_the_month() -> None:
    starts = [period_of(FIRST, cycle, "month")[0] for cycle in range(4)]
    assert [f"{start:%d.%m.}" for start in starts] == ["31.01.", "28.02.", "31.03.", "30.04."]
    assert period_of(FIRST, 1, "quarter")[1] == datetime(2027, 7, 31, 12, tzinfo=UTC)
    leap = datetime(2028, 2, 29, tzinfo=UTC)
    assert period_of(leap, 0, "year")[1] == datetime(2029, 2, 28, tzinfo=UTC)
    assert period_of(leap, 3, "year")[1] == datetime(2032, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("discount", "paid"),
    [
        (None, [PRICE, PRICE, PRICE, PRICE]),
        (Discount("A", percent_off=50, months=0), [PRICE // 2, PRICE, PRICE, PRICE]),
        (Discount("B", percent_off=50, months=2), [PRICE // 2, PRICE // 2, PRICE, PRICE]),
        (Discount("C", percent_off=100, months=None), [0, 0, 0, 0]),
        (Discount("D", amount_off_micros=40_000_000, months=1), [0, PRICE, PRICE, PRICE]),
        (Discount("E", percent_off=33, months=0), [19_430_000, PRICE, PRICE, PRICE]),
    ],
)
def test_a_discount_is_valid_for_its_months(discount: Discount | None, paid: list[int]) -> None:
    starts = [period_of(FIRST, cycle, "month")[0] for cycle in range(4)]
    assert [discounted(PRICE, discount, FIRST, start) for start in starts] == paid
    assert unpack(pack(discount)) == discount


@pytest.mark.parametrize(
    "more",
    [
        {"trial_days": -1},
        {"trial_days": 1000},
        {"interval": None, "trial_days": 3},
        {"interval": None, "discount": Discount("A", percent_off=10)},
        {"discount": Discount("A")},
        {"discount": Discount("A", percent_off=10, amount_off_micros=10_000)},
        {"discount": Discount("A", percent_off=0)},
        {"discount": Discount("A", percent_off=101)},
        {"discount": Discount("A", percent_off=10, months=-1)},
        {"discount": Discount("A", amount_off_micros=10_001)},
    ],
)
def test_what_no_vendor_sells_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ProviderError) as caught:
        check_request(request_of("chk_1", **more))  # type: ignore[arg-type]
    assert caught.value.permanent
    assert caught.value.code.startswith("invalid_")
