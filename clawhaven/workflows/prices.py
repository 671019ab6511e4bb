"""Prices of models from the start of a process on, and beside somebody else's list."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa

from clawhaven.context import Context
from clawhaven.core.errors import Unavailable
from clawhaven.core.logs import get_logger
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering import pricebook
from clawhaven.metering.listing import Difference, compare
from clawhaven.ports.errors import ProviderError

log = get_logger("clawhaven.prices")


@dataclass(frozen=True, slots=True)
class Compared:
    """What differs between our prices and the list called `source`. `is_open`: somebody has to do something."""

    source: str
    differences: list[Difference]

    @property
    def is_open(self) -> bool:
        """True when at least one difference is not on purpose."""
        return any(one.is_open for one in self.differences)


def begin(ctx: Context) -> Context:
    """What a process does before it serves: write its prices down, learn those of others, let plans' markups count.

    Returns the context whose table also prices calls that were admitted by other files than today's. Any number of
    processes may do it at the same time, and any may be killed in it.
    """
    now = ctx.clock.now()
    with ctx.db.read() as db:
        known = pricebook.recall(db)
    there = {price.id for price in known}
    fresh = [price for price in ctx.prices.every() if price.id not in there]
    if fresh:
        with ctx.db.tx() as db:
            pricebook.record(db, fresh, now=now)
    _follow_plans(ctx)
    return replace(ctx, prices=ctx.prices.with_retired(known))


def look(ctx: Context, *, is_latest: bool) -> Compared:
    """Our prices, the operator's file over them, beside the installed list or (`is_latest`) the one published now.

    Raises Unavailable with what to do when the list cannot be had.
    """
    try:
        listing = ctx.price_list.latest() if is_latest else ctx.price_list.installed()
    except ProviderError as error:
        raise Unavailable(error.message) from error
    return Compared(listing.source, compare(ctx.prices, listing, ctx.clock.now()))


def unpriced_models(ctx: Context) -> dict[str, int]:
    """Model -> how many assistants have it although it has no price now, so that their calls are refused."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        alive = sa.select(Instance.model, sa.func.count()).where(Instance.state != State.DELETED.value)
        used = db.execute(alive.group_by(Instance.model).order_by(Instance.model)).all()
    return {model: count for model, count in used if ctx.prices.find(model, now) is None}


def _follow_plans(ctx: Context) -> None:
    """A plan's markup as the catalogue has it now counts for all who have the plan."""
    with ctx.db.read() as db:
        rows = db.execute(sa.select(Instance.plan, Instance.id).where(Instance.state != State.DELETED.value)).all()
    for plan in ctx.plans:
        ids = [instance_id for plan_id, instance_id in rows if plan_id == plan.id]
        markup = plan.markup_percent or ctx.settings.model_markup_percent
        if not ids:
            continue
        with ctx.db.tx() as db:
            changed = pricebook.set_markup(db, ids, markup, now=ctx.clock.now())
        if changed:
            log.info("markup_changed", plan=plan.id, markup_percent=markup, assistants=changed)
