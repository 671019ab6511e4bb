"""The operator's view of prices: what is in force, what others say, and nobody else's business."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.metering import builtin_prices
from clawhaven.metering.pricefile import read_own_prices
from clawhaven.ports.pricelist import ListedPrice, ListedRates
from tests.api.conftest import assert_error
from tests.api.test_admin import boss
from tests.workflows.scene import Scene
from tests.workflows.test_prices import FixedList

__all__ = ["boss"]

OWN = """
    [[price]]
    model = "sandbox-1"
    effective_from = 2026-02-01
    input = "2.50"
    output = "10"
    cache_read = "0.25"
    cache_write_5m = "2.50"
    cache_write_1h = "2.50"
    [[price]]
    model = "gpt-4o"
    effective_from = 2026-02-01
    is_offered = false
"""


@pytest.fixture
def shop(scene: Scene) -> Iterator[TestClient]:
    """A client of an installation with an operator's file, beside a list that says other things."""
    ours = builtin_prices()
    own = read_own_prices(OWN, {price.model: price for price in ours.every()}, ["sandbox", "openai"])
    dearer = ListedPrice("sandbox", "sandbox-1", ListedRates(9_000_000, 9_000_000), context_window=200_000)
    new = replace(dearer, model="next-1", upstream="openai")
    ctx = replace(scene.ctx, prices=ours.with_overrides(own), price_list=FixedList(dearer, new))
    with TestClient(create_app(ctx), base_url=ctx.settings.base_url) as client:
        yield client


def test_what_is_in_force(shop: TestClient, boss: dict[str, str]) -> None:
    items = {one["model"]: one for one in shop.get("/api/admin/prices", headers=boss).json()["items"]}
    assert "gpt-4o" not in items
    own = items["sandbox-1"]
    assert (own["is_own"], own["input_micros"], own["effective_from"]) == (True, 2_500_000, "2026-02-01T00:00:00+00:00")
    assert own["id"].startswith("sandbox-1@2026-02-01#")
    haiku = items["claude-haiku-5-5"]["long_prompt"]
    assert (haiku["over_tokens"], haiku["input_micros"]) == (100_000, 500_000)


def test_one_model_by_any_of_its_names_and_its_history(shop: TestClient, boss: dict[str, str]) -> None:
    (sol,) = shop.get("/api/admin/prices?model=gpt-5.6", headers=boss).json()["items"]
    assert (sol["model"], sol["aliases"]) == ("gpt-5.6-sol", ["gpt-5.6"])
    rows = shop.get("/api/admin/prices?model=gpt-4o&every=true", headers=boss).json()["items"]
    assert [(one["is_offered"], one["is_own"]) for one in rows] == [(True, False), (False, True)]
    assert shop.get("/api/admin/prices?model=nothing", headers=boss).json() == {"items": [], "next_cursor": None}


def test_what_others_say_and_what_to_do_about_it(shop: TestClient, boss: dict[str, str]) -> None:
    told = shop.get("/api/admin/prices/check", headers=boss).json()
    items = {one["model"]: one for one in told["items"]}
    assert (told["source"], told["is_open"]) == ("installed", True)
    mine = items["sandbox-1"]
    assert (mine["kind"], mine["is_open"]) == ("price", False)
    assert {"name": "input", "ours": 2_500_000, "theirs": 9_000_000, "is_money": True} in mine["changes"]
    (row,) = tomllib.loads(mine["row"])["price"]
    assert (row["input"], row["max_output_tokens"]) == ("9.00", 8_192)
    assert (items["next-1"]["kind"], items["next-1"]["is_open"]) == ("missing", True)
    assert "# max_output_tokens = …" in items["next-1"]["row"], "a person has to say it"
    assert items["gpt-4.1"]["kind"] == "unlisted"
    assert not items["gpt-4.1"]["is_open"]


def test_a_list_that_is_away_is_an_answer_of_its_own(shop: TestClient, boss: dict[str, str]) -> None:
    error = assert_error(shop.get("/api/admin/prices/check?latest=true", headers=boss), 503, "unavailable")
    assert error["message"] == "The network is away: leave out --latest."


def test_it_is_the_operators_alone(shop: TestClient, scene: Scene) -> None:
    for path in ("", "/check"):
        assert_error(shop.get(f"/api/admin/prices{path}"), 401)
