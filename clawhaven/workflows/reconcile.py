"""Wanted against real, in both directions: explained first, repaired where that is safe."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from clawhaven.accounts import addresses, erasure, farewells, sessions, views
from clawhaven.billing import checkouts, inbox, patience, subscriptions, waitlist
from clawhaven.billing.models import InboxEvent, Subscription
from clawhaven.billing.subscriptions import SubscriptionState
from clawhaven.context import Context
from clawhaven.core import idempotency, ratelimit
from clawhaven.core.logs import get_logger
from clawhaven.instances import drafts, operations
from clawhaven.instances import placement as places
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import State
from clawhaven.metering import calls
from clawhaven.notices import kinds, outbox
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import checkout as signups
from clawhaven.workflows import deletion, engine, integrations, letters, lifecycle, payments, progress, provision
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

log = get_logger("clawhaven.reconcile")

PATIENCE = timedelta(minutes=2)
"""Work younger than this is left alone: its workflow is on the way."""

EVENT_LIFE = timedelta(days=1)
"""An event that could not be applied for so long is tried a last time, then a person is told."""

SUBSCRIPTIONS_A_ROUND = 200
"""So many subscriptions are asked about in one round, which come every five minutes."""

MAX_TRIES_AN_HOUR = 3
INVITATION_LIFE = timedelta(hours=48)
"""So long a place is kept for somebody who was invited."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what should be and what is. `repair` says what was done, or why nothing was."""

    subject: str
    problem: str
    repair: str


@workflow("reconcile")
def reconcile(scheduled_at: datetime, context: Any) -> None:
    """Compare and repair everything once."""
    with contextlib.suppress(StepFailed):
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
        addresses.sweep(db, now)
        farewells.sweep(db, now)
        views.sweep(db, now)
        ratelimit.sweep(db, now)
        idempotency.sweep(db, now)
        places.unblock_ports(db, now)
        drafts.sweep(db, now)
        _invite(db, ctx)
    engine.forget_old(ctx, (now - timedelta(days=30)).isoformat())


def find(ctx: Context) -> list[Finding]:
    """Every difference, repaired where that is safe. A look that breaks hides no other."""
    found: list[Finding] = []
    for look in LOOKS:
        try:
            found += look(ctx)
        except Exception:
            log.exception("a look of the reconciler broke", look=look.__name__)
            found.append(Finding(look.__name__.strip("_"), "this look broke", "none; see the log"))
    return found


def _missed_events(ctx: Context) -> list[Finding]:
    try:
        missed = payments.sync(ctx)
    except ProviderError as error:
        return [Finding("payments", f"the vendor could not be asked: {error.message}", "none; asked again next time")]
    return [Finding("payments", f"{missed} events never reached us", "fetched from the vendor")] if missed else []


def _stale_operations(ctx: Context) -> list[Finding]:
    """Operations whose workflow is over without having closed them."""
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
            operations.close(db, operation.id, ctx.clock.now(), "internal_error", progress.sentence("internal_error"))
        found.append(Finding(operation.instance_id, f"{operation.kind} stopped half-way", "closed as failed"))
    return found


def _unfinished_business(ctx: Context) -> list[Finding]:
    """Assistants that wait for something nobody is doing: provisioning, deletion or a resume that failed."""
    found = []
    with ctx.db.read() as db:
        stuck = list(
            db.scalars(
                select(Instance).where(
                    Instance.state != State.DELETED,
                    or_(
                        Instance.state == State.PROVISIONING,
                        Instance.deletion_asked_at.is_not(None),
                        and_(Instance.state == State.SUSPENDED, Instance.suspended_for.is_(None)),
                    ),
                )
            )
        )
    for instance in stuck:
        with ctx.db.tx() as db:
            row = lifecycle.locked(db, instance.id)
            if operations.under_way(db, instance.id) is not None:
                continue
            kind = "delete" if row.deletion_asked_at else "provision" if row.state == State.PROVISIONING else "resume"
            problem = f"{kind} was asked for and is not under way"
            tries = operations.failures(db, instance.id, kind, ctx.clock.now() - timedelta(hours=1))
            if tries >= MAX_TRIES_AN_HOUR:
                _alert(db, ctx, instance.id, f"{problem}; it failed {tries} times within an hour")
                found.append(Finding(instance.id, problem, "the operator was told; tried again later"))
                continue
            if kind == "delete":
                lifecycle.ask_delete(db, ctx, instance.id, "workflow:reconcile")
            elif kind == "resume":
                lifecycle.ask_again(db, ctx, instance.id)
            else:
                provision.ask_again(db, ctx, instance.id)
        found.append(Finding(instance.id, problem, "asked for again"))
    return found


def _paid_but_failed(ctx: Context) -> list[Finding]:
    """Somebody pays for an assistant that could not be built: the operator is told, once a day."""
    found = []
    with ctx.db.tx() as db:
        for instance in db.scalars(select(Instance).where(Instance.state == State.FAILED)):
            if subscriptions.is_entitled(subscriptions.of_instance(db, instance.id)):
                _alert(db, ctx, instance.id, f"paid for, and failed: {instance.failure_code}")
                found.append(Finding(instance.id, "paid for, but not running", "the operator was told"))
    return found


def _subscriptions_to_check(ctx: Context) -> list[Finding]:
    """Ask the vendor about subscriptions not looked at for an hour, so many each round."""
    now, found = ctx.clock.now(), []
    with ctx.db.tx() as db:
        for row in subscriptions.unchecked(
            db, set(ctx.payments), before=now - timedelta(hours=1), now=now, limit=SUBSCRIPTIONS_A_ROUND
        ):
            patience.note_asked(db, row, now)
            payments.ask_settle(db, ctx, row.checkout_id, is_patient=False)
        away = (
            select(Subscription.provider, func.count())
            .where(Subscription.provider.not_in(ctx.payments), Subscription.state != SubscriptionState.CANCELED)
            .group_by(Subscription.provider)
            .order_by(Subscription.provider)
        )
        for provider, count in db.execute(away).tuples():
            found.append(Finding(provider, f"sells {count} subscriptions and is not in PAYMENTS", "none; switch it on"))
    return found


def _unfinished_inbox(ctx: Context) -> list[Finding]:
    """Events that were not applied: asked for again; after a day for the last time, then told and ignored. Not those
    whose vendor is away: they wait for it."""
    now, found, lost = ctx.clock.now(), [], []
    with ctx.db.read() as db:
        rows = [db.get_one(InboxEvent, row_id) for row_id in inbox.left_over(db, now - PATIENCE)]
    for row in rows:
        workflow_id = f"event:{row.provider}:{row.event_id}"
        if not engine.is_over(ctx, workflow_id):
            continue
        why = engine.last_word(ctx, workflow_id) if row.received_at < now - EVENT_LIFE else payments.AWAY
        is_old = not why.startswith(payments.AWAY)
        if is_old and row.note:
            lost.append((row, f"not applied within a day: {why or 'it broke; see the log'}"))
            found.append(
                Finding(row.event_id, "a payment event could not be applied for a day", "the operator was told")
            )
            continue
        with ctx.db.tx() as db:
            if is_old:
                inbox.note(db, row.id, "asked for a last time")
            known = db.get_one(InboxEvent, row.id)
            known.asks = 0 if is_old else known.asks
            patience.note_asked(db, known, now)
            payments.ask(db, ctx, row, again=str(int(now.timestamp())))
        found.append(Finding(row.event_id, "a payment event was not applied", "asked for again"))
    if lost:
        _give_up(ctx, lost, now)
    return found


def _give_up(ctx: Context, lost: Sequence[tuple[InboxEvent, str]], now: datetime) -> None:
    """Ignore events and tell the operator of them, in one transaction and one letter."""
    with ctx.db.tx() as db:
        lines = []
        for row, why in lost:
            payments.close(db, row.id, "ignored", why, now)
            about = row.subscription_reference or row.checkout_reference or row.payment_reference or "nothing of ours"
            lines.append(f"- {row.provider} {row.event_id} ({row.vendor_type}, about {about}): {why}")
        text = (
            "These payment events could not be applied, and are not tried any more. Compare what they are about with"
            " the vendor:\n\n" + "\n".join(lines) + f"\n\nSee {ctx.settings.base_url}/admin/reconcile\n"
        )
        letter = kinds.alert(f"{len(lost)} payment events could not be applied", text)
        letters.post_to(db, ctx, f"events-lost:{lost[0][0].id}", letter, ctx.settings.support_address)


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


def _open_checkouts(ctx: Context) -> list[Finding]:
    payments.ask_open(ctx)
    return []


def _old_checkouts(ctx: Context) -> list[Finding]:
    """Nobody paid within a day: the vendor is asked one last time, then the draft goes and its place is free."""
    now, found = ctx.clock.now(), []
    with ctx.db.tx() as db:
        for checkout in checkouts.overdue(db, now):
            checkouts.note_asked(db, checkout, now)
            payments.ask_settle(db, ctx, checkout.id, is_overdue=True, is_patient=False)
            found.append(Finding(checkout.id, "not paid within a day", "the vendor is asked, then it expires"))
    return found


def _unfinished_goodbyes(ctx: Context) -> list[Finding]:
    """Deleted accounts and permissions to revoke whose work broke off: gone on with."""
    found = []
    with ctx.db.read() as db:
        waiting = erasure.unfinished(db, ctx.clock.now() - PATIENCE)
    for account_id in waiting:
        if engine.is_over(ctx, f"delete_account:{account_id}"):
            with ctx.db.tx() as db:
                deletion.go_on(db, ctx, account_id)
            found.append(Finding(account_id, "its deletion was asked for and is not under way", "asked for again"))
    lost = integrations.resume_revocations(ctx)
    return found + [Finding(one, "its vendor was not told to forget it", "asked for again") for one in lost]


def _orphans(ctx: Context) -> list[Finding]:
    """Something runs or lies there for an instance that is deleted (removed) or unknown (reported)."""
    return [finding for name in ctx.runtimes for finding in _orphans_on(ctx, name)]


def _orphans_on(ctx: Context, runtime_name: str) -> list[Finding]:
    runtime = ctx.runtimes[runtime_name]
    found = []
    try:
        there = runtime.list()
    except ProviderError as error:
        return [Finding(runtime_name, f"cannot be listed: {error.message}", "none")]
    with ctx.db.read() as db:
        states = dict(db.execute(select(Instance.id, Instance.state).where(Instance.id.in_(there))).tuples().all())
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


def _unpaid_running(ctx: Context) -> list[Finding]:
    """A suspended assistant whose gateway runs all the same is stopped."""
    return [finding for name in ctx.runtimes for finding in _unpaid_running_on(ctx, name)]


def _unpaid_running_on(ctx: Context, runtime_name: str) -> list[Finding]:
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


def _invite(db: Session, ctx: Context) -> None:
    now = ctx.clock.now()
    free = signups.free_places(db, ctx) - waitlist.invited(db, now - INVITATION_LIFE)
    for email, spoken in waitlist.invite_next(db, free, now):
        letter = kinds.place_free(ctx.settings.brand_name, f"{ctx.settings.base_url}/configure")
        letters.post_to(db, ctx, f"place:{email}", letter, email, language=spoken)


def _alert(db: Session, ctx: Context, instance_id: str, text: str) -> None:
    day = ctx.clock.now().date().isoformat()
    letter = kinds.alert(f"Assistant {instance_id}: {text.split(';')[0]}", f"{instance_id}: {text}\n")
    letters.post_to(db, ctx, f"stuck:{instance_id}:{day}", letter, ctx.settings.support_address)


LOOKS = (
    _missed_events,
    _stale_operations,
    _unfinished_business,
    _paid_but_failed,
    _unfinished_inbox,
    _unsent_letters,
    _open_checkouts,
    _old_checkouts,
    _unfinished_goodbyes,
    _subscriptions_to_check,
    _orphans,
    _unpaid_running,
)
"""Everything that is compared, in this order."""
