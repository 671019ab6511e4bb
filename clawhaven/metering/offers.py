"""Which models a grant may use, at which price."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from clawhaven.core.errors import Invalid
from clawhaven.metering.limits import Terms
from clawhaven.metering.models import Grant, PlanMode
from clawhaven.metering.prices import Price, PriceTable, builtin_prices, name_models

UNKNOWN_MODEL = "unknown_model"


def find_price(
    grant: Grant | Terms, model: str, *, upstreams: Collection[str], now: datetime, prices: PriceTable | None = None
) -> Price:
    """The price of a model this grant may use. Raises Invalid `unknown_model` with the list of those it may."""
    table = prices or builtin_prices()
    price = table.find(model, now)
    if price is not None and _is_offered(grant, price, upstreams):
        return price
    offered = offered_prices(grant, upstreams=upstreams, now=now, prices=table)
    raise Invalid(
        f"The model {model[:100]!r} is not known here. Known models: {name_models(offered, model)}.",
        code=UNKNOWN_MODEL,
        field="model",
        models=[offer.model for offer in offered],
    )


def offered_prices(
    grant: Grant | Terms, *, upstreams: Collection[str], now: datetime, prices: PriceTable | None = None
) -> list[Price]:
    """The models a grant may use now, with their prices."""
    return [price for price in (prices or builtin_prices()).current(now) if _is_offered(grant, price, upstreams)]


def _is_offered(grant: Grant | Terms, price: Price, upstreams: Collection[str]) -> bool:
    if price.upstream not in upstreams or (grant.models is not None and price.model not in grant.models):
        return False
    return grant.plan_mode != PlanMode.OWN_KEY or price.upstream == grant.own_key_upstream
