"""The operator's pages: the business, its customers, differences in the money, margin, coupons. Others see 404."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from clawhaven.accounts import directory
from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.billing import coupons
from clawhaven.billing import refunds as receipts
from clawhaven.context import Context
from clawhaven.core import audit, idempotency
from clawhaven.core.errors import AppError, Conflict, Invalid, NotFound
from clawhaven.core.idempotency import Answer
from clawhaven.core.ids import new_id
from clawhaven.core.money import parse_usd
from clawhaven.instances.models import Instance
from clawhaven.web import deps
from clawhaven.web.deps import Ctx, Operator, OwnForm, RowId, Submission
from clawhaven.web.render import page
from clawhaven.workflows import balance, comparing, margin, overview, proxykey, refunds

LINES = 50
"""Customers on one page of the margin."""

router = APIRouter(prefix="/admin", dependencies=[Depends(deps.require_operator)])


@router.get("")
def show_business(request: Request, ctx: Ctx) -> Response:
    """Money, open trouble, alerts."""
    with ctx.db.read() as db:
        found = overview.business(db, ctx)
    return page(request, "admin_overview.html", business=found)


@router.get("/accounts")
def list_accounts(request: Request, ctx: Ctx, search: str = "", cursor: str | None = None) -> Response:
    """All accounts, newest first, or those with a part of an address."""
    with ctx.db.read() as db:
        found = directory.list_accounts(db, search[:320], cursor)
    return page(request, "admin_accounts.html", found=found, search=search[:320])


@router.get("/accounts/{account_id}")
def show_account(request: Request, ctx: Ctx, account_id: RowId, cursor: str | None = None) -> Response:
    """Everything about one customer."""
    return _account(request, ctx, account_id, cursor=cursor)


@router.post("/accounts/{account_id}/credits")
def give_credit(request: Request, ctx: Ctx, who: Operator, form: OwnForm, account_id: RowId) -> Response:
    """Credit, or a correction when the amount is negative."""

    def act(db: Session) -> None:
        directory.get(db, account_id)
        amount, reason, actor = _dollars(form, "amount"), form.get("reason"), deps.actor(who)
        key, expires_at = f"form:{form.get('key')}", _last_day(form, "expires_at")
        if amount > 0:
            balance.give_credit(db, ctx, account_id, amount, reason, actor, key=key, expires_at=expires_at)
            return
        if expires_at is not None:
            raise Invalid("What is taken out has no end.", field="expires_at", reason="not a credit")
        below = form.get("is_below_minimum") == "yes"
        balance.correct(db, ctx, account_id, amount, reason, actor, key=key, below_floor=below)

    try:
        _once(ctx, who, form, act)
    except NotFound:
        raise
    except AppError as error:
        return _account(request, ctx, account_id, error=error, form=form, about="credit")
    return RedirectResponse(f"/admin/accounts/{account_id}?done=credited", 303)


@router.post("/accounts/{account_id}/receipts/{receipt_id}/refund")
def refund(request: Request, ctx: Ctx, who: Operator, form: OwnForm, account_id: RowId, receipt_id: RowId) -> Response:
    """The whole rest of a payment, or a part of it."""

    def act(db: Session) -> None:
        receipt = receipts.receipt_of(db, receipt_id)
        if receipt.account_id != account_id:
            raise NotFound("There is no such receipt.")
        amount = _dollars(form, "amount") if form.get("amount").strip() else receipts.left_of(db, receipt)
        refunds.ask(db, ctx, receipt_id, amount, form.get("reason"), deps.actor(who))

    try:
        _once(ctx, who, form, act)
    except NotFound:
        raise
    except AppError as error:
        return _account(request, ctx, account_id, error=error, form=form, about=receipt_id)
    return RedirectResponse(f"/admin/accounts/{account_id}?done=refund-asked", 303)


@router.post("/accounts/{account_id}/instances/{instance_id}/replace-key")
def replace_key(ctx: Ctx, who: Operator, _form: OwnForm, account_id: RowId, instance_id: RowId) -> Response:
    """Another key for an assistant's models, and a restart with it."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, account_id)
        proxykey.ask_replace(db, ctx, instance_id, deps.actor(who))
    return RedirectResponse(f"/admin/accounts/{account_id}?done=key-replacing", 303)


@router.get("/reconcile")
def show_differences(request: Request, ctx: Ctx) -> Response:
    """What differed when it was last compared, and what would mend it."""
    with ctx.db.read() as db:
        shown = comparing.show(db, ctx)
    return page(request, "admin_reconcile.html", shown=shown)


@router.post("/reconcile")
def compare(ctx: Ctx, who: Operator, form: OwnForm) -> Response:
    """Compare now, and repair what is safe if that was asked for. Pressed twice, it is done once."""
    with ctx.db.tx() as db, contextlib.suppress(Conflict):
        comparing.ask(db, ctx, deps.actor(who), is_repair=form.get("repair") == "yes")
    return RedirectResponse("/admin/reconcile", 303)


@router.get("/margin")
def show_margin(request: Request, ctx: Ctx, month: str = "", after: Annotated[int, Query(ge=0)] = 0) -> Response:
    """What a month left, in total and per customer, the largest first; `after` so many of them."""
    found = margin.lately.report(ctx, month)
    rest = found.lines[after:]
    more = f"/admin/margin?month={found.month}&after={after + LINES}" if len(rest) > LINES else None
    before = margin.month_before(found.since)
    return page(request, "admin_margin.html", report=found, lines=rest[:LINES], after=after, more=more, before=before)


@router.get("/coupons")
def list_coupons(request: Request, ctx: Ctx, cursor: str | None = None) -> Response:
    """All coupons."""
    return _coupons(request, ctx, cursor=cursor)


@router.post("/coupons")
def make_coupon(request: Request, ctx: Ctx, who: Operator, form: OwnForm) -> Response:
    """A new coupon."""

    def act(db: Session) -> None:
        kind, now = form.get("kind"), ctx.clock.now()
        value = _whole(form, "value") if kind == coupons.CouponKind.PERCENT else _dollars(form, "value")
        months = None if form.get("months") == "every" else _whole(form, "months", 0)
        most = _whole(form, "max_redemptions") if form.get("max_redemptions").strip() else None
        made = coupons.create(
            db,
            form.get("code"),
            kind,
            value,
            now=now,
            months=months,
            max_redemptions=most,
            expires_at=_last_day(form, "expires_at"),
        )
        audit.record(db, now, deps.actor(who), "coupon.create", made.id, kind=kind, value=value)

    try:
        _once(ctx, who, form, act)
    except AppError as error:
        return _coupons(request, ctx, error, form)
    return RedirectResponse("/admin/coupons?done=coupon-made", 303)


@router.post("/coupons/{code}/disable")
def disable_coupon(ctx: Ctx, who: Operator, _form: OwnForm, code: str) -> Response:
    """Nobody can use it from now on."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if coupons.disable(db, code, now):
            audit.record(db, now, deps.actor(who), "coupon.disable", coupons.get(db, code).id)
    return RedirectResponse("/admin/coupons?done=coupon-disabled", 303)


def _account(
    request: Request,
    ctx: Context,
    account_id: str,
    *,
    cursor: str | None = None,
    error: AppError | None = None,
    form: Submission | None = None,
    about: str = "",
) -> Response:
    """The page; `about` names the form that was refused: `credit`, or the id of the payment to be given back."""
    with ctx.db.read() as db:
        found = overview.customer(db, ctx, account_id, cursor)
    return page(
        request,
        "admin_account.html",
        error.status if error else 200,
        found=found,
        about=about,
        errors=_by_field(error, ("amount", "reason", "expires_at")),
        typed=form.values if form else {},
        key=new_id("adj"),
    )


def _coupons(
    request: Request,
    ctx: Context,
    error: AppError | None = None,
    form: Submission | None = None,
    cursor: str | None = None,
) -> Response:
    with ctx.db.read() as db:
        found = coupons.list_coupons(db, cursor)
    return page(
        request,
        "admin_coupons.html",
        error.status if error else 200,
        found=found,
        errors=_by_field(error, ("code", "kind", "value", "months", "max_redemptions", "expires_at")),
        typed=form.values if form else {},
        key=new_id("adj"),
    )


def _by_field(error: AppError | None, fields: tuple[str, ...]) -> dict[str, str]:
    """What was wrong, under the field it is about, or under `form`."""
    if error is None:
        return {}
    field = str(error.details.get("field"))
    return {field if field in fields else "form": error.message}


def _once(ctx: Context, who: Owner, form: Submission, act: Callable[[Session], None]) -> None:
    """Do it in one transaction, and for a form that is sent twice only once."""
    key = form.get("key")[:100] or new_id("adj")
    values = [f"{name}={value}" for name, value in sorted(form.values.items()) if name != "csrf"]
    with ctx.db.tx() as db:
        claim = idempotency.begin(db, who.account.id, f"form:{key}", idempotency.fingerprint(*values), ctx.clock.now())
        if claim is None:
            act(db)
            idempotency.finish(db, who.account.id, f"form:{key}", Answer(303, {}))


def _dollars(form: Submission, field: str) -> int:
    text = form.get(field).strip()
    try:
        sign = -1 if text.startswith("-") else 1
        return sign * parse_usd(text.removeprefix("-"))
    except ValueError:
        raise Invalid("An amount is written as in 12.50.", field=field, reason="not an amount") from None


def _last_day(form: Submission, field: str) -> datetime | None:
    """The end of the day in UTC that was chosen; None for an empty field."""
    text = form.get(field).strip()
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise Invalid("A day is written as in 2026-12-31.", field=field, reason="not a day") from None


def _whole(form: Submission, field: str, default: int | None = None) -> int:
    text = form.get(field).strip()
    if not text and default is not None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Invalid(f"{field.replace('_', ' ').capitalize()} is a whole number.", field=field, reason="no number")
    return int(text)
