"""What was used and what it cost, for the account and for one assistant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import select

from clawhaven.accounts.ownership import owned
from clawhaven.instances.models import Instance
from clawhaven.metering.usage import Sum, list_usage, usage_summary
from clawhaven.web.dashboard import month_start
from clawhaven.web.deps import Ctx, RowId, SignedIn
from clawhaven.web.render import page

router = APIRouter()

CALLS = 50
CHART_HEIGHT = 120


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of the chart; lengths in its own units."""

    day: str
    x: float
    width: float
    height: float
    calls: int
    price_micros: int


@router.get("/usage")
def show_usage(request: Request, ctx: Ctx, owner: SignedIn, cursor: str | None = None) -> Response:
    """This month, four ways, and every call."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        month = usage_summary(db, owner.account.id, month_start(now), now + timedelta(seconds=1))
        calls = list_usage(db, owner.account.id, cursor, CALLS)
        mine = select(Instance.id, Instance.name).where(Instance.account_id == owner.account.id)
        names = dict(db.execute(mine).tuples().all())
    return page(
        request,
        "usage.html",
        month=month,
        bars=draw(month.by_day, now),
        calls=calls,
        names=names,
        now=now,
    )


@router.get("/instances/{instance_id}/usage")
def show_instance_usage(
    request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId, cursor: str | None = None
) -> Response:
    """This month's sum and the last calls of one assistant."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        month = usage_summary(db, owner.account.id, month_start(now), now + timedelta(seconds=1))
        calls = list_usage(db, owner.account.id, cursor, CALLS, instance_id)
    mine = next((row for row in month.by_instance if row.key == instance_id), Sum(instance_id, 0, 0, 0, 0, 0, 0, 0))
    plan = ctx.plans.get(instance.plan)
    return page(
        request, "instance_usage.html", tab="usage", instance=instance, plan=plan, mine=mine, calls=calls, now=now
    )


def draw(days: list[Sum], now: datetime) -> list[Bar]:
    """The bars of this month so far, one per day, the highest CHART_HEIGHT high."""
    known = {row.key: row for row in days}
    highest = max([row.calls for row in days], default=0)
    bars = []
    for number in range(now.day):
        key = f"{now:%Y-%m}-{number + 1:02d}"
        row = known.get(key, Sum(key, 0, 0, 0, 0, 0, 0, 0))
        height = round(CHART_HEIGHT * row.calls / highest, 1) if highest else 0
        bars.append(Bar(key, number * 20 + 2, 16, height, row.calls, row.price_micros))
    return bars
