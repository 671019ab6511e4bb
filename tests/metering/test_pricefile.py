"""Files of prices: ours stays as it was released, an operator's is read strictly and says what is wrong with it."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.metering import builtin_prices
from clawhaven.metering import pricefile as files
from clawhaven.metering.prices import Price, Rates

SHIPPED = Path(files.__file__).with_name("prices.toml")
RELEASED = Path(__file__).with_name("released-prices.txt")
KNOWN = {price.model: price for price in builtin_prices().every()}
VENDORS = ("anthropic", "openai")
HOUSE = """
    [[price]]
    model = "house-1"
    upstream = "openai"
    effective_from = 2026-11-17
    input = "0.50"
    output = "2"
    context_window = 128_000
    max_output_tokens = 8_192
"""
CHANGED = """
    [[price]]
    model = "gpt-4o"
    effective_from = 2026-12-01
    input = "2.00"
    output = "8.00"
    cache_read = "1.00"
    cache_write_5m = "2.00"
    cache_write_1h = "2.00"
"""
GONE = """
    [[price]]
    model = "gpt-4o"
    effective_from = 2026-12-01
    is_offered = false
"""


def read(text: str) -> list[Price]:
    return files.read_own_prices(text, KNOWN, VENDORS)


def test_a_row_once_released_never_changes():
    """Calls were charged by it. A correction is a new row; a new row gets its line in released-prices.txt."""
    released = dict(line.split() for line in RELEASED.read_text().splitlines() if not line.startswith("#"))
    rows = {price.id: files.digest(price) for price in builtin_prices().every()}
    assert {name: rows.get(name) for name in released} == released, "changed or gone"
    missing = [f"{name} {rows[name]}" for name in rows if name not in released]
    assert not missing, "add to released-prices.txt:\n" + "\n".join(missing)


def test_our_file_is_what_we_write():
    text = SHIPPED.read_text()
    head = text[: text.index("[[price]]")]
    assert head + files.render(files.read_prices(SHIPPED)) == text


def test_a_new_model_needs_its_prices_and_its_bounds_and_no_more():
    (price,) = read(HOUSE)
    assert price.rates == Rates(500_000, 2_000_000, 500_000, 500_000, 500_000), "no cache prices: those of the input"
    assert (price.model, price.upstream, price.context_window) == ("house-1", "openai", 128_000)
    assert price.effective_from == datetime(2026, 11, 17, tzinfo=UTC)
    assert price.is_own
    assert price.is_offered


def test_another_price_of_ours_keeps_vendor_and_bounds():
    (price,) = read(CHANGED)
    assert price.rates == Rates(2_000_000, 8_000_000, 1_000_000, 2_000_000, 2_000_000)
    assert (price.upstream, price.context_window, price.max_output_tokens) == ("openai", 128_000, 16_384)


def test_a_withdrawn_model_says_nothing_else():
    (price,) = read(GONE)
    assert not price.is_offered
    assert price.rates == KNOWN["gpt-4o"].rates
    with pytest.raises(ValueError, match=r"gpt-4o \(2026-12-01\): input says nothing about a model"):
        read(GONE + 'input = "1"\n')
    with pytest.raises(ValueError, match="is none of ours"):
        read(GONE.replace("gpt-4o", "house-9"))


def test_an_id_changes_with_what_the_row_says():
    ids = [read(text)[0].id for text in (HOUSE, HOUSE.replace("0.50", "0.51"), HOUSE + 'audio_input = "3"\n', HOUSE)]
    assert len(set(ids)) == 3
    assert ids[0] == ids[3]
    assert all(one.startswith("house-1@2026-11-17#") and len(one) <= 100 for one in ids)
    longest = read(HOUSE.replace("house-1", "h" * 79))[0].id
    assert len(longest) <= 100


def test_a_dearer_tariff_of_ours_is_not_forgotten():
    changed = CHANGED.replace("gpt-4o", "claude-haiku-5-5")
    with pytest.raises(ValueError, match="long_prompt is missing: ours costs more then"):
        read(changed)
    (flat,) = read(changed + "long_prompt = false\n")
    assert flat.long_rates is None
    tariff = "\n[price.long_prompt]\nover_tokens = 5\n" + "\n".join(f'{name} = "9"' for name in files.NAMED)
    (steep,) = read(changed + tariff)
    assert steep.rates_for(6) == Rates(*[9_000_000] * 5)
    with pytest.raises(ValueError, match=r"long_prompt\.surprise is not a key"):
        read(changed + tariff + "\nsurprise = 1\n")
    with pytest.raises(ValueError, match="cache_read is missing"):
        read(changed + tariff.replace('cache_read = "9"', ""))


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("input = 0.5", 'input is US dollars per million tokens in quotes, like "2.50"'),
        ("input = 3", "input is US dollars"),
        ('input = "-1"', "input is US dollars"),
        ('input = "0.0000001"', "input is US dollars"),
        ('input = "100001"', "input is at most"),
        ('output = ""', "output is US dollars"),
        ("effective_from = 5", "effective_from is a day"),
        ('effective_from = "2026-11-21"', "effective_from is a day"),
        ("effective_from = 2026-11-21T10:00:00Z", "effective_from is a day"),
        ('model = "no spaces"', "model is a name"),
        ('upstream = "pigeon"', "upstream is one of anthropic, openai"),
        ("upstream = 7", "upstream is a name"),
        ("context_window = 0", "context_window is a whole number of tokens from 1"),
        ("context_window = true", "context_window is a whole number"),
        ('max_output_tokens = "8"', "max_output_tokens is a whole number of tokens from 0"),
        ('aliases = "house"', "aliases is a list"),
        ("is_offered = 1", "is_offered is true or false"),
        ("long_prompt = true", "long_prompt is a table"),
        ("surprise = 1", "surprise is not a key of a price"),
    ],
)
def test_what_is_wrong_is_named(line: str, wrong: str):
    name = line.partition(" = ")[0]
    kept = [one for one in HOUSE.splitlines() if not one.strip().startswith(f"{name} = ")]
    with pytest.raises(ValueError, match=wrong) as error:
        read("\n".join([*kept, line]))
    assert "price " in str(error.value)


@pytest.mark.parametrize("name", ["input", "output", "upstream", "effective_from", "context_window", "model"])
def test_what_is_missing_is_named(name: str):
    with pytest.raises(ValueError, match=name):
        read("\n".join(one for one in HOUSE.splitlines() if not one.strip().startswith(f"{name} = ")))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[[price]", "this is not TOML"),
        ('[price]\nmodel = "x"', "in two brackets"),
        ("markup = 2", "markup stands outside of a price"),
        (HOUSE + HOUSE, "same day"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, wrong: str):
    with pytest.raises(ValueError, match=wrong):
        read(text)


def test_a_file_with_nothing_in_it_changes_nothing():
    assert read("# nothing yet\n") == []


AMOUNT = st.integers(0, 100_000 * 1_000_000)
RATES = st.builds(Rates, AMOUNT, AMOUNT, AMOUNT, AMOUNT, AMOUNT, st.none() | AMOUNT, st.none() | AMOUNT)


@given(RATES, st.none() | RATES, st.integers(1, 10**6), st.lists(st.sampled_from(["one", "two-2026"]), unique=True))
def test_every_price_is_read_as_it_was_written(rates: Rates, long_rates: Rates | None, over: int, aliases: list[str]):
    day = datetime(2026, 11, 21, tzinfo=UTC)
    price = Price("m@2026-11-21", "m", "openai", day, rates, 10, 5, aliases=tuple(aliases))
    if long_rates is not None:
        price = Price("m@2026-11-21", "m", "openai", day, rates, 10, 5, over, long_rates, tuple(aliases))
    (table,) = tomllib.loads(files.render([price]))["price"]
    assert files._Row(table).whole() == price
    said: dict[str, Any] = files.describe(price)
    assert files.restore(price.id, said, is_own=False) == price
