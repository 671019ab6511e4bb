"""The operator's side of the business: differences in the money, margin, coupons, payment events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, Field

from clawhaven.api.admin import Micros, margin_json
from clawhaven.api.bodies import Body, Line
from clawhaven.api.deps import Ctx, Operating
from clawhaven.api.repeats import RepeatKey, once
from clawhaven.billing import comparisons, coupons
from clawhaven.billing.models import Comparison, Coupon
from clawhaven.core import audit
from clawhaven.core.errors import Invalid
from clawhaven.workflows import comparing, margin, overview
from clawhaven.workflows.vendors import Difference

router = APIRouter(prefix="/admin", tags=["admin"])


class CouponBody(Body):
    """A coupon: `percent` or `amount_micros` off a plan, or `credit_micros` for the wallet; exactly one of them.

    `months`: 0 the first period, null every period, else so many months.
    """

    code: Line
    percent: Annotated[int, Field(ge=1, le=100)] | None = None
    amount_micros: Micros | None = None
    credit_micros: Micros | None = None
    months: Annotated[int, Field(ge=0, le=120)] | None = 0
    max_redemptions: Annotated[int, Field(ge=1, le=10**9)] | None = None
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = None

    def value(self) -> tuple[str, int]:
        """Kind and value as the room takes them. Raises Invalid unless exactly one is given."""
        given = [
            (kind, value)
            for kind, value in (
                ("percent", self.percent),
                ("amount", self.amount_micros),
                ("credit", self.credit_micros),
            )
            if value is not None
        ]
        if len(given) != 1:
            raise Invalid(
                "Give exactly one of percent, amount_micros and credit_micros.", field="percent", reason="not one"
            )
        return given[0]


class CompareBody(Body):
    """`repair`: do what is safe, too."""

    repair: bool = False


@router.get("/reconcile")
def explain(who: Operating, ctx: Ctx) -> dict[str, Any]:
    """Vendors, subscriptions, assistants and ledger, as they were last compared (every night, or when asked for): every
    difference and what would mend it, or what was done. `under_way` is a comparison that has not ended."""
    with ctx.db.read() as db:
        shown = comparing.show(db, ctx)
    return {
        **_differences(shown.found),
        "comparison": _comparison(shown.last) if shown.last else None,
        "under_way": _comparison(shown.under_way) if shown.under_way else None,
    }


@router.post("/reconcile", status_code=202)
def compare(who: Operating, ctx: Ctx, body: CompareBody | None = None) -> dict[str, Any]:
    """Compare now. The answer names the comparison; ask `/reconcile/{id}` for its result. One that is under way already
    is named instead; a repair is then refused with 409 `busy`."""
    with ctx.db.tx() as db:
        return _comparison(comparing.ask(db, ctx, who.actor, is_repair=body is not None and body.repair))


@router.get("/reconcile/{comparison_id}")
def show_comparison(who: Operating, ctx: Ctx, comparison_id: str) -> dict[str, Any]:
    """One comparison: `state` is running, done or broken; `items` once it is done."""
    with ctx.db.read() as db:
        row = comparisons.get(db, comparison_id[:40])
    return {**_differences(comparing.differences_of(row)), "comparison": _comparison(row)}


@router.get("/margin")
def show_margin(who: Operating, ctx: Ctx, month: str = "") -> dict[str, Any]:
    """Revenue and costs of a month (`2026-11`, default: this one), per customer and in total."""
    with ctx.db.read() as db:
        found = margin.report(db, ctx, month)
    return {
        "month": found.month,
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "total": margin_json(found.total),
        "items": [{"account_id": line.account_id, "email": line.email, **margin_json(line)} for line in found.lines],
    }


@router.get("/events")
def list_events(
    who: Operating,
    ctx: Ctx,
    state: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """Payment events as they came, newest first. `is_stuck`: it should have been applied by now."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        page = overview.list_events(db, state, cursor, limit)
    return {
        "items": [
            {
                "id": one.id,
                "provider": one.provider,
                "event_id": one.event_id,
                "kind": one.kind,
                "vendor_type": one.vendor_type,
                "state": one.state,
                "note": one.note,
                "is_stuck": overview.is_stuck(one, now),
                "received_at": one.received_at.isoformat(),
                "handled_at": one.handled_at.isoformat() if one.handled_at else None,
            }
            for one in page.events
        ],
        "next_cursor": page.next_cursor,
    }


@router.get("/coupons")
def list_coupons(
    who: Operating, ctx: Ctx, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> dict[str, Any]:
    """All coupons, newest first."""
    with ctx.db.read() as db:
        page = coupons.list_coupons(db, cursor, limit)
        return {"items": [_coupon(one) for one in page.coupons], "next_cursor": page.next_cursor}


@router.post("/coupons", status_code=201)
def create_coupon(
    body: CouponBody, request: Request, response: Response, who: Operating, ctx: Ctx, repeat_key: RepeatKey = None
) -> dict[str, Any]:
    """A new coupon."""
    kind, value = body.value()

    def make() -> dict[str, Any]:
        now = ctx.clock.now()
        with ctx.db.tx() as db:
            made = coupons.create(
                db,
                body.code,
                kind,
                value,
                now=now,
                months=body.months,
                max_redemptions=body.max_redemptions,
                expires_at=body.expires_at,
            )
            audit.record(db, now, who.actor, "coupon.create", made.id, kind=kind, value=value)
            return _coupon(made)

    return once(ctx, request, response, who.account_id, repeat_key, body, make)


@router.get("/coupons/{code}")
def get_coupon(code: str, who: Operating, ctx: Ctx) -> dict[str, Any]:
    """One coupon."""
    with ctx.db.read() as db:
        return _coupon(coupons.get(db, code))


@router.delete("/coupons/{code}", status_code=204)
def disable_coupon(code: str, who: Operating, ctx: Ctx) -> None:
    """From now on nobody can use it; what it gave stays."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if coupons.disable(db, code, now):
            audit.record(db, now, who.actor, "coupon.disable", coupons.get(db, code).id)


def _comparison(row: Comparison) -> dict[str, Any]:
    state = "running" if row.ended_at is None else "done" if row.plan is not None else "broken"
    return {
        "id": row.id,
        "state": state,
        "is_repair": row.is_repair,
        "asked_by": row.asked_by,
        "asked_at": row.asked_at.isoformat(),
        "ended_at": row.ended_at.isoformat() if row.ended_at else None,
        "done": row.done,
        "total": len(comparing.LOOKS),
    }


def _differences(found: list[Difference]) -> dict[str, Any]:
    return {
        "items": [
            {
                "subject": one.subject,
                "account_id": one.account_id or None,
                "problem": one.problem,
                "repair": one.repair,
                "is_safe": one.is_safe,
            }
            for one in found
        ],
        "next_cursor": None,
    }


def _coupon(one: Coupon) -> dict[str, Any]:
    return {
        "code": one.id,
        "kind": one.kind,
        "percent": one.value if one.kind == coupons.CouponKind.PERCENT else None,
        "amount_micros": one.value if one.kind != coupons.CouponKind.PERCENT else None,
        "months": one.months,
        "max_redemptions": one.max_redemptions,
        "redeemed": one.redeemed,
        "expires_at": one.expires_at.isoformat() if one.expires_at else None,
        "is_disabled": one.disabled_at is not None,
        "created_at": one.created_at.isoformat(),
    }
