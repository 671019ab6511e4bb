"""Plans, checkout, balance, usage and the ledger."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query

from clawhaven.accounts.ownership import owned
from clawhaven.api.calls import call_json
from clawhaven.api.deps import Ctx, Signed
from clawhaven.billing import wallet as wallets
from clawhaven.billing.models import Checkout
from clawhaven.billing.plans import Catalogue, Plan, savings
from clawhaven.core.errors import Invalid
from clawhaven.core.money import format_usd
from clawhaven.ledger.balance import account_of, list_entries
from clawhaven.ledger.balance import balance as balance_of
from clawhaven.metering import usage
from clawhaven.workflows import access, checkout, overview
from clawhaven.workflows.balance import metered_plans

router = APIRouter(tags=["billing"])


@router.get("/plans")
@router.get("/billing/plans")
def plans(ctx: Ctx) -> dict[str, Any]:
    """What can be bought here. A limit of null means none; `savings` compares with the monthly plan of its kind."""
    return {
        "items": [
            {
                "id": plan.id,
                "name": plan.name,
                "summary": plan.summary,
                "price_micros": plan.price_micros,
                "price": plan.price,
                "interval": plan.interval,
                "access": plan.access,
                "annual_micros": plan.annual_micros,
                "savings": _savings(plan, ctx.plans),
                "trial_days": plan.trial_days,
                "included_credit_micros": plan.included_credit_micros,
                "credit_rolls_over": plan.credit_rolls_over,
                "limits": {
                    "instances": plan.instances,
                    "messages_per_hour": plan.messages_per_hour or None,
                    "tokens_per_day": plan.tokens_per_day or None,
                    "calls_in_flight": plan.max_in_flight or None,
                },
                "memory_mb": plan.memory_mb or ctx.settings.instance_memory_mb,
                "cpus": plan.cpus or ctx.settings.instance_cpus,
                "channels": list(plan.channels or ctx.channels),
                "terms": plan.terms,
            }
            for plan in ctx.plans
            if plan.is_offered
        ]
    }


def _savings(plan: Plan, plans: Catalogue) -> dict[str, Any] | None:
    found = savings(plan, plans)
    return asdict(found) if found else None


@router.get("/checkout/{checkout_id}")
def get_checkout(checkout_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """A checkout and its payment page, made again if an outage left it without one."""
    with ctx.db.read() as db:
        owned(db, Checkout, checkout_id, who.account_id)
    found = checkout.page_for(ctx, checkout_id)
    return {
        "id": found.id,
        "instance_id": found.instance_id,
        "plan": found.plan,
        "state": found.state,
        "last_outcome": found.last_outcome,
        "amount_micros": found.amount_micros,
        "checkout_url": found.url,
    }


@router.get("/billing/balance")
def balance(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The prepaid wallet, and the value of usage that the plan includes.

    `held_micros`: all that is set aside, for calls under way and for disputes. `disputed_micros`: the part of it that
    is set aside while a payment is disputed. `level`: ok, low or depleted; null for an account without a metered plan.
    """
    with ctx.db.read() as db:
        wallet_id = account_of(db, access.WALLET, who.account_id)
        included_id = account_of(db, access.INCLUDED, who.account_id)
        wallet = balance_of(db, wallet_id) if wallet_id else None
        included = balance_of(db, included_id) if included_id else None
        standing = wallets.find(db, who.account_id)
        disputed = overview.disputed_part(db, who.account_id)
        is_metered = who.account_id in wallets.metered_accounts(db, metered_plans(ctx), who.account_id)
    return {
        "currency": "USD",
        "balance_micros": wallet.balance_micros if wallet else 0,
        "held_micros": wallet.held_micros if wallet else 0,
        "disputed_micros": disputed,
        "minimum_micros": ctx.settings.micros("wallet_minimum"),
        "available_micros": max(0, wallet.available_micros or 0) if wallet else 0,
        "level": (standing.level if standing else "ok") if is_metered else None,
        "included_usage_micros": -included.balance_micros if included else 0,
    }


@router.get("/billing/usage")
def account_usage(
    who: Signed, ctx: Ctx, since: datetime | None = None, until: datetime | None = None
) -> dict[str, Any]:
    """Usage in a period (default: this month), by day, model, assistant and source."""
    now = ctx.clock.now()
    start = as_utc(since, "since") if since else now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = as_utc(until, "until") if until else now + timedelta(seconds=1)
    with ctx.db.read() as db:
        summary = usage.usage_summary(db, who.account_id, start, end)
        recent = usage.list_usage(db, who.account_id, None, 50)
        return {
            "since": start.isoformat(),
            "until": end.isoformat(),
            "total": _sum(summary.total),
            "by_day": [_sum(one) for one in summary.by_day],
            "by_model": [_sum(one) for one in summary.by_model],
            "by_instance": [_sum(one) for one in summary.by_instance],
            "by_source": [_sum(one) for one in summary.by_source],
            "calls": [call_json(call) for call in recent.calls],
            "next_cursor": recent.next_cursor,
        }


def _sum(line: usage.Sum) -> dict[str, Any]:
    """What a customer sees of a sum: not what it cost the operator."""
    return {name: value for name, value in asdict(line).items() if name != "provider_cost_micros"}


def as_utc(moment: datetime, field: str) -> datetime:
    """The same moment in UTC. Raises Invalid without a zone."""
    if moment.tzinfo is None:
        raise Invalid("Times need a zone, as in 2026-01-31T00:00:00Z.", field=field, reason="no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise Invalid("There is no such time.", field=field, reason="out of range") from None


@router.get("/billing/ledger")
def ledger(
    who: Signed, ctx: Ctx, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> dict[str, Any]:
    """Everything that moved this account's money, newest first, with the running balance."""
    with ctx.db.read() as db:
        page = list_entries(db, who.account_id, cursor, limit)
    return {
        "items": [
            {
                "id": line.id,
                "entry_id": line.entry_id,
                "account": line.account_kind,
                "kind": line.kind,
                "ref": line.ref,
                "note": line.note,
                "amount_micros": line.amount_micros,
                "amount": format_usd(line.amount_micros),
                "balance_after_micros": line.balance_after_micros,
                "at": line.created_at.isoformat(),
            }
            for line in page.lines
        ],
        "next_cursor": page.next_cursor,
    }
