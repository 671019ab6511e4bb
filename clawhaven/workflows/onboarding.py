"""The wizard: an account and a draft at the first step, what is chosen tested at once, an order at the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clawhaven.accounts import sessions, signup
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, subscriptions
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.plans import Plan, check_channel
from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import Conflict, Invalid
from clawhaven.instances import connections, drafts, skillset, workspace
from clawhaven.instances.models import Instance, OpenDraft
from clawhaven.instances.states import State
from clawhaven.metering import ownkeys
from clawhaven.metering.models import PlanMode
from clawhaven.notices import kinds
from clawhaven.ports.channel import BotInfo, Channel
from clawhaven.workflows import checkout, letters, model, ownkey
from clawhaven.workflows.checkout import Begun, Form

TESTS_PER_MINUTE = 20
"""Of bots, per account: nobody finds out here which of many tokens are good."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A new account with a draft; `session` is the cookie's value."""

    owner: Owner
    session: str


def sign_up(ctx: Context, email: str, plan: str, user_agent: str = "") -> Begin:
    """An account, signed in, and its draft with this plan. It takes no place yet: an order does.

    Raises Invalid (with the field), Conflict for a known address, AtCapacity.
    """
    address = signup.normalise_email(email)
    wanted = ctx.plans.offered(plan)
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        checkout.refuse_when_full(db, ctx)
        owner = signup.register(db, address, now)
        drafts.begin(db, owner.account.id, wanted.id, now)
        session = sessions.open_session(db, owner.user.id, now, days=ctx.settings.session_days, user_agent=user_agent)
        audit.record(db, now, f"user:{owner.user.id}", "account.sign_up", owner.account.id, owner.account.id)
    return Begin(owner, session)


def choose_plan(db: Session, ctx: Context, account_id: str, plan: str) -> OpenDraft:
    """Set the account's draft to a plan, with a new draft where there is none.

    Raises Invalid, AtCapacity, and Conflict `plan_limit` when the plan has no room for one more. A model that the plan
    does not offer is given up for the one that suits it.
    """
    wanted = ctx.plans.offered(plan)
    checkout.refuse_when_full(db, ctx, account_id)
    checkout.refuse_beyond_plan(db, account_id, wanted)
    now = ctx.clock.now()
    row = drafts.begin(db, account_id, wanted.id, now)
    _mend_model(db, ctx, row, wanted)
    return row


def open_draft(db: Session, account_id: str) -> OpenDraft:
    """The account's draft. Raises Conflict `draft_changed` when it was ordered meanwhile."""
    row = drafts.find_open(db, account_id)
    if row is None:
        raise Conflict("There is nothing to order any more. Choose a plan first.", code="draft_changed")
    return row


def keep_words(db: Session, ctx: Context, row: OpenDraft, name: str, persona: str, instructions: str) -> None:
    """Check and keep name, persona and instructions. Raises Invalid naming the field."""
    draft = drafts.check_draft(name, persona, instructions, workspace.list_personas(ctx.settings.templates_dir))
    drafts.keep_words(db, row, draft, ctx.clock.now())


def offers_for(ctx: Context, row: OpenDraft) -> list[model.Offer]:
    """The models to choose from, with what they cost; the one that the draft has, or that suits it, is chosen."""
    plan = ctx.plans.get(row.plan)
    return model.list_plan_offers(ctx, plan, row.model or suiting_model(ctx, row), _vendor(row, plan))


def suiting_model(ctx: Context, row: OpenDraft) -> str:
    """What the assistant is set to when nobody chooses. Raises Unavailable where no model can be used."""
    plan = ctx.plans.get(row.plan)
    vendor = _vendor(row, plan)
    return ownkey.first_model(ctx, vendor) if vendor else checkout.default_model(ctx, plan)


def choose_model(db: Session, ctx: Context, row: OpenDraft, wanted: str) -> None:
    """Keep the model. Raises Invalid naming `model` for one that is not on offer."""
    if wanted and wanted not in {offer.model for offer in offers_for(ctx, row)}:
        raise Invalid("This model is not on offer here. Choose one of the list.", field="model", reason="unknown model")
    drafts.keep_model(db, row, wanted, ctx.clock.now())


def put_key(ctx: Context, owner: Owner, api_key: str, vendor: str) -> None:
    """Test the customer's model key at its vendor, then keep it sealed. Raises as `ownkey.put`."""
    plan = _plan_of(ctx, owner)
    if plan.access != PlanMode.OWN_KEY:
        raise Conflict(
            f"The plan {plan.name} comes with the model and uses no key of yours. Choose an own-key plan first.",
            code="not_own_key",
            plan=plan.id,
        )
    key, name = ownkey.try_out(ctx, owner.account.id, api_key, vendor)
    with ctx.db.tx() as db:
        row = open_draft(db, owner.account.id)
        drafts.keep_key(db, row, name, key, ownkeys.hint(key), ctx.keys, ctx.clock.now())
        _mend_model(db, ctx, row, plan)


def connect(ctx: Context, owner: Owner, name: str, given: Mapping[str, str]) -> BotInfo:
    """Ask a network who the credentials are, then keep them sealed. Raises Invalid, Conflict, Unavailable."""
    plan = _plan_of(ctx, owner)
    check_channel(plan, name)
    with ctx.db.tx() as db:
        ratelimit.hit(db, f"channel-test:{owner.account.id}", TESTS_PER_MINUTE, 60, ctx.clock.now())
    credentials, bot = checkout.probe_channel(ctx, name, given)
    with ctx.db.tx() as db:
        connections.refuse_taken(db, name, bot)
        row = open_draft(db, owner.account.id)
        drafts.keep_bot(db, row, name, credentials, bot, ctx.keys, ctx.clock.now())
    return bot


def channels_of(ctx: Context, plan: Plan) -> dict[str, Channel]:
    """The networks that this plan has."""
    return {name: channel for name, channel in ctx.channels.items() if not plan.channels or name in plan.channels}


def order(ctx: Context, owner: Owner, coupon: str = "") -> Begun:
    """Make the draft an assistant with its checkout, once: the draft is gone with it.

    Raises as `checkout.add_instance`, and Conflict `draft_changed` when another window has changed or ordered it.
    """
    with ctx.db.read() as db:
        row = open_draft(db, owner.account.id)
    plan, by = ctx.plans.get(row.plan), f"user:{owner.user.id}"
    bots = drafts.credentials_of(row, ctx.keys)
    form = Form(
        assistant_name=row.name,
        custom_instructions=row.instructions,
        plan=row.plan,
        persona=row.persona,
        channels={name: fields for name, fields in bots.items() if name in channels_of(ctx, plan)},
        coupon=coupon.strip()[:40],
    )

    def finish(db: Session, begun: Begun) -> None:
        if not drafts.take(db, row):
            raise Conflict("Another window has changed this. Please look at it once more.", code="draft_changed")
        skillset.hand_over(db, owner.account.id, begun.instance.id)
        if plan.access == PlanMode.OWN_KEY and row.key_sealed and row.key_vendor:
            key = ctx.keys.open(row.key_sealed, drafts.KEY_PURPOSE)
            ownkey.keep(db, ctx, begun.instance, row.key_vendor, key, by)
        if row.model:
            model.choose(db, ctx, begun.instance, row.model)
        if begun.checkout is not None and _is_first(db, owner.account.id):
            letter = kinds.welcome(ctx.settings.brand_name, begun.instance.name, begun.checkout_url)
            letters.post(db, ctx, f"welcome:{owner.user.id}", letter, owner.account.id)

    return checkout.add_instance(ctx, owner, form, keep=finish)


@dataclass(frozen=True, slots=True)
class Unpaid:
    """An order that waits for its payment."""

    instance_id: str
    name: str
    checkout_id: str


def unpaid_order(db: Session, account_id: str) -> Unpaid | None:
    """The account's newest order that waits for its payment."""
    newest = db.scalars(
        select(Instance)
        .where(Instance.account_id == account_id, Instance.state == State.PENDING, Instance.deletion_asked_at.is_(None))
        .order_by(Instance.created_at.desc(), Instance.id.desc())
        .limit(1)
    ).first()
    found = checkouts.of_instance(db, newest.id) if newest is not None else None
    if newest is None or found is None or found.state != CheckoutState.OPEN:
        return None
    return Unpaid(newest.id, newest.name, found.id)


def is_covered(db: Session, account_id: str, plan: Plan) -> bool:
    """True when a subscription that is paid already pays for one more on this plan."""
    return plan.instances > 1 and subscriptions.current_of(db, account_id, plan.id) is not None


def _is_first(db: Session, account_id: str) -> bool:
    return db.scalar(select(func.count()).where(Instance.account_id == account_id)) == 1


def _plan_of(ctx: Context, owner: Owner) -> Plan:
    with ctx.db.read() as db:
        return ctx.plans.get(open_draft(db, owner.account.id).plan)


def _vendor(row: OpenDraft, plan: Plan) -> str | None:
    return row.key_vendor if plan.access == PlanMode.OWN_KEY else None


def _mend_model(db: Session, ctx: Context, row: OpenDraft, plan: Plan) -> None:
    offered = {offer.model for offer in model.list_plan_offers(ctx, plan, "", _vendor(row, plan))}
    if row.model and row.model not in offered:
        drafts.keep_model(db, row, "", ctx.clock.now())
