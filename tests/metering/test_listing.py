"""Our prices beside somebody else's list: what differs, what is taken over, and that both count the same cost."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import genai_prices.data
import pytest
from genai_prices import Usage as ListedUsage
from genai_prices.types import ModelInfo, Provider
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.metering import builtin_prices, cost
from clawhaven.metering.listing import FIRST_DAY, Kind, compare, is_sold, merge
from clawhaven.metering.prices import Price, PriceTable, Rates
from clawhaven.ports.pricelist import ListedPrice, ListedRates, Listing
from clawhaven.ports.upstream import Usage

TODAY = date(2026, 11, 21)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RATES = ListedRates(input=2_000_000, output=10_000_000, cache_read=200_000, cache_write=2_500_000)
OURS = Rates(2_000_000, 10_000_000, 200_000, 2_500_000, 4_000_000)
DEARER = replace(RATES, input=3_000_000)


def listed(model: str = "one", rates: ListedRates = RATES, since: str = "", **given: Any) -> ListedPrice:
    start = date.fromisoformat(since) if since else None
    return ListedPrice("openai", model, rates, start, **{"context_window": 400_000, **given})


def row(model: str = "one", day: str = "2026-01-01", rates: Rates = OURS, **given: Any) -> Price:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return replace(Price(f"{model}@{day}", model, "openai", start, rates, 400_000, 128_000), **given)


def differences(ours: list[Price], *theirs: ListedPrice, unreadable: tuple[str, ...] = ()):
    return compare(PriceTable(ours), Listing("a list", theirs, unreadable), NOW)


def test_equal_lists_differ_in_nothing():
    assert differences([row()], listed()) == []


def test_another_price_is_told_with_both():
    (found,) = differences([row()], listed(rates=DEARER))
    assert (found.kind, found.is_open) == (Kind.PRICE, True)
    assert found.changes == {"input": (2_000_000, 3_000_000), "cache_write_1h": (4_000_000, 6_000_000)}
    assert found.listed is not None
    assert found.listed.max_output_tokens == 128_000


def test_a_tariff_for_long_prompts_is_compared_too():
    (found,) = differences([row()], listed(long_over_tokens=200_000, long_rates=DEARER))
    assert found.changes["long_prompt.over_tokens"] == (None, 200_000)
    assert found.changes["long_prompt.input"] == (None, 3_000_000)


def test_the_operators_own_price_differs_on_purpose():
    mine = row(day="2026-06-01", rates=replace(OURS, input=1), is_own=True)
    (found,) = differences([row(), mine], listed())
    assert (found.kind, found.is_open) == (Kind.PRICE, False)


def test_a_price_of_tomorrow_is_announced_until_we_have_it():
    theirs = (listed(), listed(rates=DEARER, since="2026-12-01"))
    (found,) = differences([row()], *theirs)
    assert (found.kind, found.since, found.is_open) == (Kind.ANNOUNCED, date(2026, 12, 1), True)
    later = replace(OURS, input=3_000_000, cache_write_1h=6_000_000)
    assert differences([row(), row(day="2026-12-01", rates=later)], *theirs) == []


def test_what_we_have_no_price_for_is_missing_unless_the_operator_withdrew_it():
    assert [(one.model, one.kind, one.is_open) for one in differences([], listed())] == [("one", Kind.MISSING, True)]
    assert differences([row(), row(day="2026-02-01", is_own=True, is_offered=False)], listed()) == []


def test_a_model_of_ours_that_the_list_lacks_is_said_and_needs_nobody():
    ours = [row(), row("two"), row("three")]
    found = {one.model: one for one in differences(ours, listed(), unreadable=("three",))}
    assert {name: one.kind for name, one in found.items()} == {"two": Kind.UNLISTED, "three": Kind.UNREADABLE}
    assert not any(one.is_open for one in found.values())


@pytest.mark.parametrize(
    "model", ["gpt-image-2", "whisper-1", "claude-3-opus-latest", "gpt-4o-search-preview", "ft:gpt-4o", "gpt-4-turbo"]
)
def test_what_the_proxy_does_not_sell_is_not_missed(model: str):
    assert not is_sold(model)
    assert differences([row()], listed(), listed(model)) == []


def test_a_model_without_a_context_window_is_not_fully_described():
    assert differences([row()], listed(), listed("two", context_window=None)) == []


def test_new_models_are_taken_over_with_what_holds_and_what_comes():
    theirs = [
        listed(rates=ListedRates(9, 9)),
        listed(since="2025-06-10"),
        listed(rates=DEARER, since="2026-06-01", aliases=("uno", "one-2026-06-01", "one-search")),
    ]
    found = merge([], Listing("a list", tuple(theirs)), TODAY, {"one": 128_000})
    assert found.added == ["one@2026-01-01", "one@2026-06-01"]
    assert [price.rates.input for price in found.prices] == [2_000_000, 3_000_000]
    assert found.prices[0] == row(), "what held before the first day is not of interest"
    assert found.prices[-1].aliases == ("uno",), "a dated snapshot is known anyway, a search model is another one"


def test_a_new_model_waits_for_somebody_to_say_how_long_its_answers_get():
    listing = Listing("a list", (listed(), listed("embedding", ListedRates(20_000))))
    found = merge([], listing, TODAY, {})
    assert found.unbounded == ["one"]
    assert [(price.model, price.max_output_tokens, price.rates.output) for price in found.prices] == [
        ("embedding", 0, 0)
    ]


def test_a_changed_price_becomes_a_row_from_its_day_or_from_today():
    known = [row(), row("two")]
    listing = Listing("a list", (listed(rates=DEARER), listed("two", DEARER, since="2026-10-01")))
    found = merge(known, listing, TODAY, {})
    assert found.added == ["one@2026-11-21", "two@2026-10-01"]
    assert [price.id for price in found.prices] == [
        "one@2026-01-01",
        "one@2026-11-21",
        "two@2026-01-01",
        "two@2026-10-01",
    ]
    assert found.prices[0] == known[0]
    again = merge(found.prices, listing, TODAY, {})
    assert (again.added, again.prices) == ([], found.prices)


def test_what_is_announced_is_taken_over_once():
    listing = Listing("a list", (listed(), listed(rates=DEARER, since="2027-01-01")))
    found = merge([row()], listing, TODAY, {})
    assert found.added == ["one@2027-01-01"]
    assert merge(found.prices, listing, TODAY, {}).added == []


def test_what_is_not_on_the_list_stays():
    house = row("house", upstream="sandbox")
    assert merge([house, row()], Listing("a list", (listed(),)), TODAY, {}).prices == [house, row()]


# What follows holds the table we ship to the calculator of the list it came from.

MODELS: list[tuple[Provider, ModelInfo, str]] = [
    (provider, model, name)
    for provider in genai_prices.data.providers
    if provider.id in ("anthropic", "openai")
    for model in provider.models
    for name in {
        model.id,
        *(one.equals for one in getattr(model.match, "or_", [model.match]) if hasattr(one, "equals")),
    }
    if builtin_prices().find(name, NOW) is not None
]
COUNT = st.integers(0, 400_000)


def test_most_of_the_list_is_looked_at():
    assert len({model.id for _, model, _ in MODELS}) > 55


@given(
    st.sampled_from(MODELS), st.dates(FIRST_DAY, date(2027, 12, 31)), COUNT, COUNT, COUNT, COUNT, COUNT, st.booleans()
)
def test_every_name_that_we_price_costs_what_the_list_says(
    known: tuple[Provider, ModelInfo, str],
    day: date,
    plain: int,
    read: int,
    write: int,
    long: int,
    output: int,
    speaks: bool,
):
    provider, model, name = known
    now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    price = builtin_prices().find(name, now)
    assert price is not None
    if provider.id == "openai":
        long = 0  # the list does not know OpenAI's cache of twelve hours
        write = write if model.get_prices(now).cache_write_mtok is not None else 0
    if price.rates.output == 0:
        output = read = 0
    spoken = speaks and price.rates.audio_input is not None
    usage = Usage(plain, output, read, write, long, input_audio_tokens=plain // 2 * spoken)
    theirs: dict[str, int] = {"input_tokens": plain + read + write + long, "output_tokens": output}
    theirs |= {"cache_read_tokens": read, "cache_write_tokens": write + long}
    if provider.id == "anthropic":
        theirs["cache_write_1h_tokens"] = long
    if spoken:
        theirs |= {"input_audio_tokens": plain // 2, "cache_read_tokens": 0, "input_tokens": plain + read}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        total = model.calc_price(ListedUsage(**theirs), provider, genai_request_timestamp=now).total_price
    micros = total * 1_000_000
    assert cost(price, usage, 100).provider_micros == int(micros.to_integral_value("ROUND_CEILING")), (micros, Decimal)
