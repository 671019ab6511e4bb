"""Renewals are held back at the vendor while a dispute keeps the assistants down: nobody pays for what they do not get.

What we hold is written down before the vendor is asked, so that it is ours to release whatever happens in between; a
pause that somebody else made is left alone. Settling comes by here each time.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.accounts import directory
from clawhaven.billing import checkouts, subscriptions
from clawhaven.billing.models import Receipt, Subscription
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.logs import get_logger
from clawhaven.core.money import format_usd
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability
from clawhaven.workflows import letters

log = get_logger("clawhaven.renewals")

ACTOR = "workflow:renewals"


def are_unwanted(db: Session, ctx: Context, subscription: Subscription) -> bool:
    """True while a payment of a living subscription is disputed, and that is a reason to suspend (SUSPEND_ON_DISPUTE).

    After the verdict they go on: a lost payment is the operator's to act on, and the next one brings everything back.
    """
    if not ctx.settings.suspend_on_dispute or subscription.state in ("canceled", "incomplete"):
        return False
    return any(one.dispute == "open" for one in checkouts.receipts_of(db, subscription.checkout_id))


def disputed_checkouts(db: Session, ctx: Context, provider: str) -> set[str]:
    """Checkouts of a vendor with a payment that is disputed now, where that is a reason to hold renewals."""
    if not ctx.settings.suspend_on_dispute:
        return set()
    query = select(Receipt.checkout_id).where(Receipt.provider == provider, Receipt.dispute == "open")
    return set(db.scalars(query.distinct()))


def decide(db: Session, ctx: Context, subscription: Subscription) -> None:
    """Write down what is to be held from now on, and forget what is released, in the caller's transaction.

    `subscription` has just been read at the vendor.
    """
    now, is_held = ctx.clock.now(), subscription.held_at is not None
    can_pause = Capability.PAUSE in ctx.payment(subscription.provider).capabilities
    if are_unwanted(db, ctx, subscription):
        if not is_held and subscription.paused_at is None and can_pause:
            subscription.held_at = now
            audit.record(db, now, ACTOR, "renewals.hold", subscription.id, subscription.account_id)
    elif is_held and (subscription.paused_at is None or subscription.state == "canceled"):
        _tell_free(db, ctx, subscription)
        subscription.held_at = None
        audit.record(db, now, ACTOR, "renewals.release", subscription.id, subscription.account_id)
    db.flush()


def align(ctx: Context, checkout_id: str) -> None:
    """Have the vendor hold or release what is ours to hold; so already is no call. No transaction may be open.

    Raises ProviderError for a vendor that does not answer; one that refuses for good is told to the operator.
    """
    with ctx.db.read() as db:
        row = subscriptions.of_checkout(db, checkout_id)
        if row is None or row.held_at is None or row.state == "canceled":
            return
        is_wanted = are_unwanted(db, ctx, row)
    if is_wanted == (row.paused_at is not None):
        return
    provider = ctx.payment(row.provider)
    try:
        (provider.pause if is_wanted else provider.resume)(row.reference)
    except ProviderError as error:
        if not error.permanent:
            raise
        _tell_refused(ctx, row, error.message, is_wanted=is_wanted)
        return
    with ctx.db.tx() as db:
        known = db.get_one(Subscription, row.id, with_for_update=True, populate_existing=True)
        known.paused_at = ctx.clock.now() if is_wanted else None
        db.flush()
        decide(db, ctx, known)


def _tell_free(db: Session, ctx: Context, row: Subscription) -> None:
    """Tell the operator of the period that began while renewals were held: the vendor charges nothing for it, be it a
    month or a year, and whether it is to be paid another way is theirs to decide."""
    begun, held_at = row.period_start_at, row.held_at
    if row.state == "canceled" or held_at is None or begun <= held_at:
        return
    if any(one.period_start_at and one.period_start_at >= begun for one in checkouts.receipts_of(db, row.checkout_id)):
        return
    who, amount = directory.get(db, row.account_id).user.email, format_usd(row.amount_micros)
    text = (
        f"{who} disputed a payment, and renewals were held back from {kinds.moment(held_at)} until now. Meanwhile a"
        f" period of the plan {row.plan} began that {row.provider} charges nothing for:\n\n"
        f"Period: {kinds.moment(begun)} to {kinds.moment(row.period_end_at)}\nPrice: {amount}\n"
        f"Subscription: {row.reference} at {row.provider}\n\n"
        "If your money is back or the dispute was withdrawn, the assistants run through that period unpaid. If it"
        f" should be paid, send an invoice over it from {row.provider}'s own site, or end the subscription and let the"
        f" customer begin a new one.\n\nSee {ctx.settings.base_url}/admin/accounts/{row.account_id}\n"
    )
    letter = kinds.alert(f"A period of {amount} is not charged: {who}"[:200], text)
    letters.post_to(db, ctx, f"free-period:{row.id}:{begun:%Y%m%d%H%M%S}", letter, ctx.settings.support_address)


def _tell_refused(ctx: Context, row: Subscription, why: str, *, is_wanted: bool) -> None:
    log.warning("renewals could not be held or released", subscription=row.id, is_wanted=is_wanted)
    act, then = ("held back", "charged") if is_wanted else ("let go on", "not charged")
    text = (
        f"The renewals of {row.reference} at {row.provider} were to be {act}, and it refused:\n\n{why}\n\n"
        f"The next period may be {then}. Please do it on the vendor's own site.\n\n"
        f"See {ctx.settings.base_url}/admin/accounts/{row.account_id}\n"
    )
    with ctx.db.tx() as db:
        key = f"renewals:{row.id}:{row.held_at:%Y%m%d%H%M%S}:{act}"
        letter = kinds.alert(f"Renewals could not be {act}", text)
        letters.post_to(db, ctx, key, letter, ctx.settings.support_address)
