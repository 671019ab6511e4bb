"""The customer's statement: every movement, newest first, with the balance after it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clawhaven import ledger
from clawhaven.web.deps import Ctx, SignedIn
from clawhaven.web.render import page

router = APIRouter()


@router.get("/ledger")
def show_ledger(request: Request, ctx: Ctx, owner: SignedIn, cursor: str | None = None) -> Response:
    """Raises Invalid for a cursor that is not ours."""
    with ctx.db.read() as db:
        statement = ledger.list_entries(db, owner.account.id, cursor, 50)
        wallet = ledger.account_of(db, "wallet", owner.account.id)
        balance = ledger.balance(db, wallet) if wallet else None
    return page(request, "ledger.html", statement=statement, balance=balance)
