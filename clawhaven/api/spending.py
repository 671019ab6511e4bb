"""What is spent: usage in any combination, live, as a table for spreadsheets; limits a day; automatic calls."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from clawhaven.accounts.ownership import owned
from clawhaven.api.billing import as_utc
from clawhaven.api.bodies import Body
from clawhaven.api.deps import Ctx, Signed
from clawhaven.context import Context
from clawhaven.core.money import format_usd
from clawhaven.instances.models import Instance
from clawhaven.metering import spending, usage
from clawhaven.metering.spending import Spending
from clawhaven.metering.usage import Line, Sum
from clawhaven.workflows import spending as watch

router = APIRouter(tags=["billing"])

FIGURES = ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "price_micros")
By = Annotated[str, Query(description="day, hour, model, instance or source; several by comma.")]
Limit = Annotated[int, Field(ge=0, le=spending.MOST_MICROS)]


class LimitBody(Body):
    """A limit in micro-dollars a day, whole cents; null: none."""

    spend_per_day_micros: Limit | None


class ContinueBody(Body):
    """`seen_extra_micros`: what was added today when the person was asked; then a second tap adds nothing."""

    seen_extra_micros: Annotated[int, Field(ge=0)] | None = None


@router.get("/billing/usage/by")
def usage_by(
    who: Signed,
    ctx: Ctx,
    by: By = "day",
    since: datetime | None = None,
    until: datetime | None = None,
    instance_id: str | None = None,
) -> dict[str, Any]:
    """Usage of a period (default: this month so far) in any combination: `by=day,source`. Days and hours are UTC."""
    ways, begin, end, lines = _read(who.account_id, ctx, by, since, until, instance_id)
    return {
        "since": begin.isoformat(),
        "until": end.isoformat(),
        "items": [{**dict(zip(ways, line.keys, strict=True)), **_figures(line.sum)} for line in lines],
        "next_cursor": None,
    }


@router.get("/billing/usage.csv")
def usage_csv(
    who: Signed,
    ctx: Ctx,
    by: By = "day,model",
    since: datetime | None = None,
    until: datetime | None = None,
    instance_id: str | None = None,
) -> Response:
    """The same for a spreadsheet."""
    ways, begin, _, lines = _read(who.account_id, ctx, by, since, until, instance_id)
    text = write_csv(ways, lines)
    name = f"usage-{begin:%Y-%m-%d}.csv"
    return Response(text, media_type="text/csv", headers={"content-disposition": f'attachment; filename="{name}"'})


@router.get("/billing/usage/live")
def live(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Calls under way, this hour and today so far, and each assistant's limits."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        found = usage.live_usage(db, who.account_id, now)
        days = spending.spending_of(db, now, account_id=who.account_id)
    return {
        "at": now.isoformat(),
        "in_flight": found.in_flight,
        "held_micros": found.held_micros,
        "this_hour": _figures(found.this_hour),
        "today": _figures(found.today),
        "today_by_source": [{"source": one.key, **_figures(one)} for one in found.today_by_source],
        "instances": [spending_json(one) for one in days],
    }


@router.put("/billing/spend-limit")
def limit_account(body: LimitBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Your own limit a day for all assistants together; at the limit they stop answering until midnight UTC."""
    with ctx.db.tx() as db:
        watch.set_account_limit(db, ctx, who.account_id, body.spend_per_day_micros, who.actor)
    return {"spend_per_day_micros": body.spend_per_day_micros}


@router.get("/instances/{instance_id}/spending")
def instance_spending(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """One assistant's day: spent, its limits, and what it did by itself."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        found = spending.spending_of(db, ctx.clock.now(), instance_ids=[instance_id])
    return spending_json(found[0] if found else _nothing(ctx, instance_id, who.account_id))


@router.put("/instances/{instance_id}/spend-limit")
def limit_instance(instance_id: str, body: LimitBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Your own limit a day for one assistant."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        return spending_json(watch.set_limit(db, ctx, instance_id, body.spend_per_day_micros, who.actor))


@router.post("/instances/{instance_id}/continue")
def continue_automatic(instance_id: str, body: ContinueBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Let what the assistant does by itself go on today, for one more allowance."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        return spending_json(watch.go_on(db, ctx, instance_id, who.actor, body.seen_extra_micros))


def spending_json(one: Spending) -> dict[str, Any]:
    """The wire form of an assistant's day."""
    return {
        "instance_id": one.instance_id,
        "spent_today_micros": one.spent_micros,
        "spend_per_day_micros": one.limit_micros,
        "account_spent_today_micros": one.account_spent_micros,
        "account_spend_per_day_micros": one.account_limit_micros,
        "automatic_today_micros": one.automatic_micros,
        "automatic_allowance_micros": one.allowance_micros,
        "automatic_step_micros": one.step_micros,
        "automatic_extra_micros": one.extra_micros,
        "is_automatic_paused": one.is_automatic_paused,
        "resets_at": one.resets_at.isoformat(),
    }


def write_csv(ways: list[str], lines: list[Line]) -> str:
    """A header and a row per line; money in dollars beside micro-dollars. Pure."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([*ways, *FIGURES, "price_usd"])
    for line in lines:
        figures = [getattr(line.sum, name) for name in FIGURES]
        price = format_usd(line.sum.price_micros).replace("$", "").replace(",", "")
        table.writerow([*line.keys, *figures, price])
    return text.getvalue()


def _read(
    account_id: str,
    ctx: Context,
    by: str,
    since: datetime | None,
    until: datetime | None,
    instance_id: str | None,
) -> tuple[list[str], datetime, datetime, list[Line]]:
    now = ctx.clock.now()
    begin = as_utc(since, "since") if since else now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = as_utc(until, "until") if until else usage.hour_of(now) + usage.HOUR
    ways = [way.strip() for way in by.split(",") if way.strip()]
    with ctx.db.read() as db:
        return ways, begin, end, usage.usage_by(db, account_id, ways, begin, end, instance_id=instance_id)


def _figures(line: Sum) -> dict[str, Any]:
    """What a customer sees of a sum: not what it cost the operator."""
    return {name: value for name, value in asdict(line).items() if name in FIGURES} | {
        "price": format_usd(line.price_micros)
    }


def _nothing(ctx: Context, instance_id: str, account_id: str) -> Spending:
    """An assistant that makes no model calls yet."""
    midnight = usage.hour_of(ctx.clock.now()).replace(hour=0)
    return Spending(instance_id, account_id, 0, None, 0, None, 0, None, None, 0, midnight + 24 * usage.HOUR)
