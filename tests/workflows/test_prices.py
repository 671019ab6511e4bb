"""Prices from the start of a process on: written down, learned from others, with each plan's markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clawhaven.billing.plans import Catalogue
from clawhaven.core.errors import Unavailable
from clawhaven.core.settings import Settings
from clawhaven.instances.models import Instance
from clawhaven.metering import builtin_prices, grants, pricebook
from clawhaven.metering.listing import Kind
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.pricelist import ListedPrice, ListedRates, Listing
from clawhaven.wiring import build
from clawhaven.workflows import prices
from tests.workflows.scene import Scene

HOUSE = """
    [[price]]
    model = "house-1"
    upstream = "openai"
    effective_from = 2026-01-01
    input = "1"
    output = "2"
    context_window = 128_000
    max_output_tokens = 1_000
"""


class FixedList:
    """Answers with what it was given."""

    def __init__(self, *listed: ListedPrice) -> None:
        self.listed = listed

    def installed(self) -> Listing:
        return Listing("installed", self.listed)

    def latest(self) -> Listing:
        raise ProviderError("The network is away: leave out --latest.", code="list_unreachable")


def listed(model: str, dollars: int) -> ListedPrice:
    return ListedPrice("sandbox", model, ListedRates(*[dollars * 1_000_000] * 5), context_window=200_000)


def test_a_process_writes_its_prices_down_and_learns_what_others_wrote(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(HOUSE)
    given = {"data_dir": scene.ctx.settings.data_dir, "database_url": scene.ctx.settings.database_url}
    yesterday = prices.begin(build(Settings(**given, model_prices_file=file)))  # type: ignore[arg-type]
    old = yesterday.prices.find("house-1", datetime(2026, 11, 21, tzinfo=UTC))
    assert old is not None
    file.write_text(HOUSE.replace('"1"', '"3"'))
    today = prices.begin(build(Settings(**given, model_prices_file=file)))  # type: ignore[arg-type]
    new = today.prices.find("house-1", scene.ctx.clock.now())
    assert new is not None
    assert new.rates.input == 3_000_000
    assert today.prices.by_id(old.id) == old
    without = prices.begin(scene.ctx)
    assert without.prices.find("house-1", scene.ctx.clock.now()) is None
    assert without.prices.by_id(old.id) == old
    assert without.prices.by_id(new.id) == new
    with scene.ctx.db.read() as db:
        assert len(pricebook.recall(db)) == len(builtin_prices().every()) + 2
    for ctx in (yesterday, today):
        ctx.db.close()


def test_a_plans_markup_counts_for_those_who_have_it(scene: Scene) -> None:
    flat = scene.live("flat@example.com", plan="personal").instance.id
    metered = scene.live("metered@example.com", plan="metered").instance.id

    def markups() -> tuple[int, int]:
        with scene.ctx.db.read() as db:
            found = [grants.grant_of(db, one) for one in (flat, metered)]
        assert found[0]
        assert found[1]
        return found[0].markup_percent, found[1].markup_percent

    assert markups() == (150, 150)
    plans = {plan.id: plan for plan in scene.ctx.plans}
    plans["metered"] = replace(plans["metered"], markup_percent=180)
    prices.begin(replace(scene.ctx, plans=Catalogue(plans)))
    assert markups() == (150, 180)
    prices.begin(replace(scene.ctx, settings=scene.ctx.settings.model_copy(update={"model_markup_percent": 200})))
    assert markups() == (200, 200)


def test_a_look_at_a_list_says_what_to_do(scene: Scene) -> None:
    same = ListedPrice("sandbox", "sandbox-1", ListedRates(3_000_000, 15_000_000, 300_000, 3_750_000))
    calm = prices.look(replace(scene.ctx, price_list=FixedList(replace(same, context_window=1))), is_latest=False)
    assert (calm.source, calm.is_open, calm.differences) == ("installed", False, [])
    told = prices.look(
        replace(scene.ctx, price_list=FixedList(listed("sandbox-1", 9), listed("two", 1))), is_latest=False
    )
    assert told.is_open
    assert [(one.model, one.kind) for one in told.differences] == [("sandbox-1", Kind.PRICE), ("two", Kind.MISSING)]


def test_a_list_that_cannot_be_had_is_told_in_its_words(scene: Scene) -> None:
    with pytest.raises(Unavailable, match="leave out --latest"):
        prices.look(replace(scene.ctx, price_list=FixedList()), is_latest=True)


def test_assistants_whose_model_is_not_sold_are_counted(scene: Scene) -> None:
    assert prices.unpriced_models(scene.ctx) == {}
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        db.get_one(Instance, begun.instance.id).model = "gone-1"
    assert prices.unpriced_models(scene.ctx) == {"gone-1": 1}
