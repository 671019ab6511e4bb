"""Money that is spent, watched: limits a day that were reached, the allowance for automatic calls, dear hours.

Every letter has a key of its own (a day or an hour, and whom it is about), so however often this runs, after whatever
crash, each is written once.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from clawhaven.accounts import directory, signup
from clawhaven.billing.plans import allowance_of
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Invalid, NotFound
from clawhaven.core.money import format_usd
from clawhaven.core.secrets import SealBroken
from clawhaven.instances.models import Instance
from clawhaven.metering import spending
from clawhaven.metering.limits import ACCOUNT_SPEND_PER_DAY, AUTOMATIC_PER_DAY, SPEND_PER_DAY
from clawhaven.metering.models import UsageHour, UsageRow
from clawhaven.metering.spending import Spending
from clawhaven.metering.usage import hour_of
from clawhaven.notices import outbox
from clawhaven.notices import spending as letters_of
from clawhaven.workflows import engine, letters
from clawhaven.workflows.engine import StepFailed, step, workflow

PURPOSE = "spending.continue"
"""What the link of a letter is sealed for."""

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_IS_UNCOVERED = text("usage.uncovered_micros > 0")
"""In the words of the index that holds just these rows."""

MOST_LISTED = 20
"""Customers named in one alert."""

FACTOR = 3
"""An hour is a spike beyond so many times what is usual."""


def go_on(db: Session, ctx: Context, instance_id: str, actor: str, seen_extra_micros: int | None = None) -> Spending:
    """Let an assistant's automatic calls go on today. See `spending.continue_automatic`. Raises NotFound, Conflict."""
    now = ctx.clock.now()
    is_new = spending.continue_automatic(db, instance_id, now, seen_extra_micros)
    (found,) = spending.spending_of(db, now, instance_ids=[instance_id])
    if is_new:
        allowance = format_usd(found.allowance_micros or 0)
        audit.record(db, now, actor, "spending.continue", instance_id, found.account_id, allowance=allowance)
    return found


def link(ctx: Context, found: Spending) -> str:
    """The address in a letter: one tap adds one allowance to that day, once."""
    text = json.dumps([found.instance_id, spending.day_of(ctx.clock.now()), found.extra_micros])
    return f"{ctx.settings.base_url}/continue/{ctx.keys.seal(text, PURPOSE)}"


def read_link(ctx: Context, token: str) -> tuple[str, int]:
    """The assistant, and what had been added when the letter was written. Raises NotFound; Invalid on a later day."""
    try:
        instance_id, day, extra = json.loads(ctx.keys.open(token, PURPOSE))
    except SealBroken:
        raise NotFound("This link is not one of ours, or it is not whole.") from None
    if day != spending.day_of(ctx.clock.now()):
        raise Invalid("This link was for a day that is over; there is a new allowance.", code="link_over")
    return str(instance_id), int(extra)


def set_limit(db: Session, ctx: Context, instance_id: str, limit_micros: int | None, actor: str) -> Spending:
    """The customer's own limit a day for an assistant that is theirs. Raises Invalid, NotFound."""
    spending.set_limit(db, instance_id, limit_micros)
    (found,) = spending.spending_of(db, ctx.clock.now(), instance_ids=[instance_id])
    _record(db, ctx, actor, instance_id, found.account_id, limit_micros)
    return found


def set_account_limit(db: Session, ctx: Context, account_id: str, limit_micros: int | None, actor: str) -> None:
    """The same for all assistants of an account together. Raises Invalid, NotFound."""
    spending.set_account_limit(db, account_id, limit_micros)
    _record(db, ctx, actor, account_id, account_id, limit_micros)


@workflow("watch_spending")
def watch_spending(scheduled_at: datetime, context: Any) -> None:
    """Allowances as the plans say, letters about what was reached, alerts for dear hours and for what nobody paid."""
    for look in (align_allowances, tell_limits, tell_spikes, tell_uncovered):
        with contextlib.suppress(StepFailed):
            look()


@step("align_allowances", attempts=1)
def align_allowances() -> int:
    """Bring every grant to what its plan says today; returns how many changed."""
    return align(engine.context())


@step("tell_limits", attempts=1)
def tell_limits() -> int:
    """Write letters about limits that were reached; returns how many."""
    return tell(engine.context())


@step("tell_spikes", attempts=1)
def tell_spikes() -> int:
    """Write alerts for dear hours; returns how many."""
    return find_spikes(engine.context())


@step("tell_uncovered", attempts=1)
def tell_uncovered() -> int:
    """Write alerts for usage that no balance covered; returns how many."""
    return find_uncovered(engine.context())


def align(ctx: Context) -> int:
    """Bring every grant's allowance to what its plan says; an unknown plan changes nothing."""
    with ctx.db.read() as db:
        known = spending.allowances(db)
        plans = dict(db.execute(select(Instance.id, Instance.plan).where(Instance.deleted_at.is_(None))).tuples().all())
    wanted = {
        one: allowance_of(ctx.plans.get(plan)) for one, plan in plans.items() if one in known and plan in ctx.plans
    }
    changed = {one: micros for one, micros in wanted.items() if known[one] != micros}
    if not changed:
        return 0
    with ctx.db.tx() as db:
        return spending.set_allowances(db, changed)


def tell(ctx: Context) -> int:
    """One letter a day for each limit of each assistant that refused a call, or whose allowance is used up."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        paused = [one for one in spending.spending_of(db, now) if one.is_automatic_paused]
        waiting = spending.untold(db, now - timedelta(days=1))
        told = outbox.known(db, {_key(AUTOMATIC_PER_DAY, one.instance_id, ctx) for one in paused})
        names = _names(db, {*(one.instance_id for one in paused), *(row.instance_id for row in waiting)})
    written = 0
    for one in paused:
        if _key(AUTOMATIC_PER_DAY, one.instance_id, ctx) not in told:
            with ctx.db.tx() as db:
                written += _tell_paused(db, ctx, one, names.get(one.instance_id, "Your assistant"))
    for row in waiting:
        with ctx.db.tx() as db:
            found = spending.spending_of(db, now, instance_ids=[row.instance_id])
            if found and row.day == spending.day_of(now):
                written += _tell_reached(db, ctx, row.limit, found[0], names.get(row.instance_id, "your assistant"))
            spending.mark_told(db, row, now)
    return written


def find_spikes(ctx: Context) -> int:
    """An alert for each account whose hour, this one or the last, is beyond the floor and its own usual hours."""
    now, floor = ctx.clock.now(), ctx.settings.micros("spend_spike_minimum")
    hours, written = UsageHour, 0
    sums = func.sum(hours.price_micros)
    for hour in (hour_of(now) - HOUR, hour_of(now)):
        with ctx.db.read() as db:
            dear = select(hours.account_id, sums).where(hours.hour_at == hour).group_by(hours.account_id)
            found = {account_id: int(spent) for account_id, spent in db.execute(dear.having(sums > floor))}
            known = outbox.known(db, {_spike_key(account_id, hour) for account_id in found})
            found = {one: spent for one, spent in found.items() if _spike_key(one, hour) not in known}
            usual = {account_id: _usual(db, account_id, hour) for account_id in found}
            emails = directory.emails_of(db, set(found))
        for account_id, spent in sorted(found.items()):
            if spent > FACTOR * usual[account_id]:
                email = emails.get(account_id, account_id)
                letter = letters_of.spike(
                    email,
                    format_usd(spent),
                    f"{hour:%Y-%m-%d %H:%M}",
                    format_usd(usual[account_id]),
                    f"{ctx.settings.base_url}/admin/accounts/{account_id}",
                )
                with ctx.db.tx() as db:
                    letters.post_to(db, ctx, _spike_key(account_id, hour), letter, ctx.settings.support_address)
                written += 1
    return written


def find_uncovered(ctx: Context) -> int:
    """One alert for each day, today and yesterday, on which calls cost more than hold and wallet had."""
    now, written = ctx.clock.now(), 0
    row, today = UsageRow, now.replace(hour=0, minute=0, second=0, microsecond=0)
    for since in (today - DAY, today):
        day = spending.day_of(since)
        with ctx.db.read() as db:
            if outbox.known(db, {_uncovered_key(day)}):
                continue
            # Not summed there: for a GROUP BY, SQLite reads all calls in the accounts' order.
            short = select(row.account_id, row.uncovered_micros).where(_IS_UNCOVERED, row.started_at >= since)
            found = Counter[str]()
            for account_id, micros in db.execute(short.where(row.started_at < since + DAY)):
                found[account_id] += micros
            emails = directory.emails_of(db, set(found))
        if found:
            ranked = sorted(found.items(), key=lambda one: (-one[1], one[0]))
            lines = [f"{emails.get(one, one)}: {format_usd(micros)}" for one, micros in ranked[:MOST_LISTED]]
            letter = letters_of.uncovered(
                day,
                format_usd(found.total()),
                lines,
                len(ranked) - len(lines),
                f"{ctx.settings.base_url}/admin/margin?month={day[:7]}",
            )
            with ctx.db.tx() as db:
                letters.post_to(db, ctx, _uncovered_key(day), letter, ctx.settings.support_address)
            written += 1
    return written


def percentile_95(values: Sequence[int], count: int) -> int:
    """The 95th percentile (nearest rank) of `count` values, of which those not given are zero. Pure."""
    rank = math.ceil(0.95 * count)
    ordered = sorted(values, reverse=True)
    place = count - rank
    return ordered[place] if place < len(ordered) else 0


def _usual(db: Session, account_id: str, hour: datetime) -> int:
    hours = UsageHour
    query = (
        select(func.sum(hours.price_micros))
        .where(hours.account_id == account_id, hours.hour_at >= hour - WEEK, hours.hour_at < hour)
        .group_by(hours.hour_at)
    )
    return percentile_95([int(value) for value in db.scalars(query)], WEEK // HOUR)


def _tell_paused(db: Session, ctx: Context, one: Spending, name: str) -> int:
    usage_url = f"{ctx.settings.base_url}/instances/{one.instance_id}/usage"
    letter = letters_of.automatic_paused(
        ctx.settings.brand_name,
        name,
        format_usd(one.automatic_micros),
        format_usd(one.step_micros or 0),
        # What works without a sign-in goes to proven addresses alone.
        link(ctx, one) if signup.owner_of(db, one.account_id).user.verified_at is not None else usage_url,
        usage_url,
    )
    letters.post(db, ctx, _key(AUTOMATIC_PER_DAY, one.instance_id, ctx), letter, one.account_id)
    return 1


def _tell_reached(db: Session, ctx: Context, limit: str, one: Spending, name: str) -> int:
    if limit == AUTOMATIC_PER_DAY:
        return 0  # The allowance is judged by what it was used for, above.
    is_account = limit == ACCOUNT_SPEND_PER_DAY
    micros = one.account_limit_micros if is_account else one.limit_micros
    if limit not in (SPEND_PER_DAY, ACCOUNT_SPEND_PER_DAY) or micros is None:
        return 0
    what, subject = ("", one.account_id) if is_account else (name, one.instance_id)
    url = f"{ctx.settings.base_url}/usage" if is_account else f"{ctx.settings.base_url}/instances/{subject}/usage"
    letter = letters_of.limit_reached(ctx.settings.brand_name, what, format_usd(micros), url)
    letters.post(db, ctx, _key(limit, subject, ctx), letter, one.account_id)
    return 1


def _names(db: Session, instance_ids: set[str]) -> dict[str, str]:
    mine = select(Instance.id, Instance.name).where(Instance.id.in_(sorted(instance_ids)))
    return dict(db.execute(mine).tuples().all()) if instance_ids else {}


def _key(limit: str, subject: str, ctx: Context) -> str:
    return f"limit:{limit}:{subject}:{spending.day_of(ctx.clock.now())}"


def _spike_key(account_id: str, hour: datetime) -> str:
    return f"spend-spike:{account_id}:{hour:%Y-%m-%dT%H}"


def _uncovered_key(day: str) -> str:
    return f"uncovered:{day}"


def _record(db: Session, ctx: Context, actor: str, subject: str, account_id: str, micros: int | None) -> None:
    limit = "none" if micros is None else format_usd(micros)
    audit.record(db, ctx.clock.now(), actor, "spending.limit", subject, account_id, limit=limit)
