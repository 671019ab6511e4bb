"""The signed-in person's first page: what asks for something, their assistants, balance and month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.billing import checkouts, dunning, subscriptions
from clawhaven.billing import wallet as wallets
from clawhaven.billing.models import Dunning, Subscription
from clawhaven.context import Context
from clawhaven.instances import connections, drafts
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State, reasons
from clawhaven.metering import ownkeys
from clawhaven.metering.models import PlanMode
from clawhaven.metering.usage import month_so_far, usage_by, usage_summary
from clawhaven.web.deps import Ctx, RowId, SignedIn
from clawhaven.web.render import page
from clawhaven.web.usage import draw

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Card:
    """One assistant on the dashboard."""

    instance: Instance
    checkout_id: str | None
    subscription: Subscription | None
    trouble: Dunning | None
    needs_key: bool
    bot: str | None
    """The name of a bot that nobody has claimed yet."""

    @property
    def urgency(self) -> int:
        """What needs somebody comes first: 0 is broken or unpaid, 1 waits for a step, 2 is on its way, 3 goes well."""
        if self.instance.deletion_asked_at is not None:
            return 4
        blocked = {Reason.PAYMENT, Reason.BALANCE, Reason.ABUSE, Reason.OPERATOR}
        if self.instance.state == State.FAILED or self.trouble is not None or blocked & set(reasons(self.instance)):
            return 0
        if self.needs_key or self.bot or self.checkout_id:
            return 1
        return {State.PENDING: 1, State.PROVISIONING: 2, State.ACTIVE: 3}.get(State(self.instance.state), 4)


@router.get("/dashboard")
def show_dashboard(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Everything at a glance."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        cards = _cards(db, ctx, owner.account.id)
        month = usage_summary(db, owner.account.id, *month_so_far(now))
        days = usage_by(db, owner.account.id, ("day", "source"), *month_so_far(now))
        wallet = ledger.account_of(db, "wallet", owner.account.id)
        balance = ledger.balance(db, wallet) if wallet else None
        trouble = dunning.open_episode(db, owner.account.id)
        standing = wallets.find(db, owner.account.id)
        begun = drafts.find_open(db, owner.account.id)
    return page(
        request,
        "dashboard.html",
        trouble=trouble,
        level=standing.level if standing else "ok",
        is_auto_failed=standing is not None and standing.is_auto and standing.auto_state == "failed",
        cards=cards,
        begun=begun,
        month=month,
        chart=draw(days, now, is_priced=month.total.price_micros > 0) if month.total.calls else None,
        balance_micros=balance.balance_micros if balance else 0,
        plans={plan.id: plan for plan in ctx.plans},
    )


@router.get("/success")
def show_success(_owner: SignedIn) -> Response:
    """An old address of the same page."""
    return RedirectResponse("/dashboard", 303)


@router.get("/instances")
def show_instances(_owner: SignedIn) -> Response:
    """The list is the dashboard."""
    return RedirectResponse("/dashboard", 303)


@router.get("/dashboard/{instance_id}")
def show_one(_owner: SignedIn, instance_id: RowId) -> Response:
    """An old address of an assistant's page."""
    return RedirectResponse(f"/instances/{instance_id}", 303)


def list_instances(db: Session, account_id: str) -> list[Instance]:
    """The account's assistants that are not deleted, oldest first."""
    mine = select(Instance).where(Instance.account_id == account_id, Instance.state != State.DELETED)
    return list(db.scalars(mine.order_by(Instance.created_at, Instance.id)))


def month_start(now: datetime) -> datetime:
    """Midnight UTC on the first of this month."""
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _cards(db: Session, ctx: Context, account_id: str) -> list[Card]:
    """What the dashboard shows of each assistant, in as many queries for one as for a hundred."""
    instances = list_instances(db, account_id)
    ids = [instance.id for instance in instances]
    orders, paid = checkouts.of_instances(db, ids), subscriptions.of_instances(db, ids)
    trouble = {one.subscription_id: one for one in dunning.open_episodes(db, account_id)}
    bots = connections.unclaimed(db, ids)
    has_key = ownkeys.which_have(db, ids)
    own_key_plans = {plan.id for plan in ctx.plans if plan.access == PlanMode.OWN_KEY}
    cards = []
    for instance in instances:
        order, subscription = orders.get(instance.id), paid.get(instance.id)
        is_open = order is not None and order.state == "open" and instance.state == State.PENDING
        is_keyless = instance.plan in own_key_plans and instance.id not in has_key
        cards.append(
            Card(
                instance,
                order.id if order is not None and is_open else None,
                subscription,
                trouble.get(subscription.id) if subscription is not None else None,
                needs_key=is_keyless and instance.state == State.ACTIVE,
                bot=bots.get(instance.id) if instance.state == State.ACTIVE else None,
            )
        )
    return sorted(cards, key=lambda card: card.urgency)
