"""Vendors' usage exports: files of their consoles and pages of their administration APIs, in today's shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.ports.upstream import VendorDay
from clawhaven.providers.upstreams import anthropic_export, openai_export
from clawhaven.providers.upstreams.exporting import count, day_of, number, rows_of

Read = Callable[[str], list[VendorDay]]

ANTHROPIC_TOKENS = """\
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,\
usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,\
usage_output_tokens,web_search_count,inference_geo,speed
2026-11-20,claude-sonnet-4-5-20250929,house,Default,standard,≤ 200k,100000,10,20,3000,5000,10,not_available,
2026-11-20,claude-sonnet-4-5-20250929,other,Default,standard,≤ 200k,1,0,0,0,2,0,not_available,
2026-11-21 13:00,claude-haiku-4-5-20251001,house,Default,standard,≤ 200k,50000,0,0,0,2000,0,not_available,
"""
ANTHROPIC_COSTS = """\
usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,\
inference_geo,speed
2026-11-20,Claude Sonnet 4.5,Default,house,message,≤ 200k,input_no_cache,1.50,1.50,token,global,
2026-11-20,Claude Sonnet 4.5,Default,house,message,≤ 200k,output,0.000001,0.50,token,global,
2026-11-20,,Default,house,message,,,0.10,0.10,web_search,global,
"""
ANTHROPIC_USAGE_REPORT: dict[str, Any] = {
    "data": [
        {
            "starting_at": "2026-11-20T00:00:00Z",
            "ending_at": "2026-11-21T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 1500,
                    "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
                    "cache_read_input_tokens": 200,
                    "output_tokens": 500,
                    "server_tool_use": {"web_search_requests": 10},
                    "api_key_id": None,
                    "model": "claude-sonnet-4-5-20250929",
                }
            ],
        },
        {"starting_at": "2026-11-21T00:00:00Z", "ending_at": "2026-11-22T00:00:00Z", "results": []},
    ],
    "has_more": False,
    "next_page": None,
}
ANTHROPIC_COST_REPORT: dict[str, Any] = {
    "data": [
        {
            "starting_at": "2026-11-20T00:00:00Z",
            "results": [
                {"currency": "USD", "amount": "123.78912", "cost_type": "tokens", "model": "claude-opus-4-6"},
                {"currency": "USD", "amount": "50", "cost_type": "web_search", "model": None},
                {"currency": "USD", "amount": "1", "cost_type": None, "model": None},
            ],
        }
    ],
    "has_more": False,
}
OPENAI_USAGE: dict[str, Any] = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": 1795132800,
            "end_time": 1795219200,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1000,
                    "output_tokens": 500,
                    "input_cached_tokens": 800,
                    "num_model_requests": 5,
                    "model": "gpt-5.4-2026-03-05",
                }
            ],
        }
    ],
    "has_more": False,
}
OPENAI_COSTS: dict[str, Any] = {
    "data": [
        {
            "start_time": 1795132800,
            "results": [
                {"amount": {"value": 0.06, "currency": "usd"}, "line_item": "gpt-5.4-2026-03-05, input"},
                {"amount": {"value": 1e-06, "currency": "usd"}, "line_item": "gpt-5.4-2026-03-05, output"},
                {"amount": {"value": 0.5, "currency": "usd"}, "line_item": None},
            ],
        }
    ],
    "has_more": False,
}
OPENAI_CSV = """\
start_time,end_time,start_time_iso,end_time_iso,num_model_requests,input_tokens,output_tokens,input_cached_tokens,model
1795132800,1795219200,2026-11-20T00:00:00+00:00,2026-11-21T00:00:00+00:00,5,1000,500,800,gpt-5.4-2026-03-05
"""
OPENAI_COST_CSV = """\
start_time,end_time,start_time_iso,amount_value,amount_currency,line_item,project_id
1795132800,1795219200,2026-11-20T00:00:00+00:00,0.25,usd,"gpt-5.4-2026-03-05, input",proj_1
"""


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (
            anthropic_export.read_export,
            ANTHROPIC_TOKENS,
            [
                VendorDay("2026-11-20", "claude-sonnet-4-5-20250929", 100_001, 5_002, 3_000, 30),
                VendorDay("2026-11-21", "claude-haiku-4-5-20251001", 50_000, 2_000, 0, 0),
            ],
        ),
        (
            anthropic_export.read_export,
            ANTHROPIC_COSTS,
            [
                VendorDay("2026-11-20", "Claude Sonnet 4.5", cost_micros=1_500_001),
                VendorDay("2026-11-20", "web_search", cost_micros=100_000),
            ],
        ),
        (
            anthropic_export.read_export,
            json.dumps(ANTHROPIC_USAGE_REPORT),
            [VendorDay("2026-11-20", "claude-sonnet-4-5-20250929", 1_500, 500, 200, 1_500)],
        ),
        (
            anthropic_export.read_export,
            json.dumps(ANTHROPIC_COST_REPORT),
            [
                VendorDay("2026-11-20", "*", cost_micros=10_000),
                VendorDay("2026-11-20", "claude-opus-4-6", cost_micros=1_237_891),
                VendorDay("2026-11-20", "web_search", cost_micros=500_000),
            ],
        ),
        (
            openai_export.read_export,
            json.dumps([{**OPENAI_USAGE, "has_more": True}, OPENAI_USAGE]),
            [VendorDay("2026-11-20", "gpt-5.4-2026-03-05", 400, 1_000, 1_600, 0)],
        ),
        (
            openai_export.read_export,
            json.dumps(OPENAI_COSTS),
            [
                VendorDay("2026-11-20", "*", cost_micros=500_000),
                VendorDay("2026-11-20", "gpt-5.4-2026-03-05", cost_micros=60_001),
            ],
        ),
        (
            openai_export.read_export,
            "\ufeff".join(["", OPENAI_CSV]).lstrip("\ufeff"),
            [VendorDay("2026-11-20", "gpt-5.4-2026-03-05", 200, 500, 800, 0)],
        ),
        (
            openai_export.read_export,
            OPENAI_COST_CSV,
            [VendorDay("2026-11-20", "gpt-5.4-2026-03-05", cost_micros=250_000)],
        ),
    ],
)
def test_an_export_is_read(read: Read, text: str, expected: list[VendorDay]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize("read", [anthropic_export.read_export, openai_export.read_export])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither CSV"),
        ("hello", "neither CSV"),
        ("a,b\n1,2\n", "this is neither"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"data": 1}', "no `data`"),
        ("[]", "no `data`"),
        ('{"data": [1]}', "no results"),
        ('{"data": [], "has_more": true}', "not all of it"),
        ('{"data": []}', "no usage"),
        ('{"data": [{"starting_at": "x", "results": [{"amount": "1"}]}]}', "is no day|neither"),
        ("a,b\n1," + "x" * 200_000, "no CSV: field larger"),
        ("a,b\n1,2\rx", "no CSV|neither"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(read: Read, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(text)


@pytest.mark.parametrize("wrong", ["-1", "1.5", "many", "nan", "Infinity", "1e999999999"])
def test_tokens_are_whole_numbers(wrong: str) -> None:
    with pytest.raises(ValueError, match="tokens"):
        count({"tokens": wrong}, "tokens")


def test_other_currencies_are_refused() -> None:
    with pytest.raises(ValueError, match="eur"):
        openai_export.read_export(OPENAI_COST_CSV.replace(",usd,", ",eur,"))


def test_no_figure_is_too_large_for_the_books() -> None:
    large = OPENAI_COST_CSV.replace("0.25", "99999999999999")
    with pytest.raises(ValueError, match="too large"):
        openai_export.read_export(large)
    with pytest.raises(ValueError, match="is no day"):
        openai_export.read_export(OPENAI_COST_CSV.replace("1795132800", "9" * 40).replace("2026-11-20T00", "x"))


@pytest.mark.parametrize(
    "day", ["2026-02-30", "2026-99-01", "0001-01-01", "9999-12-31", "-5", "99999999999", "٢٠٢٦-11-20"]
)
def test_days_that_are_none_are_refused(day: str) -> None:
    with pytest.raises(ValueError, match="is no day"):
        day_of({"date": day}, "date")


@pytest.mark.parametrize("model", ["gpt\0", "gpt\ud800", "gpt\n5"])
def test_a_model_is_a_text_that_a_database_can_hold(model: str) -> None:
    results = [{"model": model, "amount": {"value": 1, "currency": "usd"}}]
    text = json.dumps({"data": [{"start_time": 1795132800, "results": results}]})
    with pytest.raises(ValueError, match="is no model"):
        openai_export.read_export(text)


HEADING = ANTHROPIC_TOKENS.splitlines()[0].split(",")
WORDS = st.sampled_from([*HEADING, "amount", "model", "output_tokens", "input_tokens"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PAGES = st.fixed_dictionaries(
    {
        "data": st.lists(
            st.fixed_dictionaries(
                {
                    "starting_at": st.sampled_from(["2026-11-20T00:00:00Z", 1795132800]) | VALUES,
                    "results": st.lists(st.dictionaries(WORDS, VALUES, max_size=6), max_size=3),
                }
            ),
            max_size=3,
        )
    }
)
TABLES = st.lists(st.lists(WORDS | st.text(max_size=8), min_size=2, max_size=5).map(",".join), max_size=5).map(
    "\n".join
)


@pytest.mark.parametrize("read", [anthropic_export.read_export, openai_export.read_export])
@given(text=st.text() | TABLES | PAGES.map(json.dumps))
def test_whatever_is_given_is_read_or_refused_with_a_sentence(read: Read, text: str) -> None:
    try:
        found = read(text)
    except ValueError:
        return
    assert all(day.day and day.model.isprintable() for day in found)


def test_parts() -> None:
    assert day_of({"a": "", "b": 1795132800}, "a", "b") == "2026-11-20"
    assert number({"x": " 1.50 "}, "x") == number({"x": "1.5"}, "x")
    assert number({}, "x") == 0
    assert rows_of("A , b\n1,2\n") == ([{"a": "1", "b": "2"}], False)
