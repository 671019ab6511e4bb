"""The customer's statement: every movement, newest first, with the balance after it; or a month with its totals."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clawhaven import ledger
from clawhaven.ledger import statement as statements
from clawhaven.web.deps import Ctx, SignedIn
from clawhaven.web.render import page
from clawhaven.workflows import access

LINES = 500
"""Movements of a month that are shown; the file has all of them."""

router = APIRouter()


@router.get("/ledger")
def show_ledger(request: Request, ctx: Ctx, owner: SignedIn, cursor: str | None = None, month: str = "") -> Response:
    """Everything, or with `month` (`2026-11`) that month. Raises Invalid for a cursor or a month that is none."""
    months = months_until(ctx.clock.now(), owner.account.created_at)
    with ctx.db.read() as db:
        wallet = ledger.account_of(db, access.WALLET, owner.account.id)
        if month:
            found = statements.monthly(db, wallet or "", month, LINES)
            known = months if found.since in months else [found.since, *months]
            return page(request, "ledger_month.html", found=found, months=known)
        statement = ledger.list_entries(db, owner.account.id, cursor, 50)
        balance = ledger.balance(db, wallet) if wallet else None
    return page(request, "ledger.html", statement=statement, balance=balance, months=months)


def months_until(now: datetime, since: datetime) -> list[datetime]:
    """The beginning of every month from one moment to another, the latest first. Pure."""
    found = [now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    while found[-1] > since:
        last = found[-1]
        found.append(last.replace(year=last.year - (last.month == 1), month=(last.month - 2) % 12 + 1))
    return found
