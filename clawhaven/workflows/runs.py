"""Durable work as the operator sees it: what waits, runs, failed and why; and trying again what failed.

With engine.py the only module that knows the engine's records. Nothing of it runs inside a transaction of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import audit, cursors
from clawhaven.core.errors import Conflict, Invalid, NotFound
from clawhaven.core.languages import N_
from clawhaven.workflows import engine

STATES: dict[str, tuple[str, ...]] = {
    "waiting": ("ENQUEUED", "DELAYED"),
    "running": ("PENDING",),
    "failed": ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"),
    "done": ("SUCCESS", "CANCELLED"),
}
"""Our words for the engine's."""

WORDS = {theirs: ours for ours, words in STATES.items() for theirs in words}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a workflow. `subject`: the assistant, account or payment it is about, where it has one.

    `attempts`: how often a worker took it up. `reason`: why it failed, or what it returned. `step`: where it is.
    """

    id: str
    name: str
    state: str
    queue: str
    subject: str
    attempts: int
    began_at: datetime
    changed_at: datetime
    reason: str
    step: str


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs, newest first, and the cursor of the next page (None: this was the last)."""

    runs: list[Run]
    next_cursor: str | None


def list_runs(ctx: Context, state: str = "failed", cursor: str | None = None, limit: int = 50) -> RunPage:
    """Runs in one state, newest first. Four queries, however many. Raises Invalid for a bad state or cursor."""
    if state not in STATES:
        raise Invalid(f"A state is {', '.join(STATES)}.", field="state", reason="unknown")
    with ctx.db.read() as db:
        row = _table(db, "workflow_status", "workflow_uuid", "status", "created_at", "recovery_attempts").c
        query = sa.select(row.workflow_uuid, row.created_at, row.recovery_attempts).where(row.status.in_(STATES[state]))
        if cursor is not None:
            at, last = cursors.read(cursor)
            moment = int(at.timestamp() * 1000)
            query = query.where(
                sa.or_(row.created_at < moment, sa.and_(row.created_at == moment, row.workflow_uuid < last))
            )
        order = (row.created_at.desc(), row.workflow_uuid.desc())
        found = db.execute(query.order_by(*order).limit(limit + 1)).all()
        shown = found[:limit]
        steps = _last_steps(db, [one.workflow_uuid for one in shown])
    if not shown:
        return RunPage([], None)
    ids = [one.workflow_uuid for one in shown]
    told = {one.workflow_id: one for one in engine.client_of(ctx).list_workflows(workflow_ids=ids, load_input=False)}
    attempts = {one.workflow_uuid: int(one.recovery_attempts or 0) for one in shown}
    runs = [_run(told[one], attempts[one], steps.get(one, "")) for one in ids if one in told]
    last_one = shown[-1] if len(found) > limit else None
    return RunPage(runs, cursors.write(_at(last_one.created_at), last_one.workflow_uuid) if last_one else None)


def retry(ctx: Context, run_id: str, actor: str) -> None:
    """Try a failed run again from the step that failed; what was done before is not done again.

    Raises NotFound for an unknown run, Conflict for one that has not failed.
    """
    client = engine.client_of(ctx)
    found = client.list_workflows(workflow_ids=[run_id], load_input=False, load_output=False)
    if not found:
        raise NotFound("There is no such workflow; its record may have been forgotten.")
    run = found[0]
    if WORDS.get(str(run.status)) != "failed":
        raise Conflict("Only what has failed can be tried again.", code="illegal_move")
    step = _failed_step(client.list_workflow_steps(run_id))
    with ctx.db.tx() as db:
        audit.record(db, ctx.clock.now(), actor, "workflow.retry", run_id[:80], name=str(run.name), step=step)
    client.rewind_workflow(
        run_id, start_step=step, queue_name=run.queue_name, queue_partition_key=run.queue_partition_key
    )


def count_states(db: Session) -> dict[str, int]:
    """Our word -> how many; what is done is not counted."""
    counts = dict.fromkeys(("waiting", "running", "failed"), 0)
    for (_queue, state), number in engine.unfinished(db).items():
        word = WORDS.get(state.upper())
        if word in counts:
            counts[word] += number
    return counts


def _failed_step(steps: list[Any]) -> int:
    """The last step that gave up or broke: what earlier ones refused, the run has answered; else the last one; 1 when
    none was recorded."""
    for one in reversed(steps):
        output = one["output"]
        if one["error"] is not None or (isinstance(output, dict) and "failed" in output):
            return int(one["function_id"])
    return int(steps[-1]["function_id"]) if steps else 1


def _run(told: Any, attempts: int, step: str) -> Run:
    began = _at(told.created_at or 0)
    reason = f"{type(told.error).__name__}: {told.error}" if told.error is not None else ""
    if not reason and isinstance(told.output, str):
        reason = told.output
    if str(told.status) == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        reason = N_("every worker that took it up has died")
    return Run(
        id=told.workflow_id,
        name=told.name,
        state=WORDS.get(str(told.status), str(told.status).lower()),
        queue=told.queue_name or "",
        subject=told.queue_partition_key or "",
        attempts=attempts,
        began_at=began,
        changed_at=_at(told.updated_at) if told.updated_at else began,
        reason=reason[:300],
        step=step,
    )


def _last_steps(db: Session, ids: list[str]) -> dict[str, str]:
    """Run -> the name of the newest step on record."""
    row = _table(db, "operation_outputs", "workflow_uuid", "function_id", "function_name").c
    newest = (
        sa.select(row.workflow_uuid, sa.func.max(row.function_id).label("newest"))
        .where(row.workflow_uuid.in_(ids))
        .group_by(row.workflow_uuid)
        .subquery()
    )
    is_newest = sa.and_(row.workflow_uuid == newest.c.workflow_uuid, row.function_id == newest.c.newest)
    found = db.execute(sa.select(row.workflow_uuid, row.function_name).join(newest, is_newest))
    return {str(run): str(name) for run, name in found}


def _table(db: Session, name: str, *columns: str) -> Any:
    schema = None if db.get_bind().dialect.name == "sqlite" else "dbos"
    return sa.table(name, *(sa.column(one) for one in columns), schema=schema)


def _at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
