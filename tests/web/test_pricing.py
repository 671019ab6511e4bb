"""The pricing page: plans, savings, and what usage costs by the same table that bills it."""

from __future__ import annotations

import dataclasses
import re

from clawhaven.billing.plans import Catalogue
from clawhaven.context import Context
from clawhaven.metering.prices import cost
from clawhaven.web import pricing
from tests.web.conftest import Visit


def test_savings_are_computed_from_the_prices() -> None:
    shipped = Catalogue.load()
    plans = Catalogue({plan.id: dataclasses.replace(plan, is_offered=True) for plan in shipped})
    assert pricing.saving(plans.get("yearly"), plans) == 14
    assert pricing.saving(plans.get("quarterly"), plans) == 13
    assert pricing.saving(plans.get("monthly"), plans) == 0
    assert pricing.saving(plans.get("metered"), plans) == 0


def test_a_price_of_a_model_is_what_a_call_would_cost(ctx: Context) -> None:
    metered = ctx.plans.get("metered")
    (row,) = pricing.model_prices(ctx, metered)  # only the sandbox has a key here
    price = ctx.prices.find(row.model, ctx.clock.now())
    assert price is not None
    assert row.input_micros == 4_500_000
    assert row.message_micros == cost(price, pricing.EXAMPLE, 150).price_micros
    dear = dataclasses.replace(metered, markup_percent=333)
    assert pricing.model_prices(ctx, dear)[0].output_micros == 49_950_000


def test_the_page(visit: Visit) -> None:
    page = visit.get("/pricing").text
    for words in ("Metered", "saves 14 %", "$299 a year", "sandbox-1", "$4.50", "150 %", "Questions about money"):
        assert words in page
    assert re.search(r'data-label="Memory">2,048 MB', page)


def test_without_a_metered_plan_there_are_no_prices_of_models(ctx: Context) -> None:
    kept = {plan.id: dataclasses.replace(plan, is_offered=plan.id == "yearly") for plan in ctx.plans}
    page = Visit(dataclasses.replace(ctx, plans=Catalogue(kept))).get("/pricing").text
    assert "sandbox-1" not in page
    assert "Plans beside each other" not in page
    none = {plan.id: dataclasses.replace(plan, is_offered=False) for plan in ctx.plans}
    assert "No plan is on offer" in Visit(dataclasses.replace(ctx, plans=Catalogue(none))).get("/pricing").text
