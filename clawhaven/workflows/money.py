"""Money compared in both directions, every night and on demand: explained first, repaired where that is safe.

The vendors' lists, our subscriptions, the assistants and the ledger must tell the same story. What a person has to
decide is told to the operator, once a day. The technical side is in reconcile.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from clawhaven.billing import checkouts, comparisons, subscriptions
from clawhaven.billing import dunning as episodes
from clawhaven.billing.models import InboxEvent, Refund, Subscription
from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import AppError, RateLimited
from clawhaven.core.logs import get_logger
from clawhaven.instances import states
from clawhaven.instances.states import Reason, State
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import bookkeeping, dunning, engine, letters, lifecycle, payments, refunds, vendors
from clawhaven.workflows import checkout as signups
from clawhaven.workflows.engine import StepFailed, step, workflow
from clawhaven.workflows.vendors import Difference

log = get_logger("clawhaven.money")

ACTOR = "workflow:money"

REFUSALS_AN_HOUR = 3
"""So many events that are not the vendor's, or not readable, are noise; from the next one on the operator is told."""

STUCK = timedelta(minutes=15)
"""A payment event that is not applied by then is told to the operator."""

LOOKS: tuple[Callable[[Context], list[Difference]], ...] = (*vendors.LOOKS, *bookkeeping.LOOKS)
"""Everything that is compared, in this order."""


def look_over(ctx: Context) -> list[Difference]:
    """Every difference, explained; nothing is changed. A look that breaks hides no other."""
    return without_echo([one for look in LOOKS for one in look_once(ctx, look)])


def look_once(ctx: Context, look: Callable[[Context], list[Difference]]) -> list[Difference]:
    """What one look finds; that it broke is a difference, too."""
    try:
        return look(ctx)
    except Exception:
        log.exception("a look at the money broke", look=look.__name__)
        return [Difference(look.__name__, "this look broke", "none; see the log")]


def without_echo(found: Sequence[Difference]) -> list[Difference]:
    """What all looks found, in order."""
    # A vendor that is away is one line, however many looks met it.
    away = {one.subject: one for one in reversed(found) if one.repair == vendors.AWAY}
    return [one for one in found if one.repair != vendors.AWAY or one is away[one.subject]]


def repair(ctx: Context, found: Sequence[Difference], actor: str = ACTOR) -> list[Difference]:
    """Do what is safe; returns the same differences with what was done. A repair that fails stops no other."""
    return [_mend(ctx, one, actor) if one.is_safe else one for one in found]


def report(ctx: Context, left: Sequence[Difference]) -> None:
    """Tell the operator what needs a person, once a day."""
    if not left:
        return
    lines = [f"- {one.subject}: {one.problem}. Repair: {one.repair}." for one in left]
    text = "\n".join(
        [
            "The books and the payment vendors tell different stories, and a person has to decide:",
            "",
            *lines[:100],
            *([f"… and {len(lines) - 100} more"] if len(lines) > 100 else []),
            "",
            f"See {ctx.settings.base_url}/admin/reconcile",
            "",
        ]
    )
    with ctx.db.tx() as db:
        letter = kinds.alert(f"{len(left)} differences in the money", text)
        _tell(db, ctx, f"money:{ctx.clock.now():%Y-%m-%d}", letter)


def note_refused(ctx: Context, provider: str, why: str) -> None:
    """A webhook delivery was refused: badly signed, or signed and not readable. More than a few within an hour are
    told to the operator, once."""
    now = ctx.clock.now()
    try:
        with ctx.db.tx() as db:
            ratelimit.hit(db, f"webhook-refused:{provider}", REFUSALS_AN_HOUR, 3600, now)
    except RateLimited:
        text = (
            f"More than {REFUSALS_AN_HOUR} events for {provider} were refused within an hour; the last one: {why}.\n\n"
            "Check the webhook's secret at the vendor and here. Events that were missed are fetched every five minutes"
            " as far as the vendor keeps them.\n"
        )
        with ctx.db.tx() as db:
            letter = kinds.alert(f"Webhooks of {provider} are refused", text)
            _tell(db, ctx, f"webhook-refused:{provider}:{now:%Y-%m-%dT%H}", letter)


def watch_inbox(ctx: Context) -> int:
    """Tell the operator, at most once an hour, of payment events that are not applied; returns how many there are."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        is_stuck = (InboxEvent.state == "received", InboxEvent.received_at < now - STUCK)
        count = int(db.scalar(select(func.count()).select_from(InboxEvent).where(*is_stuck)) or 0)
        if count:
            minutes = STUCK // timedelta(minutes=1)
            text = (
                f"{count} payment events came more than {minutes} minutes ago and are not applied. They are tried again"
                f" every few minutes; the vendor may be down.\n\nSee {ctx.settings.base_url}/admin\n"
            )
            letter = kinds.alert(f"{count} payment events are not applied", text)
            _tell(db, ctx, f"inbox-stuck:{now:%Y-%m-%dT%H}", letter)
    return count


@workflow("reconcile_money")
def reconcile_money(scheduled_at: datetime, context: Any) -> None:
    """Compare everything, repair what is safe, tell the operator the rest."""
    with contextlib.suppress(StepFailed):
        compare_money()


@workflow("watch_money")
def watch_money(scheduled_at: datetime, context: Any) -> None:
    """What cannot wait for the night: payment events that are not applied."""
    with contextlib.suppress(StepFailed):
        look_at_inbox()


@step("compare_money", attempts=1)
def compare_money() -> list[dict[str, str]]:
    """One round; what was found and done, in the log and as the step's result."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        kept = comparisons.begin(db, ACTOR, ctx.clock.now(), is_repair=True)
    done = repair(ctx, look_over(ctx))
    if kept is not None:
        with ctx.db.tx() as db:
            comparisons.finish(db, kept.id, [dataclasses.asdict(one) for one in done], ctx.clock.now())
    for one in done:
        log.warning("difference in the money", subject=one.subject, problem=one.problem, repair=one.repair)
    report(ctx, [one for one in done if not one.is_safe])
    return [{"subject": one.subject, "problem": one.problem, "repair": one.repair} for one in done]


@step("look_at_inbox", attempts=1)
def look_at_inbox() -> int:
    """One look; returns how many events wait."""
    return watch_inbox(engine.context())


def _mend(ctx: Context, one: Difference, actor: str) -> Difference:
    """The difference with what was done; one whose repair failed is for a person."""
    try:
        done = MENDS[one.mend](ctx, one.target, actor)
    except (AppError, ProviderError, SQLAlchemyError) as error:
        log.warning("a repair failed", subject=one.subject, error=type(error).__name__)
        why = error.message if isinstance(error, AppError | ProviderError) else "the database refused"
        return dataclasses.replace(one, repair=f"failed: {why}", mend="")
    return dataclasses.replace(one, repair=done)


def _settle(ctx: Context, checkout_id: str, actor: str) -> str:
    checkout = signups.page_for(ctx, checkout_id)
    if checkout.reference is None:
        raise ProviderError("the vendor's reference of its checkout is not known", permanent=True)
    with ctx.db.tx() as db:
        row = checkouts.get(db, checkout_id)
        payments.ask_settle(db, ctx, checkout_id)
        _record(db, ctx, actor, "settle", checkout_id, row.account_id)
    return "the vendor is asked, and what it says is settled"


def _follow(ctx: Context, subscription_id: str, actor: str) -> str:
    with ctx.db.tx() as db:
        row = db.get_one(Subscription, subscription_id)
        dunning.follow(db, ctx, row)
        _record(db, ctx, actor, "follow", subscription_id, row.account_id)
    return "brought in line with its subscription"


def _resume(ctx: Context, instance_id: str, actor: str) -> str:
    with ctx.db.tx() as db:
        instance = lifecycle.locked(db, instance_id)
        row = subscriptions.of_instance(db, instance_id)
        is_down = instance.state == State.SUSPENDED and Reason.PAYMENT in states.reasons(instance)
        if not is_down or instance.deletion_asked_at is not None or not episodes.is_paid_for(db, row):
            return "nothing: it is no longer so"
        lifecycle.ask_resume(db, ctx, instance_id, Reason.PAYMENT, actor)
        _record(db, ctx, actor, "resume", instance_id, instance.account_id)
    return "asked to start"


def _refund(ctx: Context, refund_id: str, actor: str) -> str:
    refunds.ask_again(ctx)
    with ctx.db.tx() as db:
        _record(db, ctx, actor, "refund", refund_id, db.get_one(Refund, refund_id).account_id)
    return "the vendor is asked again"


MENDS: dict[str, Callable[[Context, str, str], str]] = {
    vendors.SETTLE: _settle,
    bookkeeping.FOLLOW: _follow,
    bookkeeping.RESUME: _resume,
    bookkeeping.REFUND: _refund,
}
"""Kind of repair -> what does it; each looks again before it acts, and can be done twice."""


def _record(db: Session, ctx: Context, actor: str, mend: str, target: str, account_id: str | None) -> None:
    audit.record(db, ctx.clock.now(), actor, f"money.{mend}", target, account_id)


def _tell(db: Session, ctx: Context, key: str, letter: kinds.Letter) -> None:
    letters.post_to(db, ctx, key, letter, ctx.settings.support_address)
