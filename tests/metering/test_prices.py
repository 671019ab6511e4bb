"""The price table: versions, snapshots, tariffs for long prompts, one rounding up."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.metering import builtin_prices, cost, read_prices, worst_case_micros
from clawhaven.metering.prices import Price
from clawhaven.ports.upstream import Usage

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def price_of(model: str, now: datetime = NOW) -> Price:
    found = builtin_prices().find(model, now)
    assert found is not None
    return found


def test_the_sandbox_model_costs_what_its_documentation_says():
    rates = price_of("sandbox-1").rates
    assert (rates.input, rates.output) == (3_000_000, 15_000_000)


@pytest.mark.parametrize(
    "name", ["claude-sonnet-5-5-20260928", "claude-sonnet-5-5-latest", "gpt-6.1-sol-2026-09-29", "gpt-4o-2024-11-20"]
)
def test_a_dated_snapshot_has_its_models_price(name: str):
    assert name.startswith(price_of(name).model)


@pytest.mark.parametrize("name", ["claude-opus-5-5-turbo", "claude-opus", "", "gpt-6", "sandbox-1-20260101x"])
def test_a_name_that_only_resembles_a_model_has_no_price(name: str):
    assert builtin_prices().find(name, NOW) is None


def test_a_price_counts_from_its_day_on():
    before = price_of("gpt-5.6-sol", datetime(2026, 8, 20, 23, 59, tzinfo=UTC))
    after = price_of("gpt-5.6-sol", datetime(2026, 8, 21, tzinfo=UTC))
    assert (before.rates.input, after.rates.input) == (5_000_000, 4_000_000)
    assert builtin_prices().by_id(before.id) == before
    assert builtin_prices().find("gpt-6.2-sol", datetime(2026, 11, 16, tzinfo=UTC)) is None


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


def test_a_long_prompt_is_charged_at_its_tariff_for_the_whole_request():
    haiku = price_of("claude-haiku-5-5")
    assert cost(haiku, Usage(input_tokens=100_000), 100).provider_micros == 10_000
    assert cost(haiku, Usage(input_tokens=1, cache_read_tokens=100_000), 100).provider_micros == 5_001


def test_rounding_happens_once_and_up():
    luna = price_of("gpt-6-luna")
    found = cost(luna, Usage(input_tokens=1, output_tokens=1), 150)
    assert (found.provider_micros, found.price_micros) == (1, 1)
    assert cost(luna, Usage(), 150).price_micros == 0


@given(
    st.sampled_from(builtin_prices().current(NOW)),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 128_000),
    st.sampled_from([100, 150, 275]),
)
def test_no_split_of_the_prompt_costs_more_than_the_worst_case(price, a, b, c, d, output, markup):
    usage = Usage(a, output, b, c, d)
    assert cost(price, usage, markup).price_micros <= worst_case_micros(price, a + b + c + d, output, markup)


def test_an_operators_file_replaces_and_adds_rows(tmp_path: Path):
    row = """
        [[price]]
        model = "{model}"
        upstream = "openai"
        effective_from = 2026-11-17
        input = 1
        output = 2
        cache_read = 3
        cache_write_5m = 4
        cache_write_1h = 5
        context_window = 6
        max_output_tokens = 7
    """
    path = tmp_path / "prices.toml"
    path.write_text(row.format(model="gpt-6.2-sol") + row.format(model="house-1"))
    table = builtin_prices().with_overrides(read_prices(path))
    assert table.find("gpt-6.2-sol", NOW).rates.input == 1
    assert table.find("house-1", NOW).rates.cache_write_1h == 5
    assert table.find("claude-opus-5-5", NOW) == price_of("claude-opus-5-5")


@pytest.mark.parametrize("line", ["input = 0.5", "input = -1", 'input = "3"', "effective_from = 5"])
def test_a_wrong_row_is_named(tmp_path: Path, line: str):
    good = {"effective_from": "2026-01-01", "input": "1", "output": "1", "cache_read": "1"}
    good |= {"cache_write_5m": "1", "cache_write_1h": "1", "context_window": "1", "max_output_tokens": "1"}
    name, _, value = line.partition(" = ")
    body = "\n".join(f"{key} = {word}" for key, word in {**good, name: value}.items())
    path = tmp_path / "prices.toml"
    path.write_text(f'[[price]]\nmodel = "broken-1"\nupstream = "openai"\n{body}\n')
    with pytest.raises(ValueError, match="broken-1"):
        read_prices(path)
