"""Sign-up and checkout: rows first, then the vendor's page, each retried safely by id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, func, not_, select
from sqlalchemy.orm import Session

from clawhaven.accounts import sessions, signup
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, coupons, customers, once, subscriptions
from clawhaven.billing.checkouts import CheckoutState, Kind
from clawhaven.billing.dunning import open_episode_of
from clawhaven.billing.models import Checkout, Coupon, Subscription
from clawhaven.billing.plans import Plan
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.db import lock
from clawhaven.core.errors import AtCapacity, Conflict, IllegalMove, Invalid, PaymentRequired, Unavailable
from clawhaven.core.languages import Sentence, Usd
from clawhaven.instances import connections, drafts, workspace
from clawhaven.instances.drafts import Draft
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.ledger.balance import balance as balance_of
from clawhaven.metering.models import PlanMode
from clawhaven.notices import kinds
from clawhaven.ports.channel import BotInfo
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability
from clawhaven.workflows import access, alarms, letters, provision

TELEGRAM = "telegram"

DRAFT_LIFE = timedelta(minutes=60)
"""So long an unpaid draft holds a place. Paid later it is served all the same."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a person fills in to get an assistant. `channels`: channel -> its fields."""

    assistant_name: str
    custom_instructions: str
    plan: str
    persona: str
    channels: Mapping[str, Mapping[str, str]]
    coupon: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-up that went well; `session` is the cookie's value for a new user.

    `checkout` None: a subscription the account has already pays for it, and `checkout_url` leads to its progress.
    """

    owner: Owner
    instance: Instance
    checkout: Checkout | None
    checkout_url: str
    session: str | None


@dataclass(frozen=True, slots=True)
class _Checked:
    draft: Draft
    plan: Plan
    bots: Mapping[str, tuple[dict[str, str], BotInfo]]
    coupon: str


Keep = Callable[[Session, Begun], None]
"""Told what was begun, in its transaction; the address of the payment page is our own then, which leads to the
vendor's."""


def sign_up(ctx: Context, email: str, form: Form, user_agent: str = "", *, keep: Keep | None = None) -> Begun:
    """A new customer: account, draft and checkout in one transaction, then the vendor's payment page.

    Raises Invalid, Conflict (this email or bot is known), AtCapacity, Unavailable.
    """
    address = signup.normalise_email(email)
    with ctx.db.read() as db:
        if signup.find_owner(db, address) is not None:
            raise Conflict(
                "An account with this email already exists. Sign in to go on.", field="email", sign_in_url="/sign-in"
            )
        refuse_when_full(db, ctx)
    checked = _check(ctx, form)
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        lock(db, "places")
        refuse_when_full(db, ctx)
        owner = signup.register(db, address, now)
        instance, checkout = _open(db, ctx, owner, checked)
        session = sessions.open_session(db, owner.user.id, now, days=ctx.settings.session_days, user_agent=user_agent)
        audit.record(db, now, f"user:{owner.user.id}", "account.sign_up", owner.account.id, owner.account.id)
        url = f"{ctx.settings.base_url}/checkout/{checkout.id}"
        letter = kinds.welcome(ctx.settings.brand_name, instance.name, url)
        letters.post(db, ctx, f"welcome:{owner.user.id}", letter, owner.account.id)
        if keep is not None:
            keep(db, Begun(owner, instance, checkout, url, None))
    return Begun(owner, instance, checkout, page_url(ctx, checkout), session)


def add_instance(ctx: Context, owner: Owner, form: Form, *, keep: Keep | None = None) -> Begun:
    """A further assistant for somebody who has an account.

    Under a subscription of this plan that has room it is built at once. Raises Conflict at the plan's limit,
    PaymentRequired for a metered one while the wallet is not above its minimum.
    """
    checked = _check(ctx, form)
    with ctx.db.tx() as db:
        lock(db, "places")
        refuse_beyond_plan(db, owner.account.id, checked.plan)
        refuse_when_full(db, ctx, owner.account.id)
        subscription = subscriptions.current_of(db, owner.account.id, checked.plan.id)
        if subscription is not None and checked.plan.instances > 1:
            _refuse_in_trouble(db, subscription)
            _refuse_without_credit(db, ctx, owner.account.id, checked.plan)
            instance = _draft(db, ctx, owner, checked)
            subscriptions.cover(db, subscription.id, instance.id, ctx.clock.now())
            instance.paid_at = ctx.clock.now()
            db.flush()
            provision.ask(db, ctx, instance.id)
            begun = Begun(owner, instance, None, f"{ctx.settings.base_url}/deploying/{instance.id}", None)
            if keep is not None:
                keep(db, begun)
            return begun
        instance, checkout = _open(db, ctx, owner, checked)
        if keep is not None:
            keep(db, Begun(owner, instance, checkout, f"{ctx.settings.base_url}/checkout/{checkout.id}", None))
    return Begun(owner, instance, checkout, page_url(ctx, checkout), None)


def page_for(ctx: Context, checkout_id: str) -> Checkout:
    """The checkout with its vendor's page, made now if a crash or outage left it without one.

    Raises Unavailable while the vendor does not answer: the checkout stays, and its page is made at the next try. Of a
    vendor that refuses for good the operator is told.
    """
    with ctx.db.read() as db:
        checkout = checkouts.get(db, checkout_id)
        owner = signup.owner_of(db, checkout.account_id)
        customer = customers.find(db, checkout.account_id, checkout.provider)
        coupon = coupons.get(db, checkout.coupon_id) if checkout.coupon_id else None
    if checkout.reference is not None or checkout.state != CheckoutState.OPEN or checkout.kind == Kind.AUTO_TOPUP:
        return checkout
    request = checkouts.request_for(
        checkout,
        ctx.plans.get(checkout.plan) if checkout.kind == Kind.SUBSCRIPTION else None,
        email=owner.user.email,
        brand=ctx.settings.brand_name,
        base_url=ctx.settings.base_url,
        customer_reference=customer,
        discount=coupons.as_discount(coupon) if coupon is not None else None,
    )
    try:
        made = ctx.payment(checkout.provider).create_checkout(request)
    except ProviderError as error:
        alarms.note_no_page(ctx, checkout, error)
        raise Unavailable(
            "The payment page cannot be reached at the moment. Nothing was charged; please try again in a minute.",
            checkout_id=checkout_id,
        ) from error
    with ctx.db.tx() as db:
        return checkouts.attach(db, checkout_id, made.reference, made.url)


def page_url(ctx: Context, checkout: Checkout) -> str:
    """The vendor's page; while the vendor is down our own page, which leads there as soon as it answers."""
    try:
        return page_for(ctx, checkout.id).url or f"{ctx.settings.base_url}/checkout/{checkout.id}"
    except Unavailable:
        return f"{ctx.settings.base_url}/checkout/{checkout.id}"


def refuse_when_full(db: Session, ctx: Context, account_id: str | None = None) -> None:
    """Raises AtCapacity when every place is taken by a customer with an assistant that is not deleted."""
    if account_id is not None:
        mine = db.scalar(select(func.count()).where(Instance.account_id == account_id, Instance.state != State.DELETED))
        if mine:
            return
    if free_places(db, ctx) <= 0:
        raise AtCapacity(
            "Every place is taken at the moment. Join the waitlist and we will write to you.",
            waitlist_url=f"{ctx.settings.base_url}/waitlist",
        )


def free_places(db: Session, ctx: Context) -> int:
    """Places that nobody holds; below zero when the operator lowered MAX_CUSTOMERS."""
    is_unpaid_and_old = and_(Instance.state == State.PENDING, Instance.created_at < ctx.clock.now() - DRAFT_LIFE)
    customers = select(func.count(func.distinct(Instance.account_id))).where(
        Instance.state != State.DELETED, not_(is_unpaid_and_old)
    )
    return ctx.settings.max_customers - int(db.scalar(customers) or 0)


def probe_channel(ctx: Context, name: str, given: Mapping[str, str]) -> tuple[dict[str, str], BotInfo]:
    """Check a channel's fields and ask its network who they are. Raises Invalid or Unavailable."""
    if name not in ctx.channels:
        raise Invalid(f"Channels are {', '.join(ctx.channels)}.", field="channel", reason="unknown channel")
    channel = ctx.channels[name]
    credentials = connections.check_fields(channel, given)
    try:
        return credentials, channel.probe(credentials)
    except ProviderError as error:
        field = next((field.name for field in channel.fields if field.is_secret), channel.fields[0].name)
        if error.permanent:
            raise Invalid(
                Sentence(
                    "%(network)s does not accept this token. Copy it again from the bot's settings.",
                    network=channel.label,
                ),
                code="invalid_bot_token",
                field=field,
                reason=error.code,
            ) from None
        raise Unavailable(
            Sentence(
                "%(network)s cannot be reached at the moment. Try again, or leave it out and connect it later.",
                network=channel.label,
            ),
            field=field,
        ) from None


PREFERRED_MODELS = ("claude-sonnet-5-5", "gpt-6-luna", "sandbox-1")
"""Model of a new assistant: the first whose upstream can be used here."""


def default_model(ctx: Context, plan: Plan | None = None) -> str:
    """The operator's choice, else the first preferred model that can be used. Raises Unavailable without any.

    On a plan with the customer's own key every vendor can, until the key says which.
    """
    if ctx.settings.default_model:
        return ctx.settings.default_model
    is_own_key = plan is not None and plan.access == PlanMode.OWN_KEY
    for model in PREFERRED_MODELS:
        price = ctx.prices.find(model, ctx.clock.now())
        if price is not None and (is_usable(ctx, price.upstream) or (is_own_key and price.upstream in ctx.upstreams)):
            return model
    raise Unavailable("No model can be used here yet; the operator has to set ANTHROPIC_API_KEY or OPENAI_API_KEY.")


def is_usable(ctx: Context, upstream: str) -> bool:
    """True when this upstream is switched on and has its key."""
    return upstream in ctx.upstreams and bool(getattr(ctx.upstreams[upstream], "is_ready", True))


def _check(ctx: Context, form: Form) -> _Checked:
    plan = ctx.plans.offered(form.plan)
    draft = drafts.check_draft(
        form.assistant_name,
        form.persona,
        form.custom_instructions,
        workspace.list_personas(ctx.settings.templates_dir),
    )
    for name in form.channels:
        if plan.channels and name not in plan.channels:
            raise Invalid(f"The plan {plan.name} has the channels {', '.join(plan.channels)}.", field=name)
    bots = {name: probe_channel(ctx, name, fields) for name, fields in form.channels.items()}
    if form.coupon.strip():
        with ctx.db.read() as db:
            refuse_wallet_coupon(coupons.check(db, form.coupon, None, ctx.clock.now()))
    return _Checked(draft, plan, bots, form.coupon.strip())


def refuse_wallet_coupon(coupon: Coupon) -> None:
    """Raises Invalid for a coupon that fills the wallet: it takes nothing off a subscription."""
    if coupon.kind == "credit":
        raise Invalid(
            "This coupon gives usage credit: redeem it under Billing.", field="coupon", reason="credit coupon"
        )


def _open(db: Session, ctx: Context, owner: Owner, checked: _Checked) -> tuple[Instance, Checkout]:
    instance = _draft(db, ctx, owner, checked)
    return instance, open_for(db, ctx, instance, checked.plan, checked.coupon)


def open_for(db: Session, ctx: Context, instance: Instance, plan: Plan, coupon_code: str = "") -> Checkout:
    """A checkout of this plan for an assistant, with its coupon redeemed and the trial of a first subscription."""
    now = ctx.clock.now()
    provider = ctx.seller(Capability.SUBSCRIPTIONS)
    coupon = coupons.check(db, coupon_code, instance.account_id, now) if coupon_code else None
    access.hold_account(db, instance.account_id)
    person = once.prints_of(ctx.keys, signup.owner_of(db, instance.account_id).user.email)
    checkout = checkouts.open_checkout(
        db,
        instance.account_id,
        instance.id,
        plan,
        provider.name,
        now,
        coupon_id=coupon.id if coupon else None,
        trial_days=trial_days(db, ctx, instance.account_id, plan),
    )
    if checkout.trial_days and not once.take(db, once.TRIAL, person, checkout.id, now):
        checkout.trial_days = 0  # another account of theirs was quicker
        db.flush()
    if coupon is not None:
        refuse_wallet_coupon(coupon)
        if Capability.COUPONS not in provider.capabilities:
            raise Invalid("Coupons cannot be used with this way of paying.", field="coupon", reason="not offered")
        if coupon.kind == "amount" and Capability.AMOUNT_OFF not in provider.capabilities:
            raise Invalid(
                "A coupon of a fixed amount cannot be used with this way of paying; one of a percentage can.",
                field="coupon",
                reason="not offered",
            )
        if not once.take(db, once.coupon(coupon.id), person, checkout.id, now):
            raise Invalid("You have used this coupon already.", field="coupon", reason="used")
        if not coupons.redeem(db, coupon.id, instance.account_id, checkout.id, now):
            raise Invalid("This coupon has been used up.", field="coupon", reason="used up")
    return checkout


def trial_days(db: Session, ctx: Context, account_id: str, plan: Plan) -> int:
    """Days of trial that an order of this plan begins with: on the first subscription of a person, whatever accounts
    they have had, where the vendor can."""
    if not plan.trial_days or Capability.TRIALS not in ctx.seller(Capability.SUBSCRIPTIONS).capabilities:
        return 0
    if subscriptions.of_account(db, account_id) or checkouts.has_trial(db, account_id):
        return 0
    person = once.prints_of(ctx.keys, signup.owner_of(db, account_id).user.email)
    return 0 if once.is_taken(db, once.TRIAL, person) else plan.trial_days


def _draft(db: Session, ctx: Context, owner: Owner, checked: _Checked) -> Instance:
    now = ctx.clock.now()
    instance = drafts.create(
        db,
        owner.account.id,
        owner.account.slug,
        checked.draft,
        plan=checked.plan.id,
        model=default_model(ctx, checked.plan),
        runtime=checked.plan.runtime or next(iter(ctx.runtimes)),
        keys=ctx.keys,
        now=now,
    )
    for name, (credentials, bot) in checked.bots.items():
        connections.connect(db, instance.id, name, credentials, bot, ctx.keys, now)
    audit.record(db, now, f"user:{owner.user.id}", "instance.draft", instance.id, owner.account.id)
    return instance


def _refuse_in_trouble(db: Session, subscription: Subscription) -> None:
    """Raises IllegalMove while something is owed, disputed or given back: nothing is built on what may end."""
    if open_episode_of(db, subscription.id) is not None:
        raise IllegalMove(
            "A payment for this plan is missing, disputed or returned. Once that is settled, you can add an assistant.",
            state=subscription.state,
        )


def _refuse_without_credit(db: Session, ctx: Context, account_id: str, plan: Plan) -> None:
    if plan.access != PlanMode.METERED:
        return
    wallet = balance_of(db, access.wallet_of(db, ctx, account_id))
    minimum = ctx.settings.micros("wallet_minimum")
    if wallet.balance_micros < minimum or wallet.balance_micros <= 0:
        raise PaymentRequired(
            Sentence(
                "A metered assistant needs at least %(minimum)s on your account. Top up first.", minimum=Usd(minimum)
            ),
            balance_micros=wallet.balance_micros,
            needed_micros=minimum,
            topup_url=f"{ctx.settings.base_url}/topup",
        )


def refuse_beyond_plan(db: Session, account_id: str, plan: Plan) -> None:
    """Raises Conflict `plan_limit` when the account has as many assistants on this plan as it allows."""
    mine = db.scalar(
        select(func.count()).where(
            Instance.account_id == account_id, Instance.plan == plan.id, Instance.state != State.DELETED
        )
    )
    if int(mine or 0) >= plan.instances:
        raise Conflict(
            f"The plan {plan.name} has {plan.instances} assistant{'s' if plan.instances > 1 else ''}."
            " Delete one first, or choose another plan.",
            code="plan_limit",
            limit=plan.instances,
        )
