"""The customer's agreements: plan, trouble, payment method, invoices; changing, ending and returning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.billing import discounts, dunning, subscriptions
from clawhaven.billing.discounts import Running
from clawhaven.billing.dunning import DunningState
from clawhaven.billing.models import Dunning, Subscription
from clawhaven.billing.plans import Plan, price_offer
from clawhaven.context import Context
from clawhaven.core.errors import AppError, Invalid, Unavailable
from clawhaven.instances.models import Instance
from clawhaven.ports.payments import Capability, SavedMethod, VendorInvoice
from clawhaven.web import deps
from clawhaven.web.dashboard import list_instances
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.pages import offers
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
    """What the payment vendor shows of the account; `problem` says that it did not answer."""

    method: SavedMethod | None
    invoices: list[VendorInvoice]
    has_portal: bool
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
def open_portal(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm) -> Response:
    """On to the payment vendor's own page."""
    try:
        return RedirectResponse(agreements.portal_url(ctx, owner.account.id), 303)
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
        rows = [_agreement(db, ctx, row) for row in subscriptions.of_account(db, owner.account.id)]
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
        vendor=_look_at_vendor(ctx, owner.account.id),
    )


def _agreement(db: Session, ctx: Context, row: Subscription) -> Agreement:
    try:
        plan = ctx.plans.get(row.plan)
    except Invalid:
        plan = None
    found = [owned(db, Instance, one, row.account_id) for one in subscriptions.covered(db, row.id)]
    provider = ctx.payments.get(row.provider)
    capabilities = provider.capabilities if provider else frozenset[Capability]()
    trouble = dunning.open_episode_of(db, row.id)
    return Agreement(
        row,
        plan,
        trouble,
        discounts.running(db, row, ctx.clock.now()),
        [one for one in found if one.deleted_at is None],
        price_offer(plan, row.amount_micros) if plan else None,
        Capability.CHANGE_PLAN in capabilities and row.state in ("active", "trialing") and trouble is None,
        Capability.UNDO_CANCEL in capabilities,
        trouble is not None and trouble.state == DunningState.SUSPENDED,
    )


def _look_at_vendor(ctx: Context, account_id: str) -> AtVendor:
    has_portal = any(Capability.PORTAL in provider.capabilities for provider in ctx.payments.values())
    try:
        method = agreements.saved_method(ctx, account_id)
        return AtVendor(method, agreements.list_invoices(ctx, account_id), has_portal, "")
    except AppError as error:
        return AtVendor(None, [], has_portal, error.message)
