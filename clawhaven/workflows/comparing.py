"""Comparing the money when an operator asks for it: look by look, kept with its result, gone on with after a crash."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy.orm import Session

from clawhaven.billing import comparisons
from clawhaven.billing.models import Comparison
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Conflict
from clawhaven.workflows import engine, money
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow
from clawhaven.workflows.vendors import Difference

LOOKS = {look.__name__: look for look in money.LOOKS}
"""Name -> look, in order; a name is stored data of what is under way."""


def ask(db: Session, ctx: Context, actor: str, *, is_repair: bool) -> Comparison:
    """Begin a comparison, in the caller's transaction; one that only looks and is under way already is that one.

    Raises Conflict for a repair while one is under way.
    """
    now = ctx.clock.now()
    row = comparisons.begin(db, actor, now, is_repair=is_repair)
    if row is None:
        under_way = comparisons.running(db, now)
        if under_way is None or is_repair:
            raise Conflict("A comparison is under way. Wait for its end, then repair.", code="busy")
        return under_way
    audit.record(db, now, actor, "money.compare", row.id, is_repair=is_repair)
    places = (row.id, list(LOOKS), is_repair, actor)
    enqueue(
        db, ctx, "compare_on_demand", f"comparison:{row.id}", *places, queue=engine.ACCOUNTS, partition="comparison"
    )
    return row


@workflow("compare_on_demand")
def compare_on_demand(comparison_id: str, names: list[str], is_repair: bool, actor: str) -> str:
    """Every look, then the repairs if they were asked for, then the result."""
    try:
        found: list[dict[str, Any]] = []
        for number, name in enumerate(names, 1):
            found += take_look(comparison_id, number, name)
        keep_result(comparison_id, found, is_repair, actor)
    except StepFailed as failure:
        give_up_comparing(comparison_id)
        return failure.code
    return "done"


@step("take_look", attempts=2)
def take_look(comparison_id: str, number: int, name: str) -> list[dict[str, Any]]:
    """What one look finds. A look that this version does not know any more finds nothing."""
    ctx = engine.context()
    look = LOOKS.get(name)
    found = money.look_once(ctx, look) if look is not None else []
    with ctx.db.tx() as db:
        comparisons.advance(db, comparison_id, number)
    return [dataclasses.asdict(one) for one in found]


@step("keep_result", attempts=2)
def keep_result(comparison_id: str, found: list[dict[str, Any]], is_repair: bool, actor: str) -> int:
    """Repair what is safe, if that was asked for, and keep the result; returns how many differences there are. Every
    repair looks again before it acts, and can be done twice."""
    ctx = engine.context()
    differences = money.without_echo([Difference(**one) for one in found])
    done = money.repair(ctx, differences, actor) if is_repair else differences
    with ctx.db.tx() as db:
        comparisons.finish(db, comparison_id, [dataclasses.asdict(one) for one in done], ctx.clock.now())
    return len(done)


@step("give_up_comparing")
def give_up_comparing(comparison_id: str) -> None:
    """It broke; the log says why."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        comparisons.finish(db, comparison_id, None, ctx.clock.now())


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """The newest result, and what is under way. `total`: of how many looks."""

    last: Comparison | None
    found: list[Difference]
    under_way: Comparison | None
    total: int = len(LOOKS)


def show(db: Session, ctx: Context) -> Shown:
    """What the doors show; asks nobody."""
    last = comparisons.newest(db)
    return Shown(last, differences_of(last), comparisons.running(db, ctx.clock.now()))


def differences_of(row: Comparison | None) -> list[Difference]:
    """What a comparison found."""
    return [Difference(**one) for one in comparisons.found_by(row)] if row is not None else []
