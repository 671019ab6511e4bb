"""What was used and what it cost, for the account and for one assistant, and the assistant's limit a day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from babel import dates
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.errors import Invalid
from clawhaven.core.money import parse_usd
from clawhaven.instances.models import Instance
from clawhaven.metering.usage import Line, Sum, list_usage, month_so_far, usage_by, usage_summary
from clawhaven.web import deps, languages
from clawhaven.web.charts import Chart, Series, draw_bars
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.languages import N_, _
from clawhaven.web.render import page
from clawhaven.web.spending import day_of, live_of
from clawhaven.workflows import spending

router = APIRouter()

CALLS = 50

GROUPS = (
    ("person", N_("Your messages")),
    ("automatic", N_("By itself")),
    ("program", N_("Your programs")),
    ("unknown", N_("Other")),
)
"""What the chart tells apart; every kind of automatic call is one of the second."""


@router.get("/usage")
def show_usage(request: Request, ctx: Ctx, owner: SignedIn, cursor: str | None = None) -> Response:
    """This month, four ways, and every call."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        month = usage_summary(db, owner.account.id, *month_so_far(now))
        calls = list_usage(db, owner.account.id, cursor, CALLS)
        days = usage_by(db, owner.account.id, ("day", "source"), *month_so_far(now))
        mine = select(Instance.id, Instance.name).where(Instance.account_id == owner.account.id)
        names = dict(db.execute(mine).tuples().all())
    return page(
        request,
        "usage.html",
        month=month,
        live=live_of(ctx, owner.account.id),
        chart=draw(days, now, is_priced=month.total.price_micros > 0),
        calls=calls,
        names=names,
        month_name=dates.format_date(now, "LLLL y", locale=languages.current()),
    )


@router.get("/instances/{instance_id}/usage")
def show_instance_usage(
    request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId, cursor: str | None = None
) -> Response:
    """This month's sum, the day with its limit, and the last calls of one assistant."""
    return _instance_page(request, ctx, owner, instance_id, cursor)


@router.post("/instances/{instance_id}/spend-limit")
def set_limit(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """The owner's limit a day; an empty field is none. What cannot be one is shown again with the reason."""
    given = form.get("limit").strip()
    try:
        micros = parse_usd(given) if given else None
    except ValueError:
        micros = -1
    try:
        with ctx.db.tx() as db:
            owned(db, Instance, instance_id, owner.account.id)
            spending.set_limit(db, ctx, instance_id, micros, deps.actor(owner))
    except Invalid as problem:
        return _instance_page(request, ctx, owner, instance_id, status=problem.status, refused=given)
    return RedirectResponse(f"/instances/{instance_id}/usage?done=limit-saved", 303)


def _instance_page(
    request: Request,
    ctx: Context,
    owner: Owner,
    instance_id: str,
    cursor: str | None = None,
    *,
    status: int = 200,
    refused: str | None = None,
) -> Response:
    """`refused`: what was typed as the limit a day and cannot be one."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        month = usage_summary(db, owner.account.id, *month_so_far(now))
        calls = list_usage(db, owner.account.id, cursor, CALLS, instance_id)
    mine = next((row for row in month.by_instance if row.key == instance_id), Sum(instance_id, 0, 0, 0, 0, 0, 0, 0))
    plan = ctx.plans.get(instance.plan)
    return page(
        request,
        "instance_usage.html",
        status,
        tab="usage",
        instance=instance,
        plan=plan,
        mine=mine,
        calls=calls,
        now=now,
        day=day_of(ctx, instance_id),
        limit=refused,
        errors={} if refused is None else {"limit": _("Write an amount in US dollars, as in 2.50, at most $10,000.")},
    )


def draw(lines: Sequence[Line], now: datetime, *, is_priced: bool) -> Chart:
    """This month so far, a bar for each day: its value, or (where nothing has a price) its calls."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        day, source = line.keys
        group = source if source in ("person", "program", "unknown") else "automatic"
        found[day, group] += line.sum.price_micros if is_priced else line.sum.calls
    days = [f"{now:%Y-%m}-{number + 1:02d}" for number in range(now.day)]
    series = [
        Series(_(name), [found[day, group] for day in days])
        for group, name in GROUPS
        if group == "person" or any(found[day, group] for day in days)
    ]
    return draw_bars([str(int(day[-2:])) for day in days], series, languages.usd if is_priced else languages.count)
