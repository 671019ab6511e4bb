"""The way to the payment page, also where the vendor is the sandbox and the page is ours."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Checkout
from clawhaven.core.errors import Unavailable
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
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
        known = owned(db, Checkout, checkout_id, owner.account.id)
        ordered = owned(db, Instance, known.instance_id, owner.account.id) if known.instance_id else None
    try:
        found = checkout.page_for(ctx, checkout_id)
    except Unavailable as error:
        return page(
            request, "checkout_unreachable.html", error.status, checkout_id=checkout_id, is_topup=ordered is None
        )
    if found.state == CheckoutState.COMPLETED:
        return RedirectResponse(f"/deploying/{ordered.id}" if ordered else f"/topup/{found.id}", 303)
    if found.state == CheckoutState.OPEN:  # without a page: a charge of the saved method
        return RedirectResponse(found.url or f"/topup/{found.id}", 303)
    is_kept = ordered is not None and ordered.paid_at is not None and ordered.state != State.DELETED
    return page(request, "checkout_closed.html", is_topup=ordered is None, kept=ordered if is_kept else None)
