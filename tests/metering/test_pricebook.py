"""What calls were admitted at outlives its file; a plan's markup reaches the grants there are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from clawhaven.core.db import Database
from clawhaven.core.errors import NotFound
from clawhaven.metering import Ask, PlanMode, builtin_prices, close_call, open_call, pricebook
from clawhaven.metering.pricefile import read_own_prices
from clawhaven.metering.prices import PriceTable
from clawhaven.ports.upstream import Usage
from tests.metering.conftest import KEY_HASH, NOW

OURS = builtin_prices()
FILE = """
    [[price]]
    model = "house-1"
    upstream = "sandbox"
    effective_from = 2026-11-01
    input = "{}"
    output = "2"
    audio_input = "3"
    context_window = 128_000
    max_output_tokens = 1_000
"""


def with_file(dollars: str) -> PriceTable:
    return OURS.with_overrides(read_own_prices(FILE.format(dollars), {}, ["sandbox"]))


def test_every_price_is_recalled_as_it_was(db: Database) -> None:
    table = with_file("1")
    with db.tx() as tx:
        assert pricebook.record(tx, table.every(), now=NOW) == len(table.every())
        assert pricebook.record(tx, table.every(), now=NOW) == 0
        assert pricebook.record(tx, [], now=NOW) == 0
    with db.read() as tx:
        found = {price.id: price for price in pricebook.recall(tx)}
    assert found == {price.id: price for price in table.every()}


def test_processes_that_start_together_write_it_once(db: Database) -> None:
    def start(_: int) -> int:
        with db.tx() as tx:
            return pricebook.record(tx, OURS.every(), now=NOW)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(start, range(8))) == len(OURS.every())


def test_a_call_keeps_its_price_when_the_file_changes_and_when_its_row_goes(
    db: Database, give: Callable[..., str]
) -> None:
    give()
    before = with_file("1")
    ask = Ask("house-1", "openai-chat", input_bound=10_000, output_bound=10)
    with db.tx() as tx:
        pricebook.record(tx, before.every(), now=NOW)
        calls = [open_call(tx, ask, key_hash=KEY_HASH, upstreams=["sandbox"], now=NOW, prices=before) for _ in range(2)]
    usage = Usage(input_tokens=10_000, output_tokens=10)
    for call, table in zip(calls, (with_file("7"), OURS), strict=True):
        with db.tx() as tx:
            learned = table.with_retired(pricebook.recall(tx))
            closed = close_call(tx, call.id, usage, now=NOW, prices=learned)
        assert closed.provider_cost_micros == 10_020


def test_a_markup_reaches_the_next_call_and_not_the_one_under_way(db: Database, give: Callable[..., str]) -> None:
    give(PlanMode.METERED)
    ask = Ask("sandbox-1", "openai-chat", input_bound=1_000, output_bound=0)
    usage = Usage(input_tokens=1_000)

    def call() -> str:
        with db.tx() as tx:
            return open_call(tx, ask, key_hash=KEY_HASH, upstreams=["sandbox"], now=NOW).id

    under_way = call()
    with db.tx() as tx:
        many = [*(f"ins_{number}" for number in range(2, 2_500)), "ins_1"]
        assert pricebook.set_markup(tx, many, 300, now=NOW) == 1
        assert pricebook.set_markup(tx, ["ins_1"], 300, now=NOW) == 0
        assert pricebook.set_markup(tx, [], 300, now=NOW) == 0
    charged = []
    for one in (under_way, call()):
        with db.tx() as tx:
            charged.append(close_call(tx, one, usage, now=NOW).price_micros)
    assert charged == [4_500, 9_000]


def test_a_price_that_nobody_wrote_down_is_an_error_and_no_free_call(db: Database, give: Callable[..., str]) -> None:
    """It cannot happen to a process that was started as ours are; the hold stays until somebody looks."""
    give()
    table = with_file("1")
    with db.tx() as tx:
        ask = Ask("house-1", "openai-chat", input_bound=10, output_bound=10)
        call = open_call(tx, ask, key_hash=KEY_HASH, upstreams=["sandbox"], now=NOW, prices=table)
    with db.tx() as tx, pytest.raises(NotFound) as error:
        close_call(tx, call.id, Usage(1, 1), now=NOW, prices=OURS)
    assert error.value.details["price_id"] == call.price.id
