"""Money is integers: parsing and printing lose nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.money import format_usd, from_cents, parse_usd, to_cents


@given(st.integers(min_value=0, max_value=999_999_999 * 1_000_000))
def test_printed_money_reads_back_the_same(micros: int) -> None:
    assert parse_usd(format_usd(micros)) == micros


@given(st.integers(min_value=-(10**12), max_value=10**12))
def test_cents_go_there_and_back(cents: int) -> None:
    assert to_cents(from_cents(cents)) == cents


def test_prints_as_many_decimals_as_needed() -> None:
    assert [format_usd(n) for n in (29_000_000, 25_610, 1, 0, -123)] == [
        "$29.00",
        "$0.02561",
        "$0.000001",
        "$0.00",
        "-$0.000123",
    ]


def test_a_fraction_of_a_cent_is_no_cents() -> None:
    with pytest.raises(ValueError, match="whole number of cents"):
        to_cents(10_001)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1e3",
        "1.1234567",
        "٣",
        "1.٣",
        "NaN",
        "1_000",
        "1.2.3",
        "0x10",
        "9" * 10,
        "1,0,0",
        "1,000,5",
        "1.000.5",
    ],
)
def test_what_is_not_an_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_usd(text)


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        *(("12.50", 1250), ("12,50", 1250), ("2,5", 250), ("0,05", 5), ("$1,000", 100_000), ("1,000.50", 100_050)),
        *(("1.000,50", 100_050), ("1,234,567.00", 123_456_700), ("1000,00", 100_000), ("29.", 2900), ("29,", 2900)),
    ],
)
def test_a_comma_is_read_as_its_writer_means_it(text: str, cents: int) -> None:
    assert parse_usd(text) == from_cents(cents)
