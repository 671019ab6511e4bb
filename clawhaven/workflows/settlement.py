"""Make our books equal to what a vendor says now: any number of times, in any order, the same end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from clawhaven.accounts import signup
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, coupons, credits, customers, once, subscriptions
from clawhaven.billing.checkouts import CheckoutState, Kind
from clawhaven.billing.models import Checkout, Receipt, Subscription
from clawhaven.billing.plans import Plan
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Invalid
from clawhaven.core.money import format_usd
from clawhaven.instances.drafts import PROXY_KEY_PURPOSE
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.ledger import entries
from clawhaven.notices import kinds
from clawhaven.ports.payments import VendorPayment, VendorState, VendorSubscription
from clawhaven.workflows import (
    access,
    balance,
    disputes,
    dunning,
    foreign,
    letters,
    lifecycle,
    ownkey,
    provision,
    renewals,
    returns,
)
from clawhaven.workflows import checkout as signups

ACTOR = "workflow:settlement"

UNWANTED = "unwanted"
"""Paid for an assistant that was given up, or into an account that was deleted meanwhile: the money goes back."""


def equalise(db: Session, ctx: Context, checkout: Checkout, seen: VendorState, asked_at: datetime | None = None) -> str:
    """Book everything `seen` says, as the vendor was asked at `asked_at` (default: now); returns the checkout's state
    there, or UNWANTED."""
    now = ctx.clock.now()
    access.hold_account(db, checkout.account_id)
    db.refresh(checkout, with_for_update=True)
    owner = signup.owner_of(db, checkout.account_id)
    if seen.customer_reference and owner.account.deleted_at is None:
        customers.remember(db, checkout.account_id, checkout.provider, seen.customer_reference, now)
    seen = foreign.refuse(db, ctx, checkout, seen)
    # Assistants first, then their agreement, their grants, the ledger: everybody who locks does so in this order.
    _hold(db, checkout)
    news = [_note(db, checkout, payment, asked_at or now, now) for payment in seen.payments]
    outcome = _settle_checkout(db, ctx, checkout, seen, now)
    subscription = None
    if seen.subscription is not None:
        plan = _plan_of(ctx, seen.subscription.plan)
        told = plan.id if plan is not None else None
        shown = _without_private(ctx, owner, checkout, seen.subscription)
        subscription = subscriptions.mirror(db, checkout, shown, asked_at or now, told)
        apply_plan(db, ctx, subscription, now)
        dunning.follow(db, ctx, subscription)
        renewals.decide(db, ctx, subscription)
        if unwanted_receipts(db, subscription) or _is_for_nothing(db, subscription):
            outcome = UNWANTED
    else:
        disputes.alert(db, ctx, [one.receipt for one in news])
        if _is_too_late(owner, checkout) and any(_is_kept(one.receipt) for one in news):
            outcome = UNWANTED
    for one in news:
        told = one.plan or (subscription.plan if subscription is not None else checkout.plan)
        _book(db, ctx, checkout, one, _title(ctx, told), now)
    if subscription is not None:
        _grant_credit(db, ctx, subscription, seen.payments, now)
        for one in news:
            _move_credit(db, ctx, subscription, one, now)
    balance.look(db, ctx, checkout.account_id)
    return outcome


def _without_private(ctx: Context, owner: Owner, checkout: Checkout, seen: VendorSubscription) -> VendorSubscription:
    """Without the way to a page that a vendor opens for whoever has the address, until it is proven to be theirs; of a
    deleted account nobody pays there any more."""
    is_theirs = owner.user.verified_at is not None or not ctx.payment(checkout.provider).is_customer_by_email
    if seen.pay_url is None or (is_theirs and owner.account.deleted_at is None):
        return seen
    return dataclasses.replace(seen, pay_url=None)


def _is_too_late(owner: Owner, checkout: Checkout) -> bool:
    """True for a top-up whose payment came when its account was deleted already: nobody can spend it."""
    gone_at, paid_at = owner.account.deleted_at, checkout.ended_at
    is_topup = checkout.kind != Kind.SUBSCRIPTION and checkout.state == CheckoutState.COMPLETED
    return is_topup and gone_at is not None and paid_at is not None and paid_at > gone_at


def _is_kept(receipt: Receipt) -> bool:
    return receipt.refunded_micros < receipt.amount_micros


def _hold(db: Session, checkout: Checkout) -> None:
    """Keep the assistants this payment may be for as they are until the transaction ends."""
    known = subscriptions.of_checkout(db, checkout.id)
    ids = subscriptions.covered(db, known.id) if known is not None else []
    if checkout.instance_id is not None and checkout.instance_id not in ids:
        ids.append(checkout.instance_id)
    for instance_id in ids:
        lifecycle.locked(db, instance_id)


@dataclass(frozen=True, slots=True)
class _News:
    """What is to be booked of a payment: all of it (`is_new`), and what was given back since the last look (below
    zero: came to us again). `plan`: what it was paid for, where the vendor tells."""

    receipt: Receipt
    plan: str | None
    is_new: bool
    moved_micros: int


def _note(db: Session, checkout: Checkout, payment: VendorPayment, asked_at: datetime, now: datetime) -> _News:
    receipt, is_new = checkouts.add_receipt(db, checkout, payment, now, asked_at)
    return _News(receipt, payment.plan, is_new, returns.note(db, receipt, payment, asked_at, now))


def _book(db: Session, ctx: Context, checkout: Checkout, news: _News, title: str, now: datetime) -> None:
    """`title` of the plan it was paid for; a top-up has none."""
    if news.is_new and news.receipt.amount_micros > 0:
        _book_payment(db, ctx, checkout, news.receipt, title, now)
    returns.book(db, ctx, checkout, news.receipt, news.moved_micros, title)


def unwanted_receipts(db: Session, subscription: Subscription) -> list[Receipt]:
    """Payments that nothing was given for, and not yet given back in full: made after every assistant they pay for was
    deleted, for one that was given up before it was paid, or on top of an agreement that paid for it already."""
    assistants = _covered(db, subscription)
    if not _is_left(subscription, assistants):
        return []
    is_served = any(instance.paid_at is not None for instance in assistants)
    ended_at = _deleted_at(assistants)
    return [
        receipt
        for receipt in checkouts.receipts_of(db, subscription.checkout_id)
        if _is_kept(receipt) and (not is_served or (ended_at is not None and receipt.created_at > ended_at))
    ]


def _is_for_nothing(db: Session, subscription: Subscription) -> bool:
    """True for a living subscription that pays for nothing any more, or never did."""
    return subscription.state != "canceled" and _is_left(subscription, _covered(db, subscription))


def _is_left(subscription: Subscription, assistants: list[Instance]) -> bool:
    if not assistants:
        return subscription.instance_id is None
    return _deleted_at(assistants) is not None


def _covered(db: Session, subscription: Subscription) -> list[Instance]:
    found = (db.get(Instance, instance_id) for instance_id in subscriptions.covered(db, subscription.id))
    return [instance for instance in found if instance is not None]


def _deleted_at(assistants: list[Instance]) -> datetime | None:
    """When the deletion of the last one was asked for; None while one is left."""
    gone = [instance.deletion_asked_at for instance in assistants if instance.deletion_asked_at is not None]
    return max(gone) if gone and len(gone) == len(assistants) else None


def _settle_checkout(db: Session, ctx: Context, checkout: Checkout, seen: VendorState, now: datetime) -> str:
    outcome = seen.checkout_state
    if outcome == "paid":
        is_new = checkouts.complete(db, checkout.id, now)
        if checkout.instance_id and not _begin(db, ctx, checkout, now):
            return UNWANTED
        if is_new:
            _keep_taken(db, ctx, checkout, now)
    elif outcome in ("expired", "cancelled"):
        if checkout.state == CheckoutState.OPEN and checkouts.expire(db, checkout.id, now):
            checkout.last_outcome = "cancelled"
            give_up(db, ctx, checkout)
    elif outcome == "declined":
        checkout.last_outcome = "declined"
        if checkout.kind == Kind.AUTO_TOPUP and checkout.state == CheckoutState.OPEN:
            checkouts.expire(db, checkout.id, now)
    return outcome


def _keep_taken(db: Session, ctx: Context, checkout: Checkout, now: datetime) -> None:
    """Released when the page expired; who paid it all the same has had what it gave."""
    person = once.prints_of(ctx.keys, signup.owner_of(db, checkout.account_id).user.email)
    if checkout.coupon_id is not None:
        coupons.count(db, checkout.coupon_id, checkout.account_id, checkout.id, now)
        once.keep(db, once.coupon(checkout.coupon_id), person, now)
    if checkout.trial_days:
        once.keep(db, once.TRIAL, person, now)


def _book_payment(db: Session, ctx: Context, checkout: Checkout, receipt: Receipt, title: str, now: datetime) -> None:
    amount, wallet = receipt.amount_micros, access.wallet_of(db, ctx, checkout.account_id)
    key, paid = f"payment:{receipt.provider}:{receipt.reference}", format_usd(amount)
    is_topup = checkout.kind != Kind.SUBSCRIPTION
    entries.credit(
        db,
        key=key,
        ledger_account_id=wallet,
        amount_micros=amount,
        now=now,
        kind="topup" if is_topup else "payment",
        ref=checkout.id,
        note="Top-up" if is_topup else f"Payment for {title}",
    )
    if not is_topup:
        entries.debit(
            db,
            key=f"plan:{receipt.provider}:{receipt.reference}",
            ledger_account_id=wallet,
            amount_micros=amount,
            now=now,
            kind="plan",
            to="subscription_revenue",
            ref=checkout.id,
            note=_period_note(title, receipt),
            below_floor=True,
        )
    audit.record(
        db, now, f"provider:{checkout.provider}", "payment.received", checkout.id, checkout.account_id, paid=paid
    )
    letter = kinds.receipt(ctx.settings.brand_name, paid, "" if is_topup else title)
    letters.post(db, ctx, f"receipt:{key}", letter, checkout.account_id)


def _begin(db: Session, ctx: Context, checkout: Checkout, now: datetime) -> bool:
    """Provision what was paid for, once. False when it was given up before the money came."""
    instance = lifecycle.locked(db, checkout.instance_id or "")
    if instance.paid_at is not None:
        return True
    if instance.state != State.PENDING or instance.deletion_asked_at is not None:
        return False
    instance.paid_at = now
    db.flush()
    provision.ask(db, ctx, instance.id)
    return True


def give_up(db: Session, ctx: Context, checkout: Checkout) -> None:
    """Nobody pays for a checkout that has expired: its draft goes, its place is free."""
    instance_id = checkout.instance_id
    instance = db.get(Instance, instance_id) if instance_id else None
    if instance is not None and instance.state == State.PENDING and instance.deletion_asked_at is None:
        lifecycle.ask_delete(db, ctx, instance.id, ACTOR)


def apply_plan(db: Session, ctx: Context, subscription: Subscription, now: datetime) -> None:
    """Bring the assistants of a subscription whose plan changed at the vendor to that plan's limits."""
    has_changed = False
    for instance_id in subscriptions.covered(db, subscription.id):
        instance = lifecycle.locked(db, instance_id)
        if instance.plan == subscription.plan:
            continue
        has_changed = True
        before, instance.plan = instance.plan, subscription.plan
        db.flush()
        audit.record(
            db, now, ACTOR, "instance.plan", instance_id, instance.account_id, before=before, after=subscription.plan
        )
        if instance.deletion_asked_at is not None:
            continue  # noted all the same: reconciling asks whether a plan was changed
        _follow_vendor(db, ctx, instance, now)
        if instance.proxy_key and instance.state in (State.ACTIVE, State.SUSPENDED):
            access.grant(db, ctx, instance, ctx.keys.open(instance.proxy_key, PROXY_KEY_PURPOSE))
            if instance.state == State.ACTIVE:
                access.open_access(db, ctx, instance_id)

    if has_changed:
        _tell_too_many(db, ctx, subscription)


def _tell_too_many(db: Session, ctx: Context, subscription: Subscription) -> None:
    """We refuse a change to a plan with fewer places than there are assistants. One made on the vendor's own site, or
    while one was being added, is for the operator: nobody's assistant is chosen by us to go."""
    plan = _plan_of(ctx, subscription.plan)
    living = sum(one.deletion_asked_at is None for one in _covered(db, subscription))
    if plan is None or living <= plan.instances:
        return
    who = signup.owner_of(db, subscription.account_id).user.email
    text = (
        f"The subscription {subscription.reference} at {subscription.provider} was changed to the plan {plan.name},"
        f" which has {plan.instances} assistant{'s' if plan.instances > 1 else ''}, and pays for {living}. All of them"
        " run on. Ask the customer to delete some or to choose another plan, or change it back.\n\n"
        f"Customer: {who}\nAccount: {ctx.settings.base_url}/admin/accounts/{subscription.account_id}\n"
    )
    letter = kinds.alert(f"A plan of {plan.instances} pays for {living} assistants: {who}"[:200], text)
    key = f"too-many:{subscription.id}:{plan.id}:{subscription.period_start_at:%Y%m%d%H%M%S}"
    letters.post_to(db, ctx, key, letter, ctx.settings.support_address)


def _follow_vendor(db: Session, ctx: Context, instance: Instance, now: datetime) -> None:
    """A model that the new plan cannot pay for gives way to one that it can."""
    price = ctx.prices.find(instance.model, now)
    vendors = ownkey.model_vendors(db, ctx, instance)
    if price is not None and price.upstream in vendors:
        return
    for model in (ctx.settings.default_model, *signups.PREFERRED_MODELS):
        other = ctx.prices.find(model, now)
        if other is not None and other.upstream in vendors:
            instance.model = model
            db.flush()
            lifecycle.ask_configure(db, ctx, instance.id, ACTOR, ["model"])
            return


def _grant_credit(
    db: Session,
    ctx: Context,
    subscription: Subscription,
    payments: tuple[VendorPayment, ...],
    now: datetime,
) -> None:
    """The credit of every period that was paid, once each, of the plan it was paid for.

    A change of interval begins a new period at once and pays for it with what is left of the old one, so a period that
    begins within one that had its credit gets none: going back and forth is no source of credit.
    """
    paid = sorted((one for one in payments if one.period_start is not None), key=lambda one: one.period_start or now)
    given_until: datetime | None = None
    for payment in paid:
        plan = _plan_of(ctx, payment.plan or subscription.plan)
        begun = payment.period_start
        if plan is None or plan.included_credit_micros == 0 or begun is None:
            continue
        key = _period_key(subscription, begun)
        if not credits.is_granted(db, key):
            if given_until is not None and begun < given_until:
                continue
            credits.grant(
                db,
                key=key,
                account_id=subscription.account_id,
                wallet_id=access.wallet_of(db, ctx, subscription.account_id),
                amount_micros=plan.included_credit_micros,
                source="period",
                expires_at=None if plan.credit_rolls_over else payment.period_end,
                note=f"Usage credit of {plan.name} from {begun:%Y-%m-%d}",
                now=now,
            )
        given_until = max(filter(None, (given_until, payment.period_end or begun)))


def _move_credit(db: Session, ctx: Context, subscription: Subscription, news: _News, now: datetime) -> None:
    """What is left of a period's credit goes with the period's money, and comes with it again."""
    receipt = news.receipt
    if receipt.period_start_at is None:
        return
    wallet_id = access.wallet_of(db, ctx, subscription.account_id)
    key = _period_key(subscription, receipt.period_start_at)
    if 0 < receipt.amount_micros <= receipt.refunded_micros:
        credits.take_back(db, key, wallet_id, now, "Usage credit of a period whose payment was returned")
    elif news.moved_micros < 0:
        credits.give_again(db, key, wallet_id, now, "Usage credit of a period whose payment came to us again")


def _period_key(subscription: Subscription, begun: datetime) -> str:
    return f"period:{subscription.id}:{begun:%Y-%m-%dT%H:%M:%S}"


def _plan_of(ctx: Context, plan_id: str | None) -> Plan | None:
    try:
        return ctx.plans.get(plan_id) if plan_id else None
    except Invalid:
        return None


def _title(ctx: Context, plan_id: str) -> str:
    plan = _plan_of(ctx, plan_id)
    return plan.name if plan else plan_id


def _period_note(title: str, receipt: Receipt) -> str:
    if receipt.period_start_at is None or receipt.period_end_at is None:
        return f"{title}, change of plan"
    return f"{title}, {receipt.period_start_at:%Y-%m-%d} to {receipt.period_end_at:%Y-%m-%d}"
