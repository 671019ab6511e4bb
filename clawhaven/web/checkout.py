"""The way to the payment page, and the sandbox vendor's own page, which stands in for a vendor's site."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, cast

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Checkout
from clawhaven.core.errors import Invalid, NotFound, Unavailable
from clawhaven.ports.errors import ProviderError
from clawhaven.web.deps import Ctx, RowId, SignedIn, read_form
from clawhaven.web.render import page
from clawhaven.workflows import checkout

router = APIRouter()

Outcome = Literal["paid", "declined", "cancelled"]
OUTCOMES: dict[str, Outcome] = {"paid": "paid", "declined": "declined", "cancelled": "cancelled"}


class HostedCheckout(Protocol):
    """What the sandbox vendor's page shows."""

    reference: str
    email: str
    description: str
    amount_micros: int
    interval: str | None
    success_url: str
    cancel_url: str
    state: str


class HostingVendor(Protocol):
    """A vendor whose checkout page is ours to serve: the sandbox."""

    def checkout(self, reference: str) -> HostedCheckout | None:
        """What the page shows, or None."""

    def complete(
        self,
        reference: str,
        outcome: Outcome,
        *,
        duplicate: int = 0,
        reorder: bool = False,
        delay_seconds: float = 0,
    ) -> None:
        """What the customer did on the page."""


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


def sandbox(ctx: Ctx) -> HostingVendor:
    """The sandbox vendor. Raises NotFound where there is none, and always in production."""
    if ctx.settings.is_production or "sandbox" not in ctx.payments:
        raise NotFound("There is no such page.")
    return cast(HostingVendor, ctx.payments["sandbox"])


Sandbox = Annotated[HostingVendor, Depends(sandbox)]


@router.get("/sandbox/checkout/{reference}")
def show_sandbox_checkout(request: Request, vendor: Sandbox, reference: RowId) -> Response:
    """Plan, amount, and what can happen on such a page."""
    return page(request, "sandbox_checkout.html", checkout=_known(vendor, reference))


@router.post("/sandbox/checkout/{reference}")
def finish_sandbox_checkout(
    vendor: Sandbox, reference: RowId, form: Annotated[dict[str, str], Depends(read_form)]
) -> Response:
    """What a button does; scripts may do the same. It imitates another host's page, so our forms' rules do not hold."""
    found = _known(vendor, reference)
    outcome = OUTCOMES.get(form.get("outcome", ""))
    if outcome is None:
        raise Invalid("The outcome is paid, declined or cancelled.", field="outcome", reason="unknown outcome")
    try:
        vendor.complete(
            reference,
            outcome,
            duplicate=int(_number(form, "duplicate", 20)),
            reorder=form.get("reorder", "").lower() in ("1", "on", "true", "yes"),
            delay_seconds=_number(form, "delay_seconds", 3600),
        )
    except ProviderError as error:
        raise Invalid(error.message, reason=error.code) from None
    ended = _known(vendor, reference)
    target = found.success_url if ended.state == "paid" else f"/sandbox/checkout/{reference}"
    return RedirectResponse(target, 303)


def _known(vendor: HostingVendor, reference: str) -> HostedCheckout:
    found = vendor.checkout(reference)
    if found is None:
        raise NotFound("There is no such checkout.")
    return found


def _number(form: dict[str, str], name: str, largest: int) -> float:
    text = form.get(name, "").strip() or "0"
    if not text.isascii() or not text.replace(".", "", 1).isdigit() or float(text) > largest:
        raise Invalid(f"{name} is a number from 0 to {largest}.", field=name, reason="not such a number")
    return float(text)
