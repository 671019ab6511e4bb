"""Running agreements: what is paid for, changing its plan, ending it, and what the payment vendor keeps of it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.api.bodies import Body, Line
from clawhaven.api.deps import Caller, Ctx, Signed
from clawhaven.api.instances import begun_json
from clawhaven.billing import discounts, dunning, subscriptions
from clawhaven.billing.discounts import Running
from clawhaven.billing.models import Subscription
from clawhaven.billing.plans import price_offer
from clawhaven.billing.subscriptions import SubscriptionState
from clawhaven.context import Context
from clawhaven.core.errors import Invalid
from clawhaven.ports.payments import SavedMethod, VendorInvoice
from clawhaven.workflows import plan as agreements

router = APIRouter(tags=["billing"])


class PlanBody(Body):
    """The plan to move to."""

    plan: Line


class PortalBody(Body):
    """Whose page: a name of PAYMENTS; the first that knows the customer when left out."""

    provider: Line | None = None


class ReturnBody(Body):
    """The plan to come back on; the one it had when left out."""

    plan: Line | None = None


def as_json(db: Session, ctx: Context, row: Subscription) -> dict[str, Any]:
    """The wire form of a subscription for its owner."""
    trouble = dunning.open_episode_of(db, row.id)
    return {
        "id": row.id,
        "plan": row.plan,
        "state": row.state,
        "amount_micros": row.amount_micros,
        "new_price_micros": _new_price(ctx, row),
        "is_ending": row.is_ending,
        "period_start": row.period_start_at.isoformat(),
        "period_end": row.period_end_at.isoformat(),
        "trial_end": row.trial_end_at.isoformat() if row.trial_end_at else None,
        "coupon": _coupon(discounts.running(db, row, ctx.clock.now())),
        "pay_url": row.pay_url if row.state != SubscriptionState.CANCELED else None,
        "instances": subscriptions.covered(db, row.id),
        "trouble": {
            "state": trouble.state,
            "cause": trouble.cause,
            "suspend_at": trouble.suspend_at.isoformat(),
            "delete_at": trouble.delete_at.isoformat(),
        }
        if trouble
        else None,
        "created_at": row.created_at.isoformat(),
    }


def _coupon(found: Running | None) -> dict[str, Any] | None:
    """What a coupon still takes off. `until` null: every payment, or (`is_once`) the first one after a trial."""
    if found is None:
        return None
    return {
        "code": found.code,
        "percent": found.percent,
        "amount_micros": found.amount_micros,
        "is_once": found.is_once,
        "until": found.until_at.isoformat() if found.until_at else None,
    }


def _new_price(ctx: Context, row: Subscription) -> int | None:
    """Today's price of its plan where it differs: the customer keeps the old one until they accept."""
    try:
        return price_offer(ctx.plans.get(row.plan), row.amount_micros)
    except Invalid:
        return None


@router.get("/billing/subscriptions")
def list_subscriptions(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The account's subscriptions, newest first."""
    with ctx.db.read() as db:
        rows = subscriptions.of_account(db, who.account_id)
        return {"items": [as_json(db, ctx, row) for row in rows], "next_cursor": None}


@router.post("/billing/subscriptions/{subscription_id}/plan")
def change_plan(subscription_id: str, body: PlanBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Move to another plan now; the rest of the period is prorated."""
    return _answer(ctx, who, agreements.change(ctx, who.account_id, subscription_id, body.plan, who.actor))


@router.post("/billing/subscriptions/{subscription_id}/accept-price")
def accept_price(subscription_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Take today's price instead of the one it was bought at."""
    return _answer(ctx, who, agreements.accept_price(ctx, who.account_id, subscription_id, who.actor))


@router.post("/billing/subscriptions/{subscription_id}/cancel")
def cancel(subscription_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """End it with its period; until then everything runs."""
    return _answer(ctx, who, agreements.cancel(ctx, who.account_id, subscription_id, who.actor))


@router.post("/billing/subscriptions/{subscription_id}/resume")
def undo_cancel(subscription_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Take a cancellation back before it takes effect."""
    return _answer(ctx, who, agreements.undo(ctx, who.account_id, subscription_id, who.actor))


@router.post("/instances/{instance_id}/reactivate", status_code=201, tags=["instances"])
def reactivate(instance_id: str, body: ReturnBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """A new payment page for an assistant whose subscription has ended and whose data is still there."""
    return begun_json(ctx, agreements.reactivate(ctx, who.owner, instance_id, body.plan or ""))


@router.post("/billing/portal")
def portal(who: Signed, ctx: Ctx, body: PortalBody | None = None) -> dict[str, Any]:
    """The payment vendor's page for payment method and invoices; its address lives for minutes."""
    provider = (body.provider if body else None) or ""
    return {"url": agreements.portal_url(ctx, who.account_id, provider)}


@router.get("/billing/invoices")
def invoices(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Invoices and receipts, newest first, with the vendor's pages to look at and download."""
    return {"items": [invoice_json(one) for one in agreements.list_invoices(ctx, who.account_id)], "next_cursor": None}


@router.get("/billing/payment-method")
def payment_method(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """What is charged while the customer is away: at each vendor that can tell, top-ups' first.

    `payment_method` is the first of `items`. `portals`: the vendors whose page `POST /api/billing/portal` opens.
    """
    items = [method_json(name, one) for name, one in agreements.saved_methods(ctx, who.account_id).items()]
    portals = agreements.portals(ctx, who.account_id)
    return {"payment_method": items[0] if items else None, "items": items, "portals": portals, "next_cursor": None}


def invoice_json(one: VendorInvoice) -> dict[str, Any]:
    """The wire form of an invoice."""
    return {
        "id": one.reference,
        "number": one.number,
        "state": one.state,
        "amount_micros": one.amount_micros,
        "description": one.description,
        "url": one.page_url,
        "pdf_url": one.pdf_url,
        "at": one.created_at.isoformat(),
    }


def method_json(provider: str, method: SavedMethod) -> dict[str, Any]:
    """The wire form of a payment method that a vendor has saved."""
    return {
        "provider": provider,
        "brand": method.brand,
        "last4": method.last4,
        "expires_month": method.expires_month,
        "expires_year": method.expires_year,
    }


def _answer(ctx: Context, who: Caller, row: Subscription) -> dict[str, Any]:
    with ctx.db.read() as db:
        return as_json(db, ctx, owned(db, Subscription, row.id, who.account_id))
