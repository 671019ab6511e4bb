"""The price table: versions, names, tariffs for long prompts and speech, one rounding up, the operator's own rows."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.metering import PriceTable, builtin_prices, cost, worst_case_micros
from clawhaven.metering.prices import Price, Rates, name_models
from clawhaven.ports.upstream import Usage

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SPOKEN = Rates(2_500_000, 10_000_000, 2_500_000, 2_500_000, 2_500_000, 32_000_000, 64_000_000)


def price_of(model: str, now: datetime = NOW) -> Price:
    found = builtin_prices().find(model, now)
    assert found is not None
    return found


def row(model: str, day: str, dollars: int = 1, **given: object) -> Price:
    """A price of `dollars` for everything."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    rates = Rates(*[dollars * 1_000_000] * 5)
    made = Price(f"{model}@{day}", model, "openai", start, rates, 1_000_000, 100_000)
    return replace(made, **given)  # type: ignore[arg-type]


def own(model: str, day: str, dollars: int = 1, **given: object) -> Price:
    made = row(model, day, dollars, is_own=True, **given)
    return replace(made, id=f"{made.id}#{dollars}")


def test_each_pass_has_the_tariff_of_its_own_prompt():
    price = price_of("claude-haiku-5-5")
    assert (price.long_over_tokens, price.rates.input, price.rates.output) == (100_000, 100_000, 500_000)
    short, long = Usage(60_000, 1_000), Usage(50_000, 2_000, 50_000, 1)
    both = Usage(110_000, 3_000, 50_000, 1, apart=(long,))
    assert cost(price, both, 100).provider_micros == 6_000 + 500 + 25_000 + 5_000 + 2_500 + 1
    assert cost(price, replace(both, apart=(short, long)), 100) == cost(price, both, 100), "nothing is left over"
    assert cost(price, replace(both, apart=(short,)), 100) == cost(price, both, 100)
    assert cost(price, replace(both, apart=()), 100).provider_micros > cost(price, both, 100).provider_micros
    more = replace(both, output_tokens=3_010, cache_write_1h_tokens=7)
    extra = Usage(60_000, 1_010, cache_write_1h_tokens=7)
    assert cost(price, more, 100).provider_micros == 32_501 + cost(price, extra, 100).provider_micros


def test_the_sandbox_model_costs_what_its_documentation_says():
    rates = price_of("sandbox-1").rates
    assert (rates.input, rates.output) == (3_000_000, 15_000_000)


@pytest.mark.parametrize(
    "name", ["claude-sonnet-5-5-20260928", "claude-sonnet-5-5-latest", "gpt-6.1-sol-2026-09-29", "gpt-4o-2024-11-20"]
)
def test_a_dated_snapshot_has_its_models_price(name: str):
    assert name.startswith(price_of(name).model)


@pytest.mark.parametrize(
    "name",
    ["claude-opus-5-5-turbo", "claude-opus", "", "gpt-6", "sandbox-1-20260101x", "sandbox-1-20260101\n", "-latest"],
)
def test_a_name_that_only_resembles_a_model_has_no_price(name: str):
    assert builtin_prices().find(name, NOW) is None


def test_a_price_counts_from_its_day_on():
    before = price_of("gpt-5.6-sol", datetime(2026, 8, 20, 23, 59, tzinfo=UTC))
    after = price_of("gpt-5.6-sol", datetime(2026, 8, 21, tzinfo=UTC))
    assert (before.rates.input, after.rates.input) == (5_000_000, 4_000_000)
    assert builtin_prices().by_id(before.id) == before
    assert builtin_prices().find("gpt-6.2-sol", datetime(2026, 11, 16, tzinfo=UTC)) is None


def test_the_models_of_a_day_are_those_that_have_a_price_then():
    table = PriceTable([row("one", "2026-01-01"), row("two", "2026-02-01"), row("one", "2026-03-01", 2)])
    january, march = datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    assert table.current(datetime(2025, 12, 31, tzinfo=UTC)) == ()
    assert [price.model for price in table.current(january)] == ["one"]
    assert [price.id for price in table.current(march)] == ["one@2026-03-01", "two@2026-02-01"]
    assert table.current(march) is table.current(march + timedelta(days=900))


def test_a_model_answers_to_its_other_names_unless_they_are_models():
    table = PriceTable([row("one", "2026-01-01", aliases=("uno", "two")), row("two", "2026-01-01", 2)])
    assert table.find("uno", NOW) == table.find("one", NOW) == table.find("uno-20260101", NOW)
    two = table.find("two", NOW)
    assert two is not None
    assert two.model == "two"
    with pytest.raises(ValueError, match="one and two are both called uno"):
        PriceTable([row("one", "2026-01-01", aliases=("uno",)), row("two", "2026-01-01", aliases=("uno",))])


def test_from_an_operators_first_row_on_only_theirs_count():
    ours = PriceTable(
        [row("one", "2026-01-01", aliases=("uno",)), row("one", "2026-06-01", 2), row("two", "2026-01-01")]
    )
    table = ours.with_overrides([own("one", "2026-03-01", 5), own("one", "2026-12-01", 6), own("three", "2026-01-01")])
    dollars = {
        day: table.find("one", datetime.fromisoformat(day).replace(tzinfo=UTC)).rates.input // 1_000_000  # type: ignore[union-attr]
        for day in ("2026-02-28", "2026-03-01", "2026-07-01", "2026-12-01")
    }
    assert dollars == {"2026-02-28": 1, "2026-03-01": 5, "2026-07-01": 5, "2026-12-01": 6}
    assert table.find("uno", NOW) == table.find("one", NOW)
    assert table.find("two", NOW) == ours.find("two", NOW)
    assert [price.model for price in table.current(NOW)] == ["one", "two", "three"]
    assert table.by_id("one@2026-06-01") == ours.by_id("one@2026-06-01"), "calls admitted at it are still priced"


def test_a_withdrawn_model_is_not_sold_and_its_calls_are_still_priced():
    ours = PriceTable([row("one", "2026-01-01", aliases=("uno",))])
    gone = own("one", "2026-11-01", is_offered=False)
    table = ours.with_overrides([gone])
    assert table.find("one", NOW) is None
    assert table.find("uno", NOW) is None
    assert table.current(NOW) == ()
    assert table.find("one", datetime(2026, 10, 31, tzinfo=UTC)) == ours.find("one", NOW)
    assert table.by_id("one@2026-01-01") is not None


def test_what_the_files_no_longer_say_is_found_by_id_alone():
    old = own("one", "2026-01-01", 9)
    table = PriceTable([row("one", "2026-01-01")]).with_retired([old]).with_overrides([own("two", "2026-01-01")])
    found = table.find("one", NOW)
    assert found is not None
    assert found.id == "one@2026-01-01"
    assert table.by_id(old.id) == old
    assert old not in table.every()


def test_two_rows_with_one_id_are_refused():
    with pytest.raises(ValueError, match="twice"):
        PriceTable([row("one", "2026-01-01"), row("one", "2026-01-01", 2)])


def test_every_kind_of_token_is_priced_at_its_own_rate():
    usage = Usage(
        input_tokens=1_000_000,
        output_tokens=1_000_000,
        cache_read_tokens=1_000_000,
        cache_write_5m_tokens=1_000_000,
        cache_write_1h_tokens=1_000_000,
        reasoning_tokens=400_000,
    )
    found = cost(price_of("claude-opus-5-5"), usage, 150)
    assert found.provider_micros == 4_000_000 + 20_000_000 + 200_000 + 5_000_000 + 8_000_000
    assert found.price_micros == found.provider_micros * 3 // 2


def test_speech_has_its_own_rate_where_there_is_one():
    usage = Usage(
        input_tokens=3_000_000, output_tokens=2_000_000, input_audio_tokens=1_000_000, output_audio_tokens=500_000
    )
    spoken = row("voice", "2026-01-01", rates=SPOKEN)
    assert cost(spoken, usage, 100).provider_micros == 2 * 2_500_000 + 32_000_000 + 15_000_000 + 32_000_000
    assert cost(row("plain", "2026-01-01", 3), usage, 100).provider_micros == 15_000_000
    liar = Usage(input_tokens=1_000_000, input_audio_tokens=9_000_000)
    assert cost(spoken, liar, 100).provider_micros == 32_000_000, "never more spoken tokens than tokens"


def test_a_long_prompt_is_charged_at_its_tariff_for_the_whole_request():
    haiku = price_of("claude-haiku-5-5")
    assert cost(haiku, Usage(input_tokens=100_000), 100).provider_micros == 10_000
    assert cost(haiku, Usage(input_tokens=1, cache_read_tokens=100_000), 100).provider_micros == 5_001


def test_rounding_happens_once_and_up():
    luna = price_of("gpt-6-luna")
    found = cost(luna, Usage(input_tokens=1, output_tokens=1), 150)
    assert (found.provider_micros, found.price_micros) == (1, 1)
    assert cost(luna, Usage(), 150).price_micros == 0


SAMPLES = [
    *builtin_prices().current(NOW),
    row("voice", "2026-01-01", rates=SPOKEN),
    row("odd", "2026-01-01", 9, long_over_tokens=1_000, long_rates=Rates(1, 1, 1, 1, 1)),
]


@given(
    st.sampled_from(SAMPLES),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 128_000),
    st.integers(0, 500_000),
    st.sampled_from([100, 150, 275]),
)
def test_no_split_of_the_prompt_costs_more_than_the_worst_case(price, a, b, c, d, output, spoken, markup):
    usage = Usage(a, output, b, c, d, input_audio_tokens=spoken, output_audio_tokens=spoken)
    assert cost(price, usage, markup).price_micros <= worst_case_micros(price, a + b + c + d, output, markup)


def test_a_sentence_names_the_models_that_are_meant_and_not_all_of_them():
    prices = [row(f"model-{number}", "2026-01-01") for number in range(30)] + [row("claude-opus-5", "2026-01-01")]
    named = name_models(prices, "claude-opus-55")
    assert named.startswith("claude-opus-5, ")
    assert named.endswith(" and 19 more")
    assert name_models(prices[:2], "") == "model-0, model-1"
    assert name_models([]) == "none"


def test_a_look_into_the_table_takes_about_a_microsecond():
    """A bound of ten, for machines under load: what was linear in the table's size took forty."""
    table = builtin_prices()
    for name in ("text-embedding-3-small", "gpt-5.6-sol", "claude-opus-5-5-20260901"):
        best = min(_seconds(table, name) for _ in range(5))
        assert best < 10e-6, f"{name}: {best * 1e6:.2f} microseconds"


def _seconds(table: PriceTable, name: str) -> float:
    before = time.perf_counter()
    for _ in range(1_000):
        table.find(name, NOW)
    return (time.perf_counter() - before) / 1_000
