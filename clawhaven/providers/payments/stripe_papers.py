"""What a customer sees of Stripe's objects, in our words: invoices, receipts, and how they pay. Pure."""

from __future__ import annotations

from clawhaven.core.money import from_cents
from clawhaven.ports.payments import SavedMethod, VendorInvoice
from clawhaven.providers.payments.stripe_objects import Json, at, first_of


def invoice_of(raw: Json) -> VendorInvoice:
    """An invoice as the customer sees it."""
    line = first_of(raw.get("lines"))
    return VendorInvoice(
        reference=str(raw["id"]),
        number=str(raw.get("number") or raw["id"]),
        state=str(raw.get("status")),
        amount_micros=from_cents(int(raw["total"])),
        created_at=at(raw.get("created")),
        page_url=raw.get("hosted_invoice_url"),
        pdf_url=raw.get("invoice_pdf"),
        description=str(raw.get("description") or line.get("description") or ""),
    )


def receipt_of(charge: Json) -> VendorInvoice:
    """A payment without an invoice: Stripe's receipt page."""
    return VendorInvoice(
        reference=str(charge["id"]),
        number=str(charge.get("receipt_number") or charge["id"]),
        state="paid",
        amount_micros=from_cents(int(charge["amount"])),
        created_at=at(charge.get("created")),
        page_url=charge.get("receipt_url"),
        pdf_url=None,
        description=str(charge.get("description") or ""),
    )


def method_of(raw: Json) -> SavedMethod:
    """A payment method; what is no card has its type's name as brand."""
    kind = str(raw.get("type"))
    detail = raw.get(kind) or {}
    return SavedMethod(
        brand=str(detail.get("brand") or kind),
        last4=str(detail.get("last4") or ""),
        expires_month=detail.get("exp_month"),
        expires_year=detail.get("exp_year"),
    )
