"""The sandbox vendor's own pages, which stand in for a vendor's site, and the page where trouble is rehearsed."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol, cast

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.core.errors import Invalid, NotFound
from clawhaven.ports.errors import ProviderError
from clawhaven.web.deps import Anyone, Ctx, OwnForm, RowId, read_form
from clawhaven.web.languages import N_, Texts
from clawhaven.web.render import page

router = APIRouter()

Outcome = Literal["paid", "declined", "cancelled"]
OUTCOMES: dict[str, Outcome] = {"paid": "paid", "declined": "declined", "cancelled": "cancelled"}
CARDS = Texts(
    {
        "works": N_("A card that works"),
        "declined": N_("A card that is declined"),
        "needs_3ds": N_("A card that needs 3-D Secure"),
    }
)
YES = ("1", "on", "true", "yes")
MOST_DAYS = 400

DID = Texts(
    {
        "trouble": N_("Saved. It is so from now on, until you change it."),
        "calm": N_("Everything works again."),
        "clock": N_("The vendor's clock moved on, and what was due has happened."),
        "bill": N_("The next period began, and the saved card was asked."),
        "fail": N_("The payment failed. The vendor will try again by its calendar."),
        "pay": N_("What was owed is paid."),
        "end": N_("The subscription has ended."),
        "open": N_("The customer's bank has taken the payment back for now."),
        "won": N_("The dispute was won: the money is yours."),
        "lost": N_("The dispute was lost: the money is gone."),
        "refund": N_("What was left of the payment went back to the customer."),
        "card": N_("The card is saved. It pays from the next payment on."),
    }
)
"""Sentences for `?did=…`, by what a button did."""


class HostingVendor(Protocol):
    """A vendor whose pages are ours to serve: the sandbox. What a page shows is drawn by its template."""

    def checkout(self, reference: str) -> Any | None:
        """What the checkout page shows, or None."""

    def complete(
        self,
        reference: str,
        outcome: Outcome,
        *,
        duplicate: int = 0,
        reorder: bool = False,
        delay_seconds: float = 0,
    ) -> None:
        """What the customer did on the checkout page."""

    def invoice(self, reference: str) -> Any | None:
        """What an invoice's page shows, or None."""

    def paper(self, reference: str) -> bytes | None:
        """An invoice as a PDF file, or None."""

    def pay_invoice(self, reference: str, outcome: Literal["paid", "declined"] = "paid") -> None:
        """What the customer did on an invoice's page."""

    def portal(self, reference: str) -> Any | None:
        """What a customer's portal shows, or None."""

    def use_portal_card(self, portal_reference: str, card: Any) -> None:
        """The customer saves another card."""

    def stage(self) -> Any:
        """What the page of rehearsals shows."""

    def change_trouble(self, **changes: Any) -> None:
        """What goes wrong from now on."""

    def push_clock(self, by: timedelta) -> None:
        """Move the vendor's calendar on."""

    def bill(self, subscription_reference: str) -> None:
        """End the period now and ask the saved card."""

    def fail_renewal(self, subscription_reference: str) -> None:
        """End the period now and let its payment fail."""

    def pay_owed(self, subscription_reference: str) -> None:
        """The customer pays what is owed."""

    def end(self, subscription_reference: str) -> None:
        """The subscription is over."""

    def dispute(self, payment_reference: str, verdict: Any) -> None:
        """The customer's bank takes a payment back, or has decided."""

    def refund_rest(self, payment_reference: str) -> None:
        """Give back what is left of a payment."""


def sandbox(ctx: Ctx) -> HostingVendor:
    """The sandbox vendor. Raises NotFound where there is none, and always in production."""
    if ctx.settings.is_production or "sandbox" not in ctx.payments:
        raise NotFound("There is no such page.")
    return cast(HostingVendor, ctx.payments["sandbox"])


Sandbox = Annotated[HostingVendor, Depends(sandbox)]
VendorForm = Annotated[dict[str, str], Depends(read_form)]
"""A form of the vendor's pages: they imitate another host's, so our own forms' rules do not hold."""


@router.get("/sandbox/checkout/{reference}")
def show_sandbox_checkout(request: Request, vendor: Sandbox, reference: RowId) -> Response:
    """Plan, amount, and what can happen on such a page."""
    return page(request, "sandbox_checkout.html", checkout=_known(vendor.checkout(reference), "checkout"))


@router.post("/sandbox/checkout/{reference}")
def finish_sandbox_checkout(vendor: Sandbox, reference: RowId, form: VendorForm) -> Response:
    """What a button does; scripts may do the same."""
    found = _known(vendor.checkout(reference), "checkout")
    outcome = OUTCOMES.get(form.get("outcome", ""))
    if outcome is None:
        raise Invalid("The outcome is paid, declined or cancelled.", field="outcome", reason="unknown outcome")
    with _Answering():
        vendor.complete(
            reference,
            outcome,
            duplicate=int(_number(form, "duplicate", 20)),
            reorder=form.get("reorder", "").lower() in YES,
            delay_seconds=_number(form, "delay_seconds", 3600),
        )
    ended = _known(vendor.checkout(reference), "checkout")
    is_done = ended.state == "paid" and found.success_url
    return RedirectResponse(found.success_url if is_done else f"/sandbox/checkout/{reference}", 303)


@router.get("/sandbox/invoice/{reference}")
def show_sandbox_invoice(request: Request, vendor: Sandbox, reference: RowId) -> Response:
    """An invoice: what for, how much, and the way to pay it."""
    is_declined = request.query_params.get("did") == "declined"
    shown = _known(vendor.invoice(reference), "invoice")
    return page(request, "sandbox_invoice.html", shown=shown, is_declined=is_declined)


@router.get("/sandbox/invoice/{reference}/pdf")
def download_sandbox_invoice(vendor: Sandbox, reference: RowId) -> Response:
    """The invoice as a file."""
    paper = _known(vendor.paper(reference), "invoice")
    name = f'attachment; filename="{reference}.pdf"'
    return Response(paper, media_type="application/pdf", headers={"Content-Disposition": name})


@router.post("/sandbox/invoice/{reference}")
def pay_sandbox_invoice(vendor: Sandbox, reference: RowId, form: VendorForm) -> Response:
    """Paid or declined, by the button."""
    _known(vendor.invoice(reference), "invoice")
    outcome = form.get("outcome", "")
    if outcome not in ("paid", "declined"):
        raise Invalid("The outcome is paid or declined.", field="outcome", reason="unknown outcome")
    with _Answering():
        vendor.pay_invoice(reference, "paid" if outcome == "paid" else "declined")
    return RedirectResponse(f"/sandbox/invoice/{reference}{'?did=declined' if outcome == 'declined' else ''}", 303)


@router.get("/sandbox/portal/{reference}")
def show_sandbox_portal(request: Request, vendor: Sandbox, reference: RowId) -> Response:
    """A customer's saved card and invoices."""
    shown = _known(vendor.portal(reference), "page, or its hour is over; open it again from your account")
    cards = [(name, CARDS[name]) for name in CARDS]
    return page(request, "sandbox_portal.html", shown=shown, cards=cards, did=_did(request))


@router.post("/sandbox/portal/{reference}")
def save_sandbox_card(vendor: Sandbox, reference: RowId, form: VendorForm) -> Response:
    """Another card, one that behaves as its name says."""
    _known(vendor.portal(reference), "page, or its hour is over; open it again from your account")
    if form.get("card") not in CARDS:
        raise Invalid(f"The card is one of {', '.join(CARDS)}.", field="card", reason="unknown card")
    with _Answering():
        vendor.use_portal_card(reference, form["card"])
    return RedirectResponse(f"/sandbox/portal/{reference}?did=card", 303)


@router.get("/sandbox")
def show_sandbox(request: Request, vendor: Sandbox, _visitor: Anyone) -> Response:
    """Everything that can be rehearsed, with what it does."""
    return page(request, "sandbox_stage.html", stage=vendor.stage(), cards=CARDS, did=_did(request))


@router.post("/sandbox/trouble")
def make_sandbox_trouble(vendor: Sandbox, form: OwnForm) -> Response:
    """What goes wrong from now on; fields that are not there are back to normal."""
    values = dict(form.values)
    card = values.get("next_card", "")
    if card and card not in CARDS:
        raise Invalid(f"The next payment is one of {', '.join(CARDS)}.", field="next_card", reason="unknown card")
    changes: dict[str, Any] = {
        "next_card": card or None,
        "duplicate": int(_number(values, "duplicate", 20)),
        "delay_seconds": _number(values, "delay_seconds", 7 * 86_400),
        "is_reordering": values.get("reorder", "").lower() in YES,
        "is_dropping": values.get("drop", "").lower() in YES,
        "is_down": values.get("down", "").lower() in YES,
    }
    with _Answering():
        vendor.change_trouble(**changes)
    return _back("trouble" if any(changes.values()) else "calm")


@router.post("/sandbox/clock")
def push_sandbox_clock(vendor: Sandbox, form: OwnForm) -> Response:
    """So many days pass at the vendor, at once."""
    days = _number(dict(form.values), "days", MOST_DAYS)
    with _Answering():
        vendor.push_clock(timedelta(days=days))
    return _back("clock")


@router.post("/sandbox/subscriptions/{reference}")
def move_sandbox_subscription(vendor: Sandbox, reference: RowId, form: OwnForm) -> Response:
    """What a subscription's button does: bill, fail, pay or end."""
    verbs = {"bill": vendor.bill, "fail": vendor.fail_renewal, "pay": vendor.pay_owed, "end": vendor.end}
    action = form.get("action")
    if action not in verbs:
        raise Invalid(f"The action is one of {', '.join(verbs)}.", field="action", reason="unknown action")
    with _Answering():
        verbs[action](reference)
    return _back(action)


@router.post("/sandbox/payments/{reference}")
def move_sandbox_payment(vendor: Sandbox, reference: RowId, form: OwnForm) -> Response:
    """What a payment's button does: open, won or lost for a dispute, or refund."""
    action = form.get("action")
    if action not in ("open", "won", "lost", "refund"):
        raise Invalid("The action is one of open, won, lost, refund.", field="action", reason="unknown action")
    with _Answering():
        if action == "refund":
            vendor.refund_rest(reference)
        else:
            vendor.dispute(reference, action)
    return _back(action)


class _Answering:
    """What the vendor refuses for good is the sender's mistake; that it is switched off stays a failure."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ProviderError) and error.permanent:
            raise Invalid(error.message, reason=error.code) from None


def _known(found: Any | None, noun: str) -> Any:
    if found is None:
        raise NotFound(f"There is no such {noun}.")
    return found


def _back(did: str) -> Response:
    return RedirectResponse(f"/sandbox?did={did}", 303)


def _did(request: Request) -> str:
    return DID.get(request.query_params.get("did", ""))


def _number(form: dict[str, str], name: str, largest: int) -> float:
    text = form.get(name, "").strip() or "0"
    if not text.isascii() or not text.replace(".", "", 1).isdigit() or float(text) > largest:
        raise Invalid(f"{name} is a number from 0 to {largest}.", field=name, reason="not such a number")
    return float(text)
