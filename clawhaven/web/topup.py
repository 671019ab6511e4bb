"""Filling the wallet: by hand, by itself, by a coupon; and the statement as a file."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from clawhaven import ledger
from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.billing import wallet
from clawhaven.billing.models import Checkout
from clawhaven.context import Context
from clawhaven.core.errors import AppError, Invalid
from clawhaven.core.money import format_usd, parse_usd
from clawhaven.ledger import statement
from clawhaven.ports.payments import Capability
from clawhaven.web import deps
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.languages import _, price
from clawhaven.web.render import page
from clawhaven.workflows import access, balance, disputes, topups

router = APIRouter()

AMOUNTS = (10_000_000, 25_000_000, 50_000_000, 100_000_000)
"""What is offered at a touch, as far as the operator's limits allow."""


@router.get("/topup")
def show_topup(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Balance, amounts, and the automatic top-up."""
    return _page(request, ctx, owner, {}, {})


@router.post("/topup")
def begin_topup(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm) -> Response:
    """On to the payment page."""
    chosen = form.get("chosen")
    try:
        amount = _dollars(form.get("amount") if chosen in ("", "other") else chosen, "amount")
        opened = topups.open_topup(ctx, owner, amount)
    except AppError as error:
        field = str(error.details.get("field", "form"))
        return _page(request, ctx, owner, dict(form.values), {field: error.message}, error.status)
    return RedirectResponse(opened.url or f"/checkout/{opened.id}", 303)


@router.get("/topup/{checkout_id}")
def show_result(request: Request, ctx: Ctx, owner: SignedIn, checkout_id: RowId) -> Response:
    """What became of a top-up: on its way, arrived, or not paid."""
    with ctx.db.read() as db:
        opened = owned(db, Checkout, checkout_id, owner.account.id)
        wallet_id = ledger.account_of(db, access.WALLET, owner.account.id)
        standing = ledger.balance(db, wallet_id) if wallet_id else None
    return page(
        request, "topup_result.html", checkout=opened, balance_micros=standing.balance_micros if standing else 0
    )


@router.post("/topup/automatic")
def save_auto(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm) -> Response:
    """Switch it on or off."""
    is_auto = form.get("enabled") == "1"
    try:
        threshold = _dollars(form.get("threshold") or "0", "threshold")
        amount = _dollars(form.get("auto_amount") or "0", "auto_amount")
        with ctx.db.tx() as db:
            balance.save_auto(
                db,
                ctx,
                owner.account.id,
                is_auto=is_auto,
                threshold_micros=threshold,
                amount_micros=amount,
                actor=deps.actor(owner),
            )
    except AppError as error:
        field = str(error.details.get("field", "form")).replace("amount", "auto_amount")
        field = field.replace("auto_auto_", "auto_")
        return _page(request, ctx, owner, dict(form.values), {field: error.message}, error.status)
    return RedirectResponse(f"/topup?done={'auto-saved' if is_auto else 'auto-off'}", 303)


@router.post("/billing/coupon")
def redeem(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm) -> Response:
    """Put a coupon's credit on the balance."""
    try:
        with ctx.db.tx() as db:
            balance.redeem(db, ctx, owner.account.id, form.get("code"), deps.actor(owner))
    except AppError as error:
        return _page(request, ctx, owner, dict(form.values), {"code": error.message}, error.status)
    return RedirectResponse("/topup?done=redeemed", 303)


@router.get("/ledger.csv")
def download_ledger(ctx: Ctx, owner: SignedIn, month: str = "") -> Response:
    """Every movement (with `month`: of that month) with the balance after it, for a spreadsheet. Raises Invalid."""
    since, until = statement.month_of(month) if month else (None, None)
    with ctx.db.tx() as db:
        wallet_id = access.wallet_of(db, ctx, owner.account.id)
    rows = statement.export_csv(ctx.db, wallet_id, since, until)
    name = f"ledger-{month}.csv" if month else "ledger.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)


def _dollars(text: str, field: str) -> int:
    try:
        return parse_usd(text)
    except ValueError:
        raise Invalid(
            "Write an amount in US dollars, as in 25 or 12.50.", field=field, reason="not an amount"
        ) from None


def _page(
    request: Request,
    ctx: Context,
    owner: Owner,
    values: dict[str, str],
    errors: dict[str, str],
    status: int = 200,
) -> Response:
    with ctx.db.read() as db:
        wallet_id = ledger.account_of(db, access.WALLET, owner.account.id)
        standing = ledger.balance(db, wallet_id) if wallet_id else None
        row = wallet.find(db, owner.account.id)
        disputed = disputes.of_topups(db, ctx, owner.account.id)
    least, most = ctx.settings.micros("topup_minimum"), ctx.settings.micros("topup_maximum")
    kept = {
        "amount": values.get("amount", ""),
        "chosen": values.get("chosen", ""),
        "threshold": values.get("threshold") or _plain(row.auto_threshold_micros if row else 0),
        "auto_amount": values.get("auto_amount") or _plain(row.auto_amount_micros if row else 0),
        "code": values.get("code", ""),
    }
    try:
        can_charge = Capability.CHARGE_SAVED in ctx.seller(Capability.TOPUPS).capabilities
        is_offered = True
    except Invalid:
        can_charge = is_offered = False
    choices = [(_plain(amount), price(amount)) for amount in AMOUNTS if least <= amount <= most]
    first = choices[min(1, len(choices) - 1)][0] if choices else "other"
    return page(
        request,
        "topup.html",
        status,
        standing=standing,
        row=row,
        disputed=disputed,
        choices=[*choices, ("other", _("Another amount"))],
        least=least,
        most=most,
        values={**kept, "chosen": kept["chosen"] or first},
        errors=errors,
        is_offered=is_offered,
        can_charge=can_charge,
    )


def _plain(micros: int) -> str:
    return format_usd(micros).removeprefix("$").removesuffix(".00").replace(",", "") if micros else ""
