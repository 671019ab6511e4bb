"""The signed-in person's first page: their assistants, this month, their balance."""

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
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering import ownkeys
from clawhaven.metering.models import PlanMode
from clawhaven.metering.usage import usage_summary
from clawhaven.web.deps import Ctx, RowId, SignedIn
from clawhaven.web.render import page

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Card:
    """One assistant on the dashboard."""

    instance: Instance
    checkout_id: str | None
    subscription: Subscription | None
    trouble: Dunning | None
    needs_key: bool


@router.get("/dashboard")
def show_dashboard(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Everything at a glance."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        cards = [_card(db, ctx, instance) for instance in list_instances(db, owner.account.id)]
        month = usage_summary(db, owner.account.id, month_start(now), now)
        wallet = ledger.account_of(db, "wallet", owner.account.id)
        balance = ledger.balance(db, wallet) if wallet else None
        trouble = dunning.open_episode(db, owner.account.id)
        standing = wallets.find(db, owner.account.id)
    return page(
        request,
        "dashboard.html",
        trouble=trouble,
        level=standing.level if standing else "ok",
        cards=cards,
        month=month,
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


def _card(db: Session, ctx: Context, instance: Instance) -> Card:
    checkout = checkouts.of_instance(db, instance.id)
    is_open = checkout is not None and checkout.state == "open" and instance.state == State.PENDING
    plan = next((plan for plan in ctx.plans if plan.id == instance.plan), None)
    is_own_key = plan is not None and plan.access == PlanMode.OWN_KEY
    needs_key = is_own_key and instance.state == State.ACTIVE and ownkeys.find(db, instance.id) is None
    subscription = subscriptions.of_instance(db, instance.id)
    trouble = dunning.open_episode_of(db, subscription.id) if subscription is not None else None
    return Card(instance, checkout.id if checkout and is_open else None, subscription, trouble, needs_key)
