"""Assistants follow their agreement: grace, suspension, deletion on the announced day, and back.

Everything is decided from rows that are held until the transaction ends, in this order: assistants, subscription,
episode. What was done or told is not done or told again, whoever asks and however often.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from clawhaven.billing import checkouts, dunning, subscriptions
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.dunning import Cause, DunningState
from clawhaven.billing.models import Checkout, Cover, Dunning, Subscription
from clawhaven.billing.subscriptions import SubscriptionState
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.logs import get_logger
from clawhaven.core.money import format_usd
from clawhaven.instances import states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.notices import kinds, outbox
from clawhaven.notices.kinds import Letter
from clawhaven.workflows import disputes, engine, letters, lifecycle
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

log = get_logger("clawhaven.dunning")

ACTOR = "workflow:dunning"

TRIAL_NOTICE = timedelta(days=3)
"""So long before its end a trial's payment is announced."""

DISPUTE_LIFE = timedelta(days=90)
"""A bank decides within that time; the data of somebody whose payment is disputed is kept so much longer."""

FRESH = timedelta(minutes=15)
"""Nothing is deleted for missing money unless the vendor said so within this time."""


def follow(db: Session, ctx: Context, subscription: Subscription) -> None:
    """Bring assistants, episode and letters in line with a subscription, in the caller's transaction."""
    now, assistants = ctx.clock.now(), _hold(db, subscription)
    episode = dunning.open_episode_of(db, subscription.id)
    receipts = checkouts.receipts_of(db, subscription.checkout_id)
    disputes.alert(db, ctx, receipts)
    if not assistants:
        _close(db, subscription, episode, now)
        return
    if subscription.state == SubscriptionState.INCOMPLETE:
        _align(db, ctx, assistants, is_running=False)
        return
    settings = ctx.settings
    cause = dunning.objection(receipts, on_refund=settings.suspend_on_refund, on_dispute=settings.suspend_on_dispute)
    if subscription.state == SubscriptionState.CANCELED:
        episode = _suspend_now(db, ctx, subscription, Cause.ENDED)
    elif cause is not None:
        episode = object_to(db, ctx, subscription, cause)
    elif subscription.state in dunning.OWING:
        episode = _give_grace(db, ctx, subscription, now)
    elif episode is not None:
        _recover(db, ctx, subscription, episode, assistants, now)
        episode = None
    _align(db, ctx, assistants, is_running=dunning.may_run(subscription, episode))
    if subscription.state in dunning.PAID:
        _close_left_behind(db, subscription, now)
    _tell_ending(db, ctx, subscription)


def object_to(db: Session, ctx: Context, subscription: Subscription, cause: Cause) -> Dunning:
    """Suspend at once because the payment was returned or is disputed; `follow` decides when, from the receipts."""
    longer = DISPUTE_LIFE if cause == Cause.DISPUTE else timedelta()
    return _suspend_now(db, ctx, subscription, cause, longer)


def hold_back(db: Session, ctx: Context, instance_id: str) -> bool:
    """An assistant that was just built, and whose agreement does not let it run any more, is suspended. True then."""
    subscription = subscriptions.of_instance(db, instance_id)
    if dunning.is_paid_for(db, subscription):
        return False
    lifecycle.ask_suspend(db, ctx, instance_id, Reason.PAYMENT, ACTOR)
    return True


def attend(db: Session, ctx: Context, subscription_id: str) -> None:
    """`follow`, and what time alone brings: countdowns, deletion, the end of a trial."""
    subscription = db.get_one(Subscription, subscription_id)
    follow(db, ctx, subscription)
    now, assistants = ctx.clock.now(), _hold(db, subscription)
    episode = dunning.open_episode_of(db, subscription_id)
    if not assistants:
        return
    if episode is None:
        if _is_trial_ending(subscription, now):
            _tell_trial(db, ctx, subscription)
    elif episode.state == DunningState.SUSPENDED and now >= episode.delete_at:
        _delete(db, ctx, subscription, episode, assistants, now)
    else:
        _count_down(db, ctx, subscription, episode, now)


def waiting(db: Session, ctx: Context) -> list[str]:
    """Ids of the subscriptions that have something to be done now, judged without holding anything."""
    now, found, keys = ctx.clock.now(), set[str](), dict[str, str]()
    for episode, subscription in dunning.all_open(db):
        before = dunning.countdown(episode, now)
        if dunning.is_due(episode, now) or not _living(db, subscription.id):
            found.add(subscription.id)
        elif before is not None:
            keys[_countdown_key(episode, before)] = subscription.id
    for subscription in dunning.trials_ending(db, now, TRIAL_NOTICE):
        keys[_trial_key(subscription)] = subscription.id
    told = outbox.known(db, keys)
    found |= {subscription_id for key, subscription_id in keys.items() if key not in told}
    return sorted(found | _out_of_line(db))


def sweep(ctx: Context) -> int:
    """Attend to all that wait, each in a transaction of its own; returns how many. One that fails stops no other."""
    with ctx.db.read() as db:
        found = waiting(db, ctx)
    done = 0
    for subscription_id in found:
        try:
            with ctx.db.tx() as db:
                attend(db, ctx, subscription_id)
        except SQLAlchemyError:
            log.exception("a subscription could not be attended to", subscription=subscription_id)
        else:
            done += 1
    return done


@workflow("sweep_dunning")
def sweep_dunning(scheduled_at: datetime, context: Any) -> None:
    """What is due: suspensions, deletions, their countdowns, trials that end, and what is out of line."""
    with contextlib.suppress(StepFailed):
        attend_to_all()


@step("attend_to_all", attempts=1)
def attend_to_all() -> int:
    """One sweep; returns how many subscriptions were attended to."""
    return sweep(engine.context())


def _hold(db: Session, subscription: Subscription) -> list[Instance]:
    """Lock the assistants it pays for, then itself; returns those that are not deleted or being deleted."""
    db.flush()
    rows = [lifecycle.locked(db, instance_id) for instance_id in subscriptions.covered(db, subscription.id)]
    db.refresh(subscription, with_for_update=True)
    return [row for row in rows if row.state != State.DELETED and row.deletion_asked_at is None]


def _living(db: Session, subscription_id: str) -> bool:
    query = (
        select(Instance.id)
        .join(Cover, Cover.instance_id == Instance.id)
        .where(
            Cover.subscription_id == subscription_id,
            Instance.state != State.DELETED,
            Instance.deletion_asked_at.is_(None),
        )
    )
    return db.scalars(query.limit(1)).first() is not None


def _out_of_line(db: Session) -> set[str]:
    """Subscriptions with an assistant that runs and should not, or is down for payment and should not be."""
    is_open = and_(Dunning.subscription_id == Subscription.id, Dunning.ended_at.is_(None))
    is_down = Instance.suspended_for.contains(str(Reason.PAYMENT))
    query = (
        select(Instance, Subscription, Dunning)
        .join(Cover, Cover.instance_id == Instance.id)
        .join(Subscription, Subscription.id == Cover.subscription_id)
        .outerjoin(Dunning, is_open)
        .where(
            Instance.state.in_([State.ACTIVE, State.SUSPENDED]),
            Instance.deletion_asked_at.is_(None),
            or_(is_down, Subscription.state.not_in(dunning.PAID), Dunning.id.is_not(None)),
        )
    )
    found = set()
    for instance, subscription, episode in db.execute(query):
        is_wrong = dunning.may_run(subscription, episode) == (Reason.PAYMENT in states.reasons(instance))
        if is_wrong or (episode is None and subscription.state in dunning.OWING):
            found.add(subscription.id)
    return found


def _close(db: Session, subscription: Subscription, episode: Dunning | None, now: datetime) -> None:
    """Nothing is left to suspend: all deleted, or paid for by another agreement."""
    if episode is None:
        return
    close = dunning.end if subscriptions.covered(db, subscription.id) else dunning.recover
    close(db, episode, now)


def _close_left_behind(db: Session, subscription: Subscription, now: datetime) -> None:
    """Who comes back pays for the same assistants by a new agreement: the trouble of the old one is over."""
    for other in dunning.open_episodes(db, subscription.account_id):
        if other.subscription_id != subscription.id and not subscriptions.covered(db, other.subscription_id):
            dunning.recover(db, other, now)


def _give_grace(db: Session, ctx: Context, subscription: Subscription, now: datetime) -> Dunning:
    grace, kept = timedelta(days=ctx.settings.grace_days), timedelta(days=ctx.settings.deletion_days)
    episode, is_new = dunning.begin(db, subscription, Cause.PAYMENT, now, grace=grace, kept=kept)
    if is_new:
        _record(db, ctx, episode, "dunning.begin")
    if is_new and episode.suspend_at > now:
        letter = kinds.payment_failed(
            ctx.settings.brand_name, episode.suspend_at, episode.delete_at, _way(ctx, subscription)
        )
        _post(db, ctx, episode, "begun", letter)
    if episode.state == DunningState.GRACE and now >= episode.suspend_at:
        _suspend(db, ctx, subscription, episode, now)
    return episode


def _suspend_now(
    db: Session, ctx: Context, subscription: Subscription, cause: Cause, longer: timedelta = timedelta()
) -> Dunning:
    """No grace. Trouble that is there already is worsened; its announced day of deletion stands."""
    now = ctx.clock.now()
    kept = timedelta(days=ctx.settings.deletion_days) + longer
    episode, is_new = dunning.begin(db, subscription, cause, now, grace=timedelta(), kept=kept)
    if is_new:
        _record(db, ctx, episode, "dunning.begin")
    if episode.state == DunningState.GRACE:
        dunning.worsen(db, episode, cause)
        _suspend(db, ctx, subscription, episode, now)
    return episode


def _suspend(db: Session, ctx: Context, subscription: Subscription, episode: Dunning, now: datetime) -> None:
    if dunning.suspend(db, episode, now):
        _record(db, ctx, episode, "dunning.suspend")
        letter = kinds.suspended_for_payment(
            ctx.settings.brand_name, _cause(subscription, episode), episode.delete_at, _way(ctx, subscription)
        )
        _post(db, ctx, episode, "suspended", letter)


def _recover(
    db: Session, ctx: Context, subscription: Subscription, episode: Dunning, assistants: list[Instance], now: datetime
) -> None:
    if not dunning.recover(db, episode, now):
        return
    _record(db, ctx, episode, "dunning.recover")
    # Each assistant that starts again has a letter of its own.
    if _align(db, ctx, assistants, is_running=True) == 0:
        _post(db, ctx, episode, "recovered", kinds.recovered(ctx.settings.brand_name, _billing(ctx)))


def _align(db: Session, ctx: Context, assistants: list[Instance], *, is_running: bool) -> int:
    """Lay or lift the reason `payment`; returns how many start again. One that is being built is looked at when it is
    up (`hold_back`), one that failed when it is tried again."""
    resumed = 0
    for instance in assistants:
        if instance.state not in (State.ACTIVE, State.SUSPENDED):
            continue
        is_down = Reason.PAYMENT in states.reasons(instance)
        if is_running and is_down:
            resumed += lifecycle.ask_resume(db, ctx, instance.id, Reason.PAYMENT, ACTOR) is not None
        elif not is_running and not is_down:
            lifecycle.ask_suspend(db, ctx, instance.id, Reason.PAYMENT, ACTOR)
    return resumed


def _delete(
    db: Session, ctx: Context, subscription: Subscription, episode: Dunning, assistants: list[Instance], now: datetime
) -> None:
    """The announced day has come, and the vendor has just said once more that nobody paid."""
    if _must_ask(db, ctx, subscription, episode, assistants, now):
        return
    for instance in assistants:
        lifecycle.ask_delete(db, ctx, instance.id, ACTOR)
    dunning.end(db, episode, now)
    _record(db, ctx, episode, "dunning.end")
    names = ", ".join(instance.name for instance in assistants)
    _post(
        db, ctx, episode, "deleted", kinds.deleted(ctx.settings.brand_name, names, f"{ctx.settings.base_url}/configure")
    )


def _must_ask(
    db: Session, ctx: Context, subscription: Subscription, episode: Dunning, assistants: list[Instance], now: datetime
) -> bool:
    """True while the vendor has to be asked first, about the agreement and about checkouts of who is coming back."""
    asked = set()
    if subscription.state != SubscriptionState.CANCELED and subscription.checked_at < now - FRESH:
        asked.add(subscription.checkout_id)
    payable = db.scalars(
        select(Checkout).where(
            Checkout.instance_id.in_([one.id for one in assistants]),
            Checkout.state == CheckoutState.OPEN,
            Checkout.id != subscription.checkout_id,
        )
    ).all()
    # Who came back in time is waited for until that page expires; one page after another is no way to stay for ever.
    if now < episode.delete_at + checkouts.LIFE or any(one.created_at <= episode.delete_at for one in payable):
        asked |= {one.id for one in payable}
    slot = int(now.timestamp()) // 600
    for checkout_id in sorted(asked):
        # By name: payments imports settlement, which imports this.
        workflow_id = f"settle:{checkout_id}:before-deletion:{slot}"
        enqueue(db, ctx, "settle", workflow_id, checkout_id, False, queue=engine.EVENTS, partition=checkout_id)
    return bool(asked)


def _count_down(db: Session, ctx: Context, subscription: Subscription, episode: Dunning, now: datetime) -> None:
    before = dunning.countdown(episode, now)
    if before is None:
        return
    brand, way = ctx.settings.brand_name, _way(ctx, subscription)
    if episode.state == DunningState.GRACE:
        letter = kinds.suspension_near(brand, before.days, episode.suspend_at, episode.delete_at, way)
    else:
        letter = kinds.deletion_near(brand, _cause(subscription, episode), before.days, episode.delete_at, way)
    letters.post(db, ctx, _countdown_key(episode, before), letter, episode.account_id)


def _tell_ending(db: Session, ctx: Context, subscription: Subscription) -> None:
    """A letter each time a cancellation is set or taken back: an odd number of them says that it ends."""
    if subscription.state == SubscriptionState.CANCELED:
        return
    prefix = f"ending:{subscription.id}:"
    told = outbox.count(db, subscription.account_id, prefix)
    if subscription.is_ending == (told % 2 == 1):
        return
    brand, end_at = ctx.settings.brand_name, subscription.period_end_at
    if subscription.is_ending:
        delete_at = end_at + timedelta(days=ctx.settings.deletion_days)
        letter = kinds.cancel_scheduled(brand, end_at, delete_at, _billing(ctx))
    else:
        letter = kinds.cancel_undone(brand, end_at, _billing(ctx))
    letters.post(db, ctx, f"{prefix}{told + 1}", letter, subscription.account_id)


def _is_trial_ending(subscription: Subscription, now: datetime) -> bool:
    if subscription.state != SubscriptionState.TRIALING or subscription.is_ending or subscription.trial_end_at is None:
        return False
    return subscription.trial_end_at - TRIAL_NOTICE <= now < subscription.trial_end_at


def _tell_trial(db: Session, ctx: Context, subscription: Subscription) -> None:
    assert subscription.trial_end_at is not None
    amount = format_usd(subscription.amount_micros)
    letter = kinds.trial_ending(ctx.settings.brand_name, subscription.trial_end_at, amount, _billing(ctx))
    letters.post(db, ctx, _trial_key(subscription), letter, subscription.account_id)


def _cause(subscription: Subscription, episode: Dunning) -> str:
    """What a letter explains: the way back leads through a new agreement once the old one is over."""
    return Cause.ENDED if subscription.state == SubscriptionState.CANCELED else episode.cause


def _way(ctx: Context, subscription: Subscription) -> str:
    """Where the customer pays what is owed, or sees what to do."""
    return dunning.pay_url(subscription) or _billing(ctx)


def _billing(ctx: Context) -> str:
    return f"{ctx.settings.base_url}/billing"


def _countdown_key(episode: Dunning, before: timedelta) -> str:
    what = "suspension" if episode.state == DunningState.GRACE else "deletion"
    return f"dunning:{episode.id}:{what}:{before.days}"


def _trial_key(subscription: Subscription) -> str:
    return f"trial:{subscription.id}:{subscription.trial_end_at:%Y-%m-%d}"


def _post(db: Session, ctx: Context, episode: Dunning, what: str, letter: Letter) -> None:
    letters.post(db, ctx, f"dunning:{episode.id}:{what}", letter, episode.account_id)


def _record(db: Session, ctx: Context, episode: Dunning, action: str) -> None:
    audit.record(
        db,
        ctx.clock.now(),
        ACTOR,
        action,
        episode.subscription_id,
        episode.account_id,
        cause=episode.cause,
        suspend_at=episode.suspend_at.isoformat(),
        delete_at=episode.delete_at.isoformat(),
    )
