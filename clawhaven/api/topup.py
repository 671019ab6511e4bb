"""The wallet: filling it, by hand or by itself; coupons; the statement to read and to download."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from clawhaven.accounts.ownership import owned
from clawhaven.api.billing import as_utc
from clawhaven.api.bodies import Body
from clawhaven.api.deps import Ctx, Signed
from clawhaven.api.repeats import RepeatKey, once
from clawhaven.billing import wallet
from clawhaven.billing.models import Checkout, Wallet
from clawhaven.core.money import format_usd
from clawhaven.ledger import statement
from clawhaven.workflows import access, balance, topups

router = APIRouter(tags=["billing"])

Micros = Annotated[int, Field(ge=0, le=100_000_000_000, description="US dollars times 1,000,000.")]


class TopupBody(Body):
    """How much to add, in micro-dollars."""

    amount_micros: Micros


class AutoBody(Body):
    """When to fill the wallet by itself, and by how much. `enabled` false keeps the amounts."""

    enabled: bool
    threshold_micros: Micros = 0
    amount_micros: Micros = 0


class CouponBody(Body):
    """A coupon's code."""

    code: Annotated[str, Field(min_length=1, max_length=40)]


@router.post("/billing/topup", status_code=201)
def open_topup(
    body: TopupBody, request: Request, response: Response, who: Signed, ctx: Ctx, repeat_key: RepeatKey = None
) -> dict[str, Any]:
    """A payment page that fills the wallet."""

    def make() -> dict[str, Any]:
        return topup_json(topups.open_topup(ctx, who.owner, body.amount_micros))

    return once(ctx, request, response, who.account_id, repeat_key, body, make)


@router.get("/billing/topup/{checkout_id}")
def get_topup(checkout_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """What became of a top-up."""
    with ctx.db.read() as db:
        return topup_json(owned(db, Checkout, checkout_id, who.account_id))


def topup_json(row: Checkout) -> dict[str, Any]:
    """The wire form of a top-up."""
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "last_outcome": row.last_outcome,
        "amount_micros": row.amount_micros,
        "checkout_url": row.url if row.state == "open" else None,
        "created_at": row.created_at.isoformat(),
    }


@router.get("/billing/auto-topup")
def get_auto(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The automatic top-up as it is set, and how the last one went."""
    with ctx.db.read() as db:
        return auto_json(wallet.find(db, who.account_id))


@router.put("/billing/auto-topup")
def save_auto(body: AutoBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Set it. It fires once whenever the balance falls below the threshold."""
    with ctx.db.tx() as db:
        row = balance.save_auto(
            db,
            ctx,
            who.account_id,
            is_auto=body.enabled,
            threshold_micros=body.threshold_micros,
            amount_micros=body.amount_micros,
            actor=who.actor,
        )
        return auto_json(row)


def auto_json(row: Wallet | None) -> dict[str, Any]:
    """The wire form of the automatic top-up. `state`: armed, fired or failed."""
    return {
        "enabled": bool(row and row.is_auto),
        "threshold_micros": row.auto_threshold_micros if row else 0,
        "amount_micros": row.auto_amount_micros if row else 0,
        "state": row.auto_state if row else "armed",
        "problem": (row.auto_error or None) if row else None,
    }


@router.post("/billing/coupons")
def redeem(body: CouponBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Put a coupon's usage credit into the wallet; once per account."""
    with ctx.db.tx() as db:
        amount = balance.redeem(db, ctx, who.account_id, body.code, who.actor)
    return {"amount_micros": amount, "amount": format_usd(amount)}


@router.get("/billing/statement")
def monthly(
    who: Signed,
    ctx: Ctx,
    month: Annotated[str | None, Query(description="As in 2026-11. Default: this month.", max_length=7)] = None,
) -> dict[str, Any]:
    """The wallet's month: opening balance, every movement, closing balance."""
    with ctx.db.tx() as db:
        found = statement.monthly(db, access.wallet_of(db, ctx, who.account_id), month or f"{ctx.clock.now():%Y-%m}")
    return {
        "month": found.month,
        "opening_micros": found.opening_micros,
        "closing_micros": found.closing_micros,
        "sums": found.sums,
        "items": [
            {
                "id": line.id,
                "kind": line.kind,
                "ref": line.ref,
                "note": line.note,
                "amount_micros": line.amount_micros,
                "balance_after_micros": line.balance_micros,
                "at": line.created_at.isoformat(),
            }
            for line in found.lines
        ],
    }


@router.get("/billing/ledger.csv", response_class=StreamingResponse)
def download(who: Signed, ctx: Ctx, since: datetime | None = None, until: datetime | None = None) -> Response:
    """Every movement of the wallet with the running balance, oldest first, for a spreadsheet."""
    with ctx.db.tx() as db:
        wallet_id = access.wallet_of(db, ctx, who.account_id)
    rows = statement.export_csv(
        ctx.db, wallet_id, as_utc(since, "since") if since else None, as_utc(until, "until") if until else None
    )
    headers = {"Content-Disposition": 'attachment; filename="ledger.csv"'}
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)
