"""What it costs, on a page of its own: plans beside each other, and what usage costs by model."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clawhaven.billing.plans import Catalogue, Plan, savings
from clawhaven.context import Context
from clawhaven.metering.models import PlanMode
from clawhaven.metering.prices import Price, cost
from clawhaven.ports.upstream import Usage
from clawhaven.web.deps import Anyone, Ctx
from clawhaven.web.render import page
from clawhaven.workflows import checkout

router = APIRouter()

EXAMPLE = Usage(input_tokens=2_000, cache_read_tokens=10_000, output_tokens=400)
"""A message in a conversation that is under way: most of what the model reads, it has read before."""

WHOLE = 100


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model costs here: micro-dollars per million tokens, and for a message as in EXAMPLE."""

    model: str
    vendor: str
    input_micros: int
    output_micros: int
    cache_read_micros: int
    message_micros: int


@router.get("/pricing")
def show_pricing(request: Request, ctx: Ctx, _visitor: Anyone) -> Response:
    """Plans, their comparison, prices of models, questions about money."""
    metered = next((plan for plan in ctx.plans if plan.is_offered and plan.access == PlanMode.METERED), None)
    return page(
        request,
        "pricing.html",
        offers=offers(ctx.plans),
        metered=metered,
        models=model_prices(ctx, metered) if metered else [],
        markup=markup_of(ctx, metered) if metered else WHOLE,
        example=EXAMPLE,
        settings=ctx.settings,
        minimum_micros=ctx.settings.micros("topup_minimum"),
    )


def offers(plans: Catalogue) -> list[tuple[Plan, int]]:
    """The plans a new customer can choose, each with what it saves over paying monthly, in per cent."""
    return [(plan, saving(plan, plans)) for plan in plans if plan.is_offered]


def saving(plan: Plan, plans: Catalogue) -> int:
    """Whole per cent saved over the monthly plan of the same kind; 0 when there is none."""
    found = savings(plan, plans)
    return found.percent if found else 0


def markup_of(ctx: Context, plan: Plan) -> int:
    """What a call costs on a plan, as per cent of the vendor's list price."""
    return plan.markup_percent or ctx.settings.model_markup_percent


def model_prices(ctx: Context, plan: Plan) -> list[ModelPrice]:
    """The models that a customer of this plan can use, a vendor after the other; those that do not write left out."""
    markup = markup_of(ctx, plan)
    writing = [price for price in ctx.prices.current(ctx.clock.now()) if _is_for_conversations(price)]
    vendors = [name for name in ctx.upstreams if checkout.is_usable(ctx, name)]
    return [
        ModelPrice(
            price.model,
            ctx.upstreams[vendor].label,
            _charged(price.rates.input, markup),
            _charged(price.rates.output, markup),
            _charged(price.rates.cache_read, markup),
            cost(price, EXAMPLE, markup).price_micros,
        )
        for vendor in vendors
        for price in writing
        if price.upstream == vendor
    ]


def _is_for_conversations(price: Price) -> bool:
    return price.max_output_tokens > 0 and price.rates.audio_output is None


def _charged(rate: int, markup_percent: int) -> int:
    """Rounded up, as a call's price is."""
    return -(-rate * markup_percent // WHOLE)
