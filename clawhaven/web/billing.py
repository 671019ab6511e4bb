"""The customer's agreements: plan, trouble, payment method, invoices; changing, ending and returning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.accounts.signup import Owner
from clawhaven.billing import discounts, dunning, subscriptions
from clawhaven.billing.discounts import Running
from clawhaven.billing.dunning import DunningState
from clawhaven.billing.models import Checkout, Dunning, Subscription
from clawhaven.billing.plans import Plan, price_offer
from clawhaven.context import Context
from clawhaven.core.errors import AppError, Invalid, Unavailable
from clawhaven.instances.models import Instance
from clawhaven.ports.payments import Capability, SavedMethod, VendorInvoice
from clawhaven.web import deps
from clawhaven.web.dashboard import list_instances
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.pricing import offers
from clawhaven.web.render import page
from clawhaven.workflows import plan as agreements

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Agreement:
    """One subscription on the page. `new_price_micros`: today's price, where it differs from the customer's.

    `is_paused`: its assistants do not run because of it.
    """

    row: Subscription
    plan: Plan | None
    trouble: Dunning | None
    coupon: Running | None
    assistants: list[Instance]
    new_price_micros: int | None
    can_change: bool
    can_undo: bool
    is_paused: bool


@dataclass(frozen=True, slots=True)
class AtVendor:
    """What the payment vendors show of the account; `problem` says that one did not answer.

    `methods`: by vendor. `portals`: vendors that know the customer and have a page for them.
    """

    methods: dict[str, SavedMethod]
    invoices: list[VendorInvoice]
    portals: list[str]
    problem: str


@router.get("/billing")
def show_billing(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Everything about the account's agreements on one page."""
    return _page(request, ctx, owner)


@router.post("/billing/subscriptions/{subscription_id}/plan")
def change_plan(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, subscription_id: RowId) -> Response:
    """Move to another plan now."""
    act = partial(agreements.change, ctx, owner.account.id, subscription_id, form.get("plan"))
    return _act(request, ctx, owner, "plan-changed", act)


@router.post("/billing/subscriptions/{subscription_id}/accept-price")
def accept_price(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, subscription_id: RowId) -> Response:
    """Take today's price."""
    return _act(
        request, ctx, owner, "price-accepted", partial(agreements.accept_price, ctx, owner.account.id, subscription_id)
    )


@router.post("/billing/subscriptions/{subscription_id}/cancel")
def cancel(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, subscription_id: RowId) -> Response:
    """End it with its period."""
    return _act(request, ctx, owner, "cancelled", partial(agreements.cancel, ctx, owner.account.id, subscription_id))


@router.post("/billing/subscriptions/{subscription_id}/resume")
def undo_cancel(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, subscription_id: RowId) -> Response:
    """Take the cancellation back."""
    return _act(request, ctx, owner, "resumed", partial(agreements.undo, ctx, owner.account.id, subscription_id))


@router.post("/instances/{instance_id}/reactivate")
def reactivate(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """A new payment page for an assistant whose agreement has ended."""
    try:
        begun = agreements.reactivate(ctx, owner, instance_id, form.get("plan"))
    except (Invalid, Unavailable) as error:
        return _page(request, ctx, owner, error)
    return RedirectResponse(begun.checkout_url, 303)


@router.post("/billing/portal")
def open_portal(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm) -> Response:
    """On to the payment vendor's own page."""
    try:
        return RedirectResponse(agreements.portal_url(ctx, owner.account.id, form.get("provider")), 303)
    except AppError as error:
        return _page(request, ctx, owner, error)


def _act(request: Request, ctx: Context, owner: Owner, done: str, act: Callable[[str], object]) -> Response:
    try:
        act(deps.actor(owner))
    except AppError as error:
        return _page(request, ctx, owner, error)
    return RedirectResponse(f"/billing?done={done}", 303)


def _page(request: Request, ctx: Context, owner: Owner, error: AppError | None = None) -> Response:
    with ctx.db.read() as db:
        rows = _agreements(db, ctx, owner.account.id)
        covered = {one.id for agreement in rows if agreement.row.state != "canceled" for one in agreement.assistants}
        waiting = [one for one in list_instances(db, owner.account.id) if one.paid_at and one.id not in covered]
    return page(
        request,
        "billing.html",
        error.status if error else 200,
        problem=error.message if error else "",
        agreements=[one for one in rows if one.row.state != "canceled"],
        ended=waiting,
        offers=offers(ctx.plans),
        vendor=_look_at_vendors(ctx, owner.account.id),
    )


def _agreements(db: Session, ctx: Context, account_id: str) -> list[Agreement]:
    """All of the account's, in as many queries for one as for a hundred."""
    rows = subscriptions.of_account(db, account_id)
    covered = subscriptions.covers(db, [row.id for row in rows])
    mine = select(Instance).where(Instance.account_id == account_id, Instance.deleted_at.is_(None))
    assistants = {one.id: one for one in db.scalars(mine)}
    trouble = {one.subscription_id: one for one in dunning.open_episodes(db, account_id)}
    bought = select(Checkout).where(Checkout.id.in_([row.checkout_id for row in rows]))
    orders = list(db.scalars(bought))  # held while the coupons are looked up, which ask the session for them
    found = [
        _agreement(db, ctx, row, [assistants[one] for one in covered.get(row.id, []) if one in assistants], trouble)
        for row in rows
    ]
    del orders
    return found


def _agreement(
    db: Session, ctx: Context, row: Subscription, assistants: list[Instance], all_trouble: dict[str, Dunning]
) -> Agreement:
    plan = ctx.plans.get(row.plan) if row.plan in ctx.plans else None
    provider = ctx.payments.get(row.provider)
    capabilities = provider.capabilities if provider else frozenset[Capability]()
    trouble = all_trouble.get(row.id)
    return Agreement(
        row,
        plan,
        trouble,
        discounts.running(db, row, ctx.clock.now()),
        assistants,
        price_offer(plan, row.amount_micros) if plan else None,
        Capability.CHANGE_PLAN in capabilities and row.state in ("active", "trialing") and trouble is None,
        Capability.UNDO_CANCEL in capabilities,
        trouble is not None and trouble.state == DunningState.SUSPENDED,
    )


def _look_at_vendors(ctx: Context, account_id: str) -> AtVendor:
    portals, methods, invoices, problem = agreements.portals(ctx, account_id), {}, [], ""
    try:
        methods = agreements.saved_methods(ctx, account_id)
        invoices = agreements.list_invoices(ctx, account_id)
    except AppError as error:
        problem = error.message
    return AtVendor(methods, invoices, portals, problem)
