"""Vendors' figures beside ours: read any number of times, brought to one form, and told apart beyond a tolerance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from clawhaven import metering
from clawhaven.core.db import Database
from clawhaven.metering import Ask, PlanMode, Source, invoices
from clawhaven.metering.invoices import Compared, Figures, comparable
from clawhaven.ports.upstream import Usage, VendorDay
from tests.metering.conftest import KEY_HASH, NOW

Give = Callable[..., str]
DAY, MODEL = "2026-11-21", "claude-sonnet-4-5"


def call(db: Database, model: str = "claude-sonnet-4-5-20250929", tokens: int = 100_000, hours: int = 0) -> int:
    """A call of ours; returns what it cost us."""
    now = NOW + timedelta(hours=hours)
    ask = Ask(model, "anthropic-messages", 200_000, 1_000, Source.PERSON)
    with db.tx() as tx:
        opened = metering.open_call(tx, ask, key_hash=KEY_HASH, upstreams=("anthropic",), now=now)
        return metering.close_call(tx, opened.id, Usage(tokens, 10, 20, 30, 40), now=now).provider_cost_micros


def keep(db: Database, *days: VendorDay) -> list[str]:
    with db.tx() as tx:
        return invoices.keep(tx, "anthropic", days, NOW)


def compared(db: Database, **wanted: str) -> list[Compared]:
    with db.read() as tx:
        return invoices.compare(tx, tolerance=2, **wanted)  # type: ignore[arg-type]


def test_what_agrees_is_not_off(db: Database, give: Give) -> None:
    give(dollars=1_000)
    cost = call(db) + call(db, hours=1)
    keep(db, VendorDay(DAY, "claude-sonnet-4-5-20250929", 200_000, 20, 40, 140))
    keep(db, VendorDay(DAY, "Claude Sonnet 4.5", cost_micros=cost))
    figures = Figures(200_000, 20, 40, 140, cost)
    assert compared(db) == [Compared(DAY, "anthropic", MODEL, figures, figures, is_off=False)]
    assert figures.tokens == 200_200
    assert Figures(cost_micros=1).tokens is None


def test_reading_again_replaces_and_changes_nothing_else(db: Database) -> None:
    first = VendorDay(DAY, MODEL, 1, 2, 3, 4)
    assert keep(db, first, VendorDay("2026-11-20", MODEL, 9)) == ["2026-11-20", DAY]
    keep(db, VendorDay(DAY, MODEL, cost_micros=7))
    before = compared(db)
    keep(db, first, VendorDay("2026-11-20", MODEL, 9))
    assert compared(db) == before
    keep(db, VendorDay(DAY, "claude-other-1", 5))
    lines = {(line.day, line.model): line.theirs for line in compared(db)}
    assert lines[DAY, MODEL].cost_micros == 7
    assert lines[DAY, MODEL].input_tokens is None, "the newer export of that day does not name it any more"
    assert lines["2026-11-20", MODEL].input_tokens == 9


@pytest.mark.parametrize(
    ("theirs", "is_off"),
    [
        (VendorDay(DAY, MODEL, 100_000, 10, 20, 70), False),
        (VendorDay(DAY, MODEL, 109_000, 10, 20, 70), False),
        (VendorDay(DAY, MODEL, 120_000, 10, 20, 70), True),
        (VendorDay(DAY, MODEL, 80_000, 10, 20, 70), True),
        (VendorDay(DAY, MODEL, cost_micros=300_450 + 90_000), False),
        (VendorDay(DAY, MODEL, cost_micros=300_450 + 200_000), True),
        (VendorDay(DAY, MODEL, cost_micros=0), True),
    ],
)
def test_a_difference_counts_beyond_the_tolerance(db: Database, give: Give, theirs: VendorDay, is_off: bool) -> None:
    give(dollars=1_000)
    call(db)
    keep(db, theirs)
    assert [line.is_off for line in compared(db)] == [is_off]


def test_models_that_one_side_does_not_know_are_shown(db: Database, give: Give) -> None:
    give(dollars=1_000)
    call(db)
    keep(db, VendorDay(DAY, "claude-haiku-4-5", 50_000, 0, 0, 0))
    lines = {line.model: line for line in compared(db)}
    assert lines[MODEL].theirs == Figures(0, 0, 0, 0)
    assert lines["claude-haiku-4-5"].ours == Figures(0, 0, 0, 0, 0)
    assert all(line.is_off for line in lines.values())


def test_a_line_about_all_models_is_compared_with_all_of_them(db: Database, give: Give) -> None:
    give(dollars=1_000)
    cost = call(db) + call(db, "claude-haiku-4-5")
    keep(db, VendorDay(DAY, "*", cost_micros=cost))
    (line,) = compared(db)
    assert (line.model, line.ours.cost_micros, line.is_off) == ("*", cost, False)


def test_only_days_that_a_vendor_told_about_are_compared(db: Database, give: Give) -> None:
    give(dollars=1_000)
    call(db, hours=24)
    keep(db, VendorDay(DAY, MODEL, 1), VendorDay("2026-11-19", MODEL, 1))
    assert [line.day for line in compared(db)] == [DAY, "2026-11-19"]
    assert [line.day for line in compared(db, since=DAY)] == [DAY]
    assert [line.day for line in compared(db, until="2026-11-19")] == ["2026-11-19"]
    assert compared(db, upstream="openai") == []


def test_customers_own_keys_are_not_on_our_invoice(db: Database, give: Give) -> None:
    give(PlanMode.OWN_KEY)
    call(db)
    keep(db, VendorDay(DAY, MODEL, 0, 0, 0, 0))
    assert compared(db)[0].ours == Figures(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Claude Opus 4.6", "claude-opus-4-6"),
        ("claude-opus-4-6-20260205", "claude-opus-4-6"),
        ("claude-3-7-sonnet-latest", "claude-sonnet-3-7"),
        ("Claude Sonnet 3.7", "claude-sonnet-3-7"),
        ("gpt-5.4-2026-03-05", "gpt-5.4"),
        ("GPT-5.4", "gpt-5.4"),
        ("web_search", "web_search"),
        ("*", "*"),
        ("", "*"),
    ],
)
def test_names_are_brought_to_one_form(name: str, expected: str) -> None:
    assert comparable(name) == expected
