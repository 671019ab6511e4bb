"""The operator's side of customers: accounts, one account, credits, refunds. Everybody else sees 404."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, Field

from clawhaven.accounts import directory
from clawhaven.accounts.models import User
from clawhaven.accounts.signup import Owner
from clawhaven.api.bodies import Body
from clawhaven.api.deps import Ctx, Operating
from clawhaven.api.repeats import RepeatKey, once
from clawhaven.billing import refunds as receipts
from clawhaven.billing.models import CreditGrant, Refund, Subscription, Wallet
from clawhaven.core import idempotency
from clawhaven.core.errors import Invalid
from clawhaven.core.ids import new_id
from clawhaven.instances import operations, states
from clawhaven.instances.models import Instance
from clawhaven.ledger import Balance, Line
from clawhaven.notices.models import Notice
from clawhaven.workflows import balance, overview, proxykey, refunds
from clawhaven.workflows.margin import Margin
from clawhaven.workflows.overview import Customer, Payment

router = APIRouter(prefix="/admin", tags=["admin"])

Micros = Annotated[int, Field(ge=-(10**12), le=10**12)]
Reason = Annotated[str, Field(min_length=3, max_length=300)]


class CreditBody(Body):
    """Credit for a customer; a negative amount is a correction. `is_below_minimum` lets one go below what is left."""

    amount_micros: Micros
    reason: Reason
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = None
    is_below_minimum: bool = False


class RefundBody(Body):
    """Money back: the whole rest of a payment when no amount is given."""

    amount_micros: Micros | None = None
    reason: Reason


@router.get("/overview")
def show_business(who: Operating, ctx: Ctx) -> dict[str, Any]:
    """The business now: customers, assistants, this month's margin, open trouble, alerts."""
    with ctx.db.read() as db:
        found = overview.business(db, ctx)
    return {
        "accounts": found.accounts,
        "instances": found.instances,
        "subscriptions": found.subscriptions,
        "prepaid_micros": found.prepaid_micros,
        "month": found.month,
        "margin": margin_json(found.margin),
        "trouble": [
            {
                "account_id": one.account_id,
                "email": email,
                "subscription_id": one.subscription_id,
                "cause": one.cause,
                "state": one.state,
                "suspend_at": one.suspend_at.isoformat(),
                "delete_at": one.delete_at.isoformat(),
            }
            for one, email in found.trouble
        ],
        "events_stuck": found.events_stuck,
        "alerts": [_notice(one) for one in found.alerts],
    }


@router.get("/accounts")
def list_accounts(
    who: Operating,
    ctx: Ctx,
    search: Annotated[str, Query(max_length=320)] = "",
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """All accounts, newest first; `search` is a part of the owner's address."""
    with ctx.db.read() as db:
        page = directory.list_accounts(db, search, cursor, limit)
    return {"items": [_account(owner) for owner in page.owners], "next_cursor": page.next_cursor}


@router.get("/accounts/{account}")
def get_account(account: str, who: Operating, ctx: Ctx, cursor: str | None = None) -> dict[str, Any]:
    """Everything about one customer, by the account's id or the owner's address; `cursor` goes on in the ledger."""
    with ctx.db.read() as db:
        return _customer(overview.customer(db, ctx, directory.find(db, account).account.id, cursor))


@router.post("/accounts/{account}/credits", status_code=201)
def give_credit(
    account: str,
    body: CreditBody,
    request: Request,
    response: Response,
    who: Operating,
    ctx: Ctx,
    repeat_key: RepeatKey = None,
) -> dict[str, Any]:
    """Put credit into a customer's wallet (by the account's id or the owner's address), or (negative) take some out.
    The customer reads the reason."""
    # Named by the request, so that even a crash between the books and the answer leaves one credit.
    key = idempotency.fingerprint(who.account_id, repeat_key) if repeat_key else new_id("adj")

    def make() -> dict[str, Any]:
        with _named(), ctx.db.tx() as db:
            account_id = directory.find(db, account).account.id
            if body.amount_micros > 0:
                balance.give_credit(
                    db,
                    ctx,
                    account_id,
                    body.amount_micros,
                    body.reason,
                    who.actor,
                    key=key,
                    expires_at=body.expires_at,
                )
            else:
                balance.correct(
                    db,
                    ctx,
                    account_id,
                    body.amount_micros,
                    body.reason,
                    who.actor,
                    key=key,
                    below_floor=body.is_below_minimum,
                )
            left = _balance(overview.wallet_balance(db, account_id), overview.disputed_part(db, account_id))
        return {"account_id": account_id, "amount_micros": body.amount_micros, "wallet": left}

    return once(ctx, request, response, who.account_id, repeat_key, body, make)


@router.post("/receipts/{receipt_id}/refund", status_code=201)
def refund(
    receipt_id: str,
    body: RefundBody,
    request: Request,
    response: Response,
    who: Operating,
    ctx: Ctx,
    repeat_key: RepeatKey = None,
) -> dict[str, Any]:
    """Ask the payment vendor to give a payment back, or a part of it. The books follow what the vendor says."""

    def make() -> dict[str, Any]:
        with _named(), ctx.db.tx() as db:
            receipt = receipts.receipt_of(db, receipt_id)
            amount = receipts.left_of(db, receipt) if body.amount_micros is None else body.amount_micros
            return _refund(refunds.ask(db, ctx, receipt_id, amount, body.reason, who.actor))

    return once(ctx, request, response, who.account_id, repeat_key, body, make)


@router.post("/instances/{instance_id}/replace-key", status_code=202)
def replace_key(instance_id: str, who: Operating, ctx: Ctx) -> dict[str, Any]:
    """Give an assistant another key for its models, and restart it. The key before is accepted until it runs with the
    new one; a paused assistant gets it at its next start."""
    with ctx.db.tx() as db:
        return {"operation": operations.as_json(db, proxykey.ask_replace(db, ctx, instance_id, who.actor))}


@contextmanager
def _named() -> Iterator[None]:
    """The rooms speak of an `amount`; here it is the field `amount_micros`."""
    try:
        yield
    except Invalid as error:
        if error.details.get("field") == "amount":
            error.details["field"] = "amount_micros"
        raise


def margin_json(one: Margin) -> dict[str, Any]:
    """The wire form of a customer's margin, or the total."""
    return {
        "revenue_micros": one.revenue_micros,
        "subscription_micros": one.subscription_micros,
        "usage_micros": one.usage_micros,
        "refunded_micros": one.refunded_micros,
        "fees_micros": one.fees_micros,
        "fees_estimated_micros": one.fees_estimated_micros,
        "fees_unknown": one.fees_unknown,
        "model_micros": one.model_micros,
        "server_micros": one.server_micros,
        "credits_micros": one.credits_micros,
        "topups_micros": one.topups_micros,
        "uncovered_micros": one.uncovered_micros,
        "margin_micros": one.margin_micros,
        "margin_percent": one.percent,
        "remark": one.remark,
    }


def _customer(found: Customer) -> dict[str, Any]:
    return {
        **_account(found.owner),
        "wallet": {**_balance(found.balance, found.disputed_micros), **_settings(found.wallet)},
        "subscriptions": [_subscription(one, found) for one in found.subscriptions],
        "receipts": [_receipt(one) for one in found.payments],
        "refunds": [_refund(one) for one in found.refunds],
        "credits": [_credit(one) for one in found.credits],
        "instances": [_instance(one) for one in found.instances],
        "notices": [_notice(one) for one in found.notices],
        "ledger": {"items": [_line(one) for one in found.movements.lines], "next_cursor": found.movements.next_cursor},
    }


def _account(owner: Owner) -> dict[str, Any]:
    user: User = owner.user
    return {
        "id": owner.account.id,
        "email": user.email,
        "slug": owner.account.slug,
        "is_verified": user.verified_at is not None,
        "created_at": owner.account.created_at.isoformat(),
    }


def _balance(found: Balance | None, disputed_micros: int) -> dict[str, Any]:
    return {
        "balance_micros": found.balance_micros if found else 0,
        "held_micros": found.held_micros if found else 0,
        "disputed_micros": disputed_micros,
        "available_micros": found.available_micros if found else 0,
    }


def _settings(row: Wallet | None) -> dict[str, Any]:
    auto = {"is_on": row.is_auto, "state": row.auto_state} if row else None
    return {"level": row.level if row else "ok", "auto_topup": auto}


def _subscription(one: Subscription, found: Customer) -> dict[str, Any]:
    trouble = found.trouble.get(one.id)
    return {
        "id": one.id,
        "plan": one.plan,
        "provider": one.provider,
        "reference": one.reference,
        "state": one.state,
        "is_ending": one.is_ending,
        "amount_micros": one.amount_micros,
        "period_end": one.period_end_at.isoformat(),
        "renewals_held_at": _at(one.held_at),
        "trouble": trouble and {"state": trouble.state, "cause": trouble.cause, "delete_at": _at(trouble.delete_at)},
    }


def _receipt(payment: Payment) -> dict[str, Any]:
    one = payment.receipt
    return {
        "id": one.id,
        "provider": one.provider,
        "reference": one.reference,
        "kind": payment.kind,
        "what": payment.title,
        "amount_micros": one.amount_micros,
        "refunded_micros": one.refunded_micros,
        "refundable_micros": payment.left_micros,
        "fee_micros": one.fee_micros,
        "dispute": one.dispute,
        "dispute_due_at": _at(one.dispute_due_at),
        "period_start": _at(one.period_start_at),
        "period_end": _at(one.period_end_at),
        "at": one.created_at.isoformat(),
    }


def _refund(one: Refund) -> dict[str, Any]:
    return {
        "id": one.id,
        "receipt_id": one.receipt_id,
        "amount_micros": one.amount_micros,
        "reason": one.reason,
        "actor": one.actor,
        "state": one.state,
        "error": one.error,
        "at": one.created_at.isoformat(),
    }


def _credit(one: CreditGrant) -> dict[str, Any]:
    return {
        "id": one.id,
        "source": one.source,
        "amount_micros": one.amount_micros,
        "expires_at": _at(one.expires_at),
        "expired_micros": one.expired_micros,
        "at": one.granted_at.isoformat(),
    }


def _instance(one: Instance) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "plan": one.plan,
        "state": one.state,
        "suspended_for": [str(reason) for reason in states.reasons(one)],
        "created_at": one.created_at.isoformat(),
        "deleted_at": _at(one.deleted_at),
    }


def _notice(one: Notice) -> dict[str, Any]:
    return {"kind": one.kind, "subject": one.subject, "state": one.state, "at": one.created_at.isoformat()}


def _line(one: Line) -> dict[str, Any]:
    return {
        "id": one.id,
        "account": one.account_kind,
        "kind": one.kind,
        "ref": one.ref,
        "note": one.note,
        "amount_micros": one.amount_micros,
        "balance_after_micros": one.balance_after_micros,
        "at": one.created_at.isoformat(),
    }


def _at(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
