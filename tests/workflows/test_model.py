"""Which models are on offer to whom, at which price; and setting one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from clawhaven.context import Context
from clawhaven.core.errors import Invalid
from clawhaven.instances.models import Instance
from clawhaven.metering import grants
from clawhaven.metering.models import Grant
from clawhaven.wiring import Guarded
from clawhaven.workflows import model, ownkey
from clawhaven.workflows.checkout import Begun
from clawhaven.workflows.model import Offer
from tests.workflows.scene import Scene
from tests.workflows.test_ownkey import ACTOR, KEY, StrictVendor


def offers(ctx: Context, begun: Begun) -> dict[str, Offer]:
    with ctx.db.read() as db:
        found = model.list_offers(db, ctx, db.get_one(Instance, begun.instance.id))
    return {one.model: one for one in found}


def ready(scene: Scene) -> Context:
    """An installation with a key of its own at one vendor more."""
    vendor: Any = StrictVendor("anthropic", "sk-ant-")
    vendor.is_ready = True
    return dataclasses.replace(scene.ctx, upstreams={**scene.ctx.upstreams, "anthropic": Guarded(vendor)})


def test_what_we_charge_is_shown_with_our_markup(scene: Scene) -> None:
    ctx, begun = ready(scene), scene.live(plan="metered")
    found = offers(ctx, begun)
    listed = ctx.prices.find("claude-sonnet-5-5", ctx.clock.now())
    assert listed is not None
    with ctx.db.tx() as db:
        grant = grants.grant_of(db, begun.instance.id)
        assert grant is not None
        grant.markup_percent = 133
    one, dearer = found["claude-sonnet-5-5"], offers(ctx, begun)["claude-sonnet-5-5"]
    assert (one.input_micros, one.output_micros) == (listed.rates.input * 3 // 2, listed.rates.output * 3 // 2)
    assert dearer.input_micros == -(-listed.rates.input * 133 // 100)
    assert (one.vendor, one.label, one.context_window) == ("anthropic", "Anthropic", listed.context_window)
    assert [name for name, one in found.items() if one.is_chosen] == ["sandbox-1"]
    assert not any("embedding" in name or "audio" in name for name in found), "they answer nobody"


def test_an_own_key_is_charged_by_its_vendor(scene: Scene) -> None:
    ctx, begun = ready(scene), scene.live(plan="monthly")
    assert {one.vendor for one in offers(ctx, begun).values()} == {"sandbox", "anthropic", "openai"}
    listed = ctx.prices.find("claude-sonnet-5-5", ctx.clock.now())
    assert listed is not None
    assert offers(ctx, begun)["claude-sonnet-5-5"].input_micros == listed.rates.input
    ownkey.put(ctx, begun.instance.id, KEY, "", ACTOR)
    assert {one.vendor for one in offers(ctx, begun).values()} == {"sandbox"}


def test_what_the_operator_cannot_pay_is_not_on_offer(scene: Scene) -> None:
    begun = scene.live()
    assert {one.vendor for one in offers(scene.ctx, begun).values()} == {"sandbox"}


def test_a_grant_that_names_models_offers_those(scene: Scene) -> None:
    ctx, begun = ready(scene), scene.live()
    with ctx.db.tx() as db:
        grant = grants.grant_of(db, begun.instance.id)
        assert isinstance(grant, Grant)
        grant.models = ["claude-haiku-4-5"]
    assert set(offers(ctx, begun)) == {"claude-haiku-4-5"}


def test_it_is_set_once_and_only_to_what_is_on_offer(scene: Scene) -> None:
    ctx, begun = ready(scene), scene.live()
    with ctx.db.tx() as db:
        instance = db.get_one(Instance, begun.instance.id)
        assert model.choose(db, ctx, instance, " claude-haiku-4-5 ")
        assert not model.choose(db, ctx, instance, "claude-haiku-4-5")
        for wrong in ("gpt-6-luna", "text-embedding-3-small", "nonsense", ""):
            with pytest.raises(Invalid) as refused:
                model.choose(db, ctx, instance, wrong)
            assert refused.value.details["field"] == "model"
            assert "claude-haiku-4-5" in refused.value.details["models"]
        instance.model = "retired-1"
        assert not model.choose(db, ctx, instance, "retired-1"), "it may keep what it has"
