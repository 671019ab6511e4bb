"""Wanted against real, in both directions: explained first, repaired where that is safe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from clawhaven.accounts import sessions
from clawhaven.billing import checkouts, inbox, waitlist
from clawhaven.billing.models import InboxEvent
from clawhaven.context import Context
from clawhaven.core import ratelimit
from clawhaven.core.errors import AppError
from clawhaven.core.logs import get_logger
from clawhaven.instances import operations
from clawhaven.instances import placement as places
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import State
from clawhaven.metering import calls
from clawhaven.notices import kinds, outbox
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import checkout as signups
from clawhaven.workflows import engine, letters, lifecycle, payments, provision
from clawhaven.workflows.engine import enqueue, step, workflow

log = get_logger("clawhaven.reconcile")

PATIENCE = timedelta(minutes=2)
"""Work younger than this is left alone: its workflow is on the way."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what should be and what is. `repair` says what was done, or why nothing was."""

    subject: str
    problem: str
    repair: str


@workflow("reconcile")
def reconcile(scheduled_at: datetime, context: Any) -> None:
    """Compare and repair everything once."""
    compare()
    tidy()


@workflow("sweep_calls")
def sweep_calls(scheduled_at: datetime, context: Any) -> None:
    """End model calls whose process died, and give their holds back."""
    end_calls()


@step("end_calls", attempts=1)
def end_calls() -> int:
    """One sweep; returns how many calls were ended."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        return len(calls.sweep(db, now=ctx.clock.now()))


@step("compare", attempts=1)
def compare() -> list[dict[str, str]]:
    """All findings of this round, in the log and as the step's result."""
    ctx = engine.context()
    found = find(ctx)
    for finding in found:
        log.warning("difference", subject=finding.subject, problem=finding.problem, repair=finding.repair)
    return [{"subject": one.subject, "problem": one.problem, "repair": one.repair} for one in found]


@step("tidy", attempts=1)
def tidy() -> None:
    """Expire sessions, forget old workflow records, invite the next people."""
    ctx = engine.context()
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        sessions.sweep(db, now)
        ratelimit.sweep(db, now)
        places.unblock_ports(db, now)
        _invite(db, ctx)
    engine.forget_old(ctx, (now - timedelta(days=30)).isoformat())


def find(ctx: Context) -> list[Finding]:
    """Every difference, repaired where that is safe."""
    found = _missed_events(ctx)
    found += _stale_operations(ctx)
    found += _unfinished_inbox(ctx)
    found += _unsent_letters(ctx)
    found += _old_checkouts(ctx)
    for name in ctx.runtimes:
        found += _orphans(ctx, name)
        found += _unpaid_running(ctx, name)
    return found


def _missed_events(ctx: Context) -> list[Finding]:
    try:
        missed = payments.sync(ctx)
    except ProviderError as error:
        return [Finding("payments", f"the vendor could not be asked: {error.message}", "none; asked again next time")]
    return [Finding("payments", f"{missed} events never reached us", "fetched from the vendor")] if missed else []


def _stale_operations(ctx: Context) -> list[Finding]:
    """Operations whose workflow is over without having closed them, and instances in between with no workflow."""
    found = []
    with ctx.db.read() as db:
        open_ones = list(
            db.scalars(
                select(Operation).where(
                    Operation.state.in_(["queued", "running"]), Operation.created_at < ctx.clock.now() - PATIENCE
                )
            )
        )
    for operation in open_ones:
        if not engine.is_over(ctx, f"{operation.kind}:{operation.id}"):
            continue
        with ctx.db.tx() as db:
            operations.close(db, operation.id, ctx.clock.now(), "internal_error", "Interrupted on our side.")
            repair = "closed as failed"
            instance = db.get_one(Instance, operation.instance_id)
            if operation.kind == "provision" and instance.state == State.PROVISIONING:
                again = operations.open_operation(
                    db, instance.id, "provision", ctx.clock.now(), done=("payment_confirmed",)
                )
                provision.start(db, ctx, instance.id, again.id)
                repair = "asked for again"
            elif operation.kind == "delete" and instance.state != State.DELETED:
                lifecycle.ask_delete(db, ctx, instance.id, "workflow:reconcile")
                repair = "asked for again"
        found.append(Finding(operation.instance_id, f"{operation.kind} stopped half-way", repair))
    return found


def _unfinished_inbox(ctx: Context) -> list[Finding]:
    found = []
    with ctx.db.read() as db:
        rows = [db.get_one(InboxEvent, row_id) for row_id in inbox.left_over(db, ctx.clock.now() - PATIENCE)]
    for row in rows:
        if not engine.is_over(ctx, f"event:{row.provider}:{row.event_id}"):
            continue
        again = f"event:{row.provider}:{row.event_id}:{int(ctx.clock.now().timestamp())}"
        with ctx.db.tx() as db:
            enqueue(
                db,
                ctx,
                "apply_payment",
                again,
                row.id,
                queue=engine.EVENTS,
                partition=row.checkout_reference or row.subscription_reference or row.id,
            )
        found.append(Finding(row.event_id, "a payment event was not applied", "asked for again"))
    return found


def _unsent_letters(ctx: Context) -> list[Finding]:
    found = []
    with ctx.db.read() as db:
        waiting = outbox.unsent(db, ctx.clock.now() - PATIENCE)
    for notice_id in waiting:
        if not engine.is_over(ctx, f"deliver:{notice_id}"):
            continue
        with ctx.db.tx() as db:
            again = f"deliver:{notice_id}:{int(ctx.clock.now().timestamp())}"
            enqueue(db, ctx, "deliver", again, notice_id, queue=engine.NOTICES)
        found.append(Finding(notice_id, "a notice was not sent", "asked for again"))
    return found


def _old_checkouts(ctx: Context) -> list[Finding]:
    """Nobody paid within a day: ask the vendor one last time, then drop the draft and free its place."""
    found = []
    with ctx.db.read() as db:
        overdue = checkouts.overdue(db, ctx.clock.now())
    for checkout in overdue:
        try:
            seen = ctx.payment(checkout.provider).fetch(checkout.reference) if checkout.reference else None
        except (ProviderError, AppError) as error:
            found.append(Finding(checkout.id, f"the vendor could not be asked: {error}", "none"))
            continue
        with ctx.db.tx() as db:
            fresh = checkouts.get(db, checkout.id)
            if seen is not None and seen.checkout_state == "paid":
                payments.equalise(db, ctx, fresh, seen)
                found.append(Finding(checkout.id, "paid, but we were never told", "booked and started"))
                continue
            checkouts.expire(db, checkout.id, ctx.clock.now())
            instance = db.get(Instance, checkout.instance_id or "")
            if instance is not None and instance.state == State.PENDING:
                lifecycle.ask_delete(db, ctx, instance.id, "workflow:reconcile")
        found.append(Finding(checkout.id, "not paid within a day", "expired; its draft is removed"))
    return found


def _orphans(ctx: Context, runtime_name: str) -> list[Finding]:
    """Something runs or lies there for an instance that is deleted (removed) or unknown (reported)."""
    runtime = ctx.runtimes[runtime_name]
    found = []
    try:
        there = runtime.list()
    except ProviderError as error:
        return [Finding(runtime_name, f"cannot be listed: {error.message}", "none")]
    with ctx.db.read() as db:
        states = dict(db.execute(select(Instance.id, Instance.state).where(Instance.id.in_(there))).tuples())
    for instance_id in there:
        state = states.get(instance_id)
        if state is None:
            found.append(
                Finding(instance_id, f"{runtime_name} holds something unknown to the books", "reported, not touched")
            )
        elif state in (State.DELETED, State.PENDING):
            try:
                runtime.destroy(runtime.find(instance_id), instance_id)
            except ProviderError as error:
                found.append(Finding(instance_id, f"left over, and cannot be removed: {error.message}", "none"))
                continue
            found.append(Finding(instance_id, f"left over on {runtime_name} though {state}", "removed"))
    return found


def _unpaid_running(ctx: Context, runtime_name: str) -> list[Finding]:
    """A suspended assistant whose gateway runs all the same is stopped."""
    runtime = ctx.runtimes[runtime_name]
    found = []
    with ctx.db.read() as db:
        suspended = list(
            db.scalars(
                select(Instance).where(
                    Instance.state == State.SUSPENDED,
                    Instance.runtime == runtime_name,
                    Instance.suspended_for.is_not(None),
                    Instance.placement.is_not(None),
                )
            )
        )
        busy = {instance.id for instance in suspended if operations.under_way(db, instance.id)}
    for instance in suspended:
        if instance.id in busy or instance.placement is None:
            continue
        try:
            if runtime.observe(instance.placement).status == "running":
                runtime.stop(instance.placement, ctx.settings.drain_seconds)
                found.append(Finding(instance.id, "ran although suspended", "stopped"))
        except ProviderError as error:
            found.append(Finding(instance.id, f"cannot be looked at: {error.message}", "none"))
    return found


def _invite(db: Any, ctx: Context) -> None:
    try:
        signups.refuse_when_full(db, ctx)
    except AppError:
        return
    for email in waitlist.invite_next(db, 1, ctx.clock.now()):
        letter = kinds.place_free(ctx.settings.brand_name, f"{ctx.settings.base_url}/configure")
        letters.post_to(db, ctx, f"place:{email}", letter, email)
