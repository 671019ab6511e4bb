"""The way to the payment page, also where the vendor is the sandbox and the page is ours."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Checkout
from clawhaven.core.errors import Unavailable
from clawhaven.web import sandbox
from clawhaven.web.deps import Ctx, RowId, SignedIn
from clawhaven.web.render import page
from clawhaven.workflows import checkout

router = APIRouter()
router.include_router(sandbox.router)


@router.get("/checkout/{checkout_id}")
def go_to_checkout(request: Request, ctx: Ctx, owner: SignedIn, checkout_id: RowId) -> Response:
    """On to the vendor's page, or to what became of it."""
    with ctx.db.read() as db:
        owned(db, Checkout, checkout_id, owner.account.id)
    try:
        found = checkout.page_for(ctx, checkout_id)
    except Unavailable as error:
        return page(request, "checkout_unreachable.html", error.status, checkout_id=checkout_id)
    if found.state == CheckoutState.COMPLETED:
        return RedirectResponse(f"/deploying/{found.instance_id}" if found.instance_id else "/dashboard", 303)
    if found.state == CheckoutState.OPEN and found.url:
        return RedirectResponse(found.url, 303)
    return page(request, "checkout_closed.html")
