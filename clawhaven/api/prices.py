"""The operator's view of what models cost: the table in force, and what others say."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from clawhaven.api.deps import Ctx, Operating
from clawhaven.metering.listing import Difference, Kind
from clawhaven.metering.pricefile import render
from clawhaven.metering.prices import Price, Rates
from clawhaven.workflows import prices

router = APIRouter(prefix="/admin/prices", tags=["admin"])


@router.get("")
def list_prices(
    who: Operating,
    ctx: Ctx,
    model: str = "",
    every: Annotated[bool, Query(description="Past and coming rows too, and models that are not sold.")] = False,
) -> dict[str, Any]:
    """What models cost now at list price, before the markup: micro-dollars per million tokens."""
    now = ctx.clock.now()
    found = ctx.prices.every() if every else ctx.prices.current(now)
    items = [_price(one) for one in found if not model or model in (one.model, *one.aliases)]
    return {"items": items, "next_cursor": None}


@router.get("/check")
def check_prices(
    who: Operating,
    ctx: Ctx,
    latest: Annotated[bool, Query(description="Ask the network for what is published now.")] = False,
) -> dict[str, Any]:
    """Our table beside genai-prices: the installed package's data, or what is published now. `is_open`: act on it."""
    found = prices.look(ctx, is_latest=latest)
    today = ctx.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "source": found.source,
        "is_open": found.is_open,
        "items": [_difference(one, today) for one in found.differences],
        "next_cursor": None,
    }


def _price(one: Price) -> dict[str, Any]:
    long_prompt = None
    if one.long_rates:
        long_prompt = {"over_tokens": one.long_over_tokens, **_rates(one.long_rates)}
    return {
        "id": one.id,
        "model": one.model,
        "aliases": list(one.aliases),
        "vendor": one.upstream,
        "effective_from": one.effective_from.isoformat(),
        "is_own": one.is_own,
        "is_offered": one.is_offered,
        **_rates(one.rates),
        "long_prompt": long_prompt,
        "context_window": one.context_window,
        "max_output_tokens": one.max_output_tokens,
    }


def _rates(rates: Rates) -> dict[str, int | None]:
    return {f"{name}_micros": getattr(rates, name) for name in Rates.__dataclass_fields__}


def _difference(one: Difference, today: datetime) -> dict[str, Any]:
    return {
        "model": one.model,
        "vendor": one.upstream,
        "kind": one.kind.value,
        "is_open": one.is_open,
        "since": one.since.isoformat() if one.since else None,
        "changes": [
            {"name": name, "ours": ours, "theirs": theirs, "is_money": not name.endswith("tokens")}
            for name, (ours, theirs) in one.changes.items()
        ],
        "row": _row(one, today) if one.listed else None,
    }


def _row(one: Difference, today: datetime) -> str:
    """What to put into MODEL_PRICES_FILE. Lists do not say how long answers get: of a new model, a person has to."""
    assert one.listed is not None
    price = one.listed if one.kind is Kind.ANNOUNCED else replace(one.listed, effective_from=today)
    text = render([price])
    if price.rates.output and not price.max_output_tokens:
        text = text.replace("max_output_tokens = 0", "# max_output_tokens = …  see the vendor's page")
    return text
