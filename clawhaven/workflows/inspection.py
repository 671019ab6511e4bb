"""What is missing or wrong here, with the line that mends it: `clawhaven doctor` and a page. Tells no secrets."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from clawhaven.billing.plans import describe
from clawhaven.context import Context
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering.pricefile import tell
from clawhaven.workflows import prices

OK = "ok"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `state`: `ok`, or what is wrong in a word; `advice`: what mends it, or a remark."""

    what: str
    state: str
    advice: str

    @property
    def is_ok(self) -> bool:
        """True when there is nothing to mend."""
        return self.state == OK


def inspect(ctx: Context) -> list[Check]:
    """Look at everything. Asks runtimes what they need, so no transaction may be open."""
    checks = [_look_at_database(ctx)]
    has_database = checks[0].is_ok
    for name, runtime in ctx.runtimes.items():
        missing = runtime.missing()
        checks += [Check(f"runtime {name}", "missing", f"{one.what}: {one.fix}") for one in missing]
        checks += [] if missing else [Check(f"runtime {name}", OK, "")]
    free = shutil.disk_usage(ctx.settings.data_dir).free // 1024**3
    checks.append(Check("disk", OK if free >= 2 else "low", "" if free >= 2 else f"{free} GB free; 2 GB at least"))
    checks += [Check(f"plan {plan.id}", OK, describe(plan)) for plan in ctx.plans]
    if not ctx.plans.offered_ids():
        advice = "nobody can sign up; set is_offered = true for one in PLANS_FILE"
        checks.append(Check("plans", "none offered", advice))
    checks += _look_at_plans_in_use(ctx) if has_database else []
    checks += _look_at_prices(ctx, has_database=has_database)
    for name, upstream in ctx.upstreams.items():
        has_key = getattr(upstream, "is_ready", True)
        checks.append(Check(f"model vendor {name}", OK, "" if has_key else f"not used: set {name.upper()}_API_KEY"))
    for name, integration in ctx.integrations.items():
        checks.append(Check(f"integration {name}", OK, "" if integration.is_ready else f"off. {integration.missing}"))
    return checks


def _look_at_database(ctx: Context) -> Check:
    try:
        with ctx.db.read() as db:
            db.execute(text("SELECT version_num FROM alembic_version"))
    except SQLAlchemyError:
        return Check("database", "missing", "clawhaven migrate")
    return Check("database", OK, "")


def _look_at_plans_in_use(ctx: Context) -> list[Check]:
    """Plans that assistants have and the catalogue no longer knows."""
    with ctx.db.read() as db:
        alive = select(Instance.plan, func.count()).where(Instance.state != State.DELETED)
        used = db.execute(alive.group_by(Instance.plan).order_by(Instance.plan)).all()
    return [
        Check(f"plan {plan}", "missing", f"{count} assistant(s) have it: put it back with is_offered = false")
        for plan, count in used
        if plan not in ctx.plans
    ]


def _look_at_prices(ctx: Context, *, has_database: bool) -> list[Check]:
    """The operator's own prices, and models that assistants have and that are not sold (any more)."""
    own = [price for price in ctx.prices.every() if price.is_own]
    where = f" of them in {ctx.settings.model_prices_file}" if own else ", all of them ours"
    current = ctx.prices.current(ctx.clock.now())
    told = f"{len(current)} models; {len(own)}{where}" if own else f"{len(current)} models{where}"
    checks = [Check("prices", OK, told)]
    checks += [Check(f"price {price.model}", OK, tell(price)) for price in own]
    if has_database:
        checks += [
            Check(f"model {model}", "not sold", f"{count} assistant(s) have it, and their calls are refused")
            for model, count in prices.unpriced_models(ctx).items()
        ]
    return checks
