"""Which models an assistant can be set to, with what they cost whoever pays for them, and setting it to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from clawhaven.billing.plans import Plan
from clawhaven.context import Context
from clawhaven.core.errors import Invalid
from clawhaven.instances.models import Instance
from clawhaven.metering import grants
from clawhaven.metering.models import PlanMode
from clawhaven.metering.prices import Price, name_models
from clawhaven.workflows import checkout, ownkey

WHOLE = 100
"""A markup of 100 per cent leaves a price as it is."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model on offer. Prices are micro-dollars per million tokens, in the tariff of short prompts.

    On an own-key plan they are the vendor's list prices, else what we charge, or (`included`) what usage is worth.
    """

    model: str
    vendor: str
    label: str
    """The vendor's name for people."""
    input_micros: int
    output_micros: int
    cache_read_micros: int
    context_window: int
    is_chosen: bool


def list_offers(db: Session, ctx: Context, instance: Instance) -> list[Offer]:
    """The models this assistant can be set to, a vendor after the other, in the price table's order."""
    return _offers(ctx, _usable(db, ctx, instance), _markup_percent(db, ctx, instance), instance.model)


def list_plan_offers(ctx: Context, plan: Plan, chosen: str = "", key_vendor: str | None = None) -> list[Offer]:
    """The models that an assistant on this plan can be set to, before there is one; `key_vendor`: of the own key."""
    if plan.access == PlanMode.OWN_KEY:
        vendors, markup = {key_vendor} if key_vendor else set(ctx.upstreams), WHOLE
    else:
        vendors = {name for name in ctx.upstreams if checkout.is_usable(ctx, name)}
        markup = plan.markup_percent or ctx.settings.model_markup_percent
    return _offers(ctx, _writing(ctx, vendors), markup, chosen)


def _offers(ctx: Context, found: Sequence[Price], markup: int, chosen: str) -> list[Offer]:
    return [
        Offer(
            price.model,
            price.upstream,
            ctx.upstreams[price.upstream].label,
            _charged(price.rates.input, markup),
            _charged(price.rates.output, markup),
            _charged(price.rates.cache_read, markup),
            price.context_window,
            price.model == chosen,
        )
        for vendor in ctx.upstreams
        for price in found
        if price.upstream == vendor
    ]


def choose(db: Session, ctx: Context, instance: Instance, model: str) -> bool:
    """Set the assistant to a model; the caller has the gateway follow. False: it was set to it already.

    Raises Invalid naming `model` for one that is not on offer; the one it has may stay, offered or not.
    """
    wanted = model.strip()
    if wanted == instance.model:
        return False
    found = _usable(db, ctx, instance)
    if wanted not in {price.model for price in found}:
        raise Invalid(
            f"Models are {name_models(found, wanted)}.",
            field="model",
            reason="unknown model",
            models=sorted(price.model for price in found),
        )
    instance.model = wanted
    db.flush()
    return True


def _usable(db: Session, ctx: Context, instance: Instance) -> list[Price]:
    """Models that write, of vendors that can be used, and that the grant does not leave out."""
    vendors, grant = ownkey.model_vendors(db, ctx, instance), grants.grant_of(db, instance.id)
    allowed = grant.models if grant is not None else None
    return [price for price in _writing(ctx, vendors) if allowed is None or price.model in allowed]


def _writing(ctx: Context, vendors: set[str]) -> list[Price]:
    return [
        price
        for price in ctx.prices.current(ctx.clock.now())
        if price.upstream in vendors and price.max_output_tokens > 0 and price.rates.audio_output is None
    ]


def _markup_percent(db: Session, ctx: Context, instance: Instance) -> int:
    if ctx.plans.get(instance.plan).access == PlanMode.OWN_KEY:
        return WHOLE
    grant = grants.grant_of(db, instance.id)
    return grant.markup_percent if grant is not None else ctx.settings.model_markup_percent


def _charged(rate: int, markup_percent: int) -> int:
    """Rounded up, as a call's price is."""
    return -(-rate * markup_percent // WHOLE)
