"""What a customer does with a running agreement: change its plan, end it, take that back, begin it anew.

The vendor is asked outside any transaction and is the truth: what it then says is settled at once, and again by its
events. A crash between the two loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from sqlalchemy.orm import Session

from clawhaven.accounts import signup
from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, customers, subscriptions
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.dunning import DunningState, open_episode_of
from clawhaven.billing.models import Checkout, Dunning, Subscription
from clawhaven.billing.plans import Plan
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Conflict, Forbidden, IllegalMove, Invalid, NotFound, PaymentRequired, Unavailable
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability, Payments, Price, SavedMethod, VendorInvoice
from clawhaven.workflows import access, dunning, lifecycle, payments, settlement
from clawhaven.workflows import checkout as signups
from clawhaven.workflows.checkout import Begun

T = TypeVar("T")


def change(ctx: Context, account_id: str, subscription_id: str, plan_id: str, actor: str) -> Subscription:
    """Move to another plan now, the rest of the period prorated by the vendor.

    Raises NotFound, IllegalMove (ended, owing, or paused for a dispute), Invalid (not offered, too many assistants),
    PaymentRequired when the difference could not be charged, Unavailable.
    """
    plan = ctx.plans.offered(plan_id)
    with ctx.db.read() as db:
        subscription = _owned(db, account_id, subscription_id)
        count, trouble = _living(db, subscription), open_episode_of(db, subscription.id)
    if count > plan.instances:
        raise Invalid(
            f"The plan {plan.name} has {plan.instances} assistant{'s' if plan.instances > 1 else ''}; you have {count}."
            " Delete some first.",
            field="plan",
            reason="too many assistants",
        )
    _refuse_in_trouble(subscription, trouble)
    _move(ctx, subscription, plan)
    changed = _settled(ctx, subscription, actor, "subscription.change_plan", before=subscription.plan, wanted=plan.id)
    if changed.plan != plan.id:
        raise PaymentRequired(
            "The difference has to be paid first; then the plan changes by itself.", pay_url=_pay_url(ctx, changed)
        )
    return changed


def accept_price(ctx: Context, account_id: str, subscription_id: str, actor: str) -> Subscription:
    """Take today's price of the plan instead of the one it was bought at. Raises like `change`."""
    with ctx.db.read() as db:
        subscription = _owned(db, account_id, subscription_id)
        trouble = open_episode_of(db, subscription.id)
    plan = ctx.plans.get(subscription.plan)
    if plan.price_micros == subscription.amount_micros:
        return subscription
    _refuse_in_trouble(subscription, trouble)
    _move(ctx, subscription, plan)
    accepted = _settled(
        ctx,
        subscription,
        actor,
        "subscription.accept_price",
        before_micros=subscription.amount_micros,
        wanted_micros=plan.price_micros,
    )
    if accepted.amount_micros != plan.price_micros:
        raise PaymentRequired(
            "The difference has to be paid first; then the price changes by itself.", pay_url=_pay_url(ctx, accepted)
        )
    return accepted


def cancel(ctx: Context, account_id: str, subscription_id: str, actor: str) -> Subscription:
    """End it with its period; until then everything runs. Already so is success."""
    with ctx.db.read() as db:
        subscription = _owned(db, account_id, subscription_id)
    if subscription.state == "canceled":
        return subscription
    _ask_for(
        lambda vendor: vendor.cancel(subscription.reference, at_period_end=True), ctx.payment(subscription.provider)
    )
    return _settled(ctx, subscription, actor, "subscription.cancel")


def undo(ctx: Context, account_id: str, subscription_id: str, actor: str) -> Subscription:
    """Go on after all. Nothing to take back is success; IllegalMove once it has ended."""
    with ctx.db.read() as db:
        subscription = _owned(db, account_id, subscription_id)
    if subscription.state == "canceled":
        raise IllegalMove("This subscription has ended. Reactivate the assistant instead.", state="canceled")
    provider = ctx.payment(subscription.provider)
    _require(provider, Capability.UNDO_CANCEL, "take back a cancellation")
    _ask_for(lambda vendor: vendor.undo_cancel(subscription.reference), provider)
    return _settled(ctx, subscription, actor, "subscription.undo_cancel")


def reactivate(ctx: Context, owner: Owner, instance_id: str, plan_id: str = "") -> Begun:
    """A new checkout for an assistant whose agreement has ended and whose data is still there.

    Raises NotFound, IllegalMove when it is deleted, Conflict while an agreement pays for it.
    """
    with ctx.db.tx() as db:
        access.hold_account(db, owner.account.id)
        owned(db, Instance, instance_id, owner.account.id)
        instance = lifecycle.locked(db, instance_id)
        if instance.state == State.DELETED or instance.deletion_asked_at is not None:
            raise IllegalMove("This assistant is deleted with its data.", state="deleted")
        if instance.paid_at is None:
            raise IllegalMove("This assistant waits for its first payment.", state=instance.state)
        subscription = subscriptions.of_instance(db, instance_id)
        if subscription is not None and subscription.state not in ("canceled", "incomplete"):
            raise Conflict(
                "A subscription pays for this assistant already; settle what is owed under Billing.",
                code="illegal_move",
                billing_url=f"{ctx.settings.base_url}/billing",
            )
        plan = ctx.plans.offered(plan_id or instance.plan)
        if _join(db, ctx, instance, plan):
            return Begun(owner, instance, None, f"{ctx.settings.base_url}/instances/{instance_id}", None)
        checkout = _open_again(db, ctx, instance, plan)
    return Begun(owner, instance, checkout, signups.page_url(ctx, checkout), None)


def portals(ctx: Context, account_id: str) -> list[str]:
    """Names of the vendors that know this customer and have a page of their own for them."""
    return [provider.name for provider, _ in _vendors_of(ctx, account_id, Capability.PORTAL)]


def portal_url(ctx: Context, account_id: str, provider: str = "") -> str:
    """The vendor's page for payment method and invoices: of `provider`, or of the first that may be shown.

    Raises NotFound before the first payment there, Invalid for a vendor that is not switched on. A vendor that knows
    its customers by their mail address alone may have known this one before us: its page is only for who has proven
    that the address is theirs (Forbidden `email_not_verified`).
    """
    chosen = ctx.payment(provider).name if provider else ""
    with ctx.db.read() as db:
        is_proven = signup.owner_of(db, account_id).user.verified_at is not None
    found = [one for one in _vendors_of(ctx, account_id, Capability.PORTAL) if one[0].name == (chosen or one[0].name)]
    for vendor, reference in found:
        if is_proven or not vendor.is_customer_by_email:
            return _ask_for(
                partial(_portal, reference=reference, return_url=f"{ctx.settings.base_url}/billing"), vendor
            )
    if found:
        raise Forbidden(
            "This page shows everything that was ever paid with your mail address, so we have to know that it"
            " is yours. Sign in once with the link that is mailed to you; then it opens.",
            code="email_not_verified",
            sign_in_url=f"{ctx.settings.base_url}/sign-in",
        )
    raise NotFound("There is nothing to manage yet: it begins with your first payment.")


def list_invoices(ctx: Context, account_id: str) -> list[VendorInvoice]:
    """The account's invoices at every vendor that keeps some, newest first. Raises Unavailable."""
    found: list[VendorInvoice] = []
    for vendor, reference in _vendors_of(ctx, account_id, Capability.INVOICES):
        found += _ask_for(partial(_invoices, reference=reference), vendor)
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def saved_methods(ctx: Context, account_id: str) -> dict[str, SavedMethod]:
    """What would be charged while the customer is away, by vendor: who charges top-ups first. Raises Unavailable."""
    asked = _vendors_of(ctx, account_id, Capability.CHARGE_SAVED)
    first, found = "", {}
    with suppress(Invalid):  # where nobody sells top-ups
        first = ctx.seller(Capability.TOPUPS).name
    for vendor, reference in sorted(asked, key=lambda one: one[0].name != first):
        method = _ask_for(partial(_method, reference=reference), vendor)
        if method is not None:
            found[vendor.name] = method
    return found


def _vendors_of(ctx: Context, account_id: str, capability: Capability) -> list[tuple[Payments, str]]:
    """Every vendor that can do this and knows the customer, and what it calls them."""
    with ctx.db.read() as db:
        known = customers.all_of(db, account_id)
    return [
        (provider, known[provider.name])
        for provider in ctx.payments.values()
        if capability in provider.capabilities and provider.name in known
    ]


def _owned(db: Session, account_id: str, subscription_id: str) -> Subscription:
    found = db.get(Subscription, subscription_id)
    if found is None or found.account_id != account_id:
        raise NotFound("There is no such subscription.")
    return found


def _living(db: Session, subscription: Subscription) -> int:
    rows = [db.get_one(Instance, one) for one in subscriptions.covered(db, subscription.id)]
    return sum(1 for row in rows if row.deletion_asked_at is None)


def _refuse_in_trouble(subscription: Subscription, trouble: Dunning | None) -> None:
    """Raises IllegalMove while something is owed, or its assistants are paused because of it."""
    if subscription.state not in ("active", "trialing"):
        raise IllegalMove("Pay what is owed first; then the plan can be changed.", state=subscription.state)
    if trouble is not None and trouble.state == DunningState.SUSPENDED:
        raise IllegalMove(
            "A payment for this plan was disputed or returned. Once that is settled, the plan can be changed.",
            state=subscription.state,
        )


def _pay_url(ctx: Context, subscription: Subscription) -> str:
    return subscription.pay_url or f"{ctx.settings.base_url}/billing"


def _move(ctx: Context, subscription: Subscription, plan: Plan) -> None:
    provider = ctx.payment(subscription.provider)
    _require(provider, Capability.CHANGE_PLAN, "change a plan")
    if subscription.held_at is not None:
        # The vendor voids every invoice meanwhile, that of a dearer plan included.
        raise IllegalMove(
            "A payment for this plan is disputed. Once that is settled, the plan can be changed.",
            state=subscription.state,
        )
    # From where it starts: the same wish sent twice is one change; to go there again after having left is a new one.
    price = Price(plan.id, plan.name, plan.price_micros, plan.interval)
    key = f"plan:{subscription.id}:{price.plan}:{price.amount_micros}:{subscription.checked_at:%Y%m%d%H%M%S%f}"
    _ask_for(lambda vendor: vendor.change_plan(subscription.reference, price, key), provider)


LATER = (
    "The payment provider has taken your request but cannot be asked for the outcome at the moment."
    " It will show under Billing within minutes; please do not send it again."
)


def _settled(ctx: Context, known: Subscription, actor: str, action: str, **details: object) -> Subscription:
    with ctx.db.read() as db:
        checkout = db.get_one(Checkout, known.checkout_id)
    asked_at = ctx.clock.now()
    try:
        seen = ctx.payment(known.provider).fetch(checkout.reference or "")
    except ProviderError as error:
        with ctx.db.tx() as db:
            payments.ask_settle(db, ctx, checkout.id)
            audit.record(db, asked_at, actor, action, known.id, known.account_id, **details)
        raise Unavailable(LATER) from error
    with ctx.db.tx() as db:
        settlement.equalise(db, ctx, checkouts.get(db, checkout.id), seen, asked_at)
        found = db.get_one(Subscription, known.id, populate_existing=True)
        outcome = {"plan": found.plan, "amount_micros": found.amount_micros}
        audit.record(db, ctx.clock.now(), actor, action, known.id, known.account_id, **details, **outcome)
        return found


def _join(db: Session, ctx: Context, instance: Instance, plan: Plan) -> bool:
    """Put an assistant under a subscription of this plan that runs and has room. False when there is none."""
    for known in subscriptions.of_account(db, instance.account_id):
        if known.plan == plan.id and subscriptions.is_entitled(known) and _living(db, known) < plan.instances:
            subscriptions.cover(db, known.id, instance.id, ctx.clock.now())
            settlement.apply_plan(db, ctx, known, ctx.clock.now())
            dunning.follow(db, ctx, known)
            return True
    return False


def _open_again(db: Session, ctx: Context, instance: Instance, plan: Plan) -> Checkout:
    """The assistant's one open checkout: that of this plan, or a new one, and the other is closed here."""
    known = checkouts.of_instance(db, instance.id)
    if known is not None and known.state == CheckoutState.OPEN:
        if known.plan == plan.id:
            return known
        checkouts.expire(db, known.id, ctx.clock.now())
        settlement.give_up(db, ctx, known)
    return signups.open_for(db, ctx, instance, plan)


def _require(provider: Payments, capability: Capability, what: str) -> None:
    if capability not in provider.capabilities:
        raise Invalid(f"{provider.name} cannot {what}.", reason="not offered")


def _portal(vendor: Payments, reference: str, return_url: str) -> str:
    return vendor.portal_url(reference, return_url)


def _method(vendor: Payments, reference: str) -> SavedMethod | None:
    return vendor.saved_method(reference)


def _invoices(vendor: Payments, reference: str) -> list[VendorInvoice]:
    return vendor.invoices(reference)


def _ask_for(verb: Callable[[Payments], T], provider: Payments) -> T:
    """What the vendor answers. Raises Unavailable, PaymentRequired (declined) or Invalid with its words."""
    try:
        return verb(provider)
    except ProviderError as error:
        if not error.permanent:
            raise Unavailable(
                "The payment provider cannot be reached at the moment. Nothing has changed; please try again."
            ) from error
        if error.code in ("card_declined", "payment_failed", "declined"):
            raise PaymentRequired(
                "The payment was declined. Check your payment method under Billing, then try again."
            ) from error
        raise Invalid(f"The payment provider refused this: {error.message}", reason=error.code) from error
