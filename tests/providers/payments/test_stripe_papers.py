"""What a customer sees of Stripe's objects, made of Stripe's own example objects."""

from __future__ import annotations

from clawhaven.providers.payments import stripe_papers as papers
from tests.fakes.stripe_recorder import shaped
from tests.fakes.stripe_twins import START, charge, invoice, when


def test_invoices_and_receipts_as_the_customer_sees_them() -> None:
    found = papers.invoice_of(invoice(created=START, invoice_pdf="https://invoice.stripe.com/i/1.pdf"))
    assert (found.number, found.state, found.amount_micros, found.created_at) == (
        "A-1",
        "paid",
        29_000_000,
        when(START),
    )
    assert (found.page_url, found.pdf_url) == ("https://invoice.stripe.com/i/1", "https://invoice.stripe.com/i/1.pdf")
    receipt = papers.receipt_of(charge(receipt_url="https://pay.stripe.com/receipts/1", description="Top-up"))
    assert (receipt.reference, receipt.number, receipt.state) == ("ch_1", "ch_1", "paid")
    assert (receipt.page_url, receipt.pdf_url, receipt.description) == (
        "https://pay.stripe.com/receipts/1",
        None,
        "Top-up",
    )


def test_a_method_that_is_no_card_has_its_type_as_brand() -> None:
    card = papers.method_of(shaped("payment_method"))
    assert (card.brand, card.last4, card.expires_month, card.expires_year) == ("visa", "4242", 8, 2030)
    other = papers.method_of(shaped("payment_method", type="link"))
    assert (other.brand, other.last4, other.expires_month) == ("link", "", None)
