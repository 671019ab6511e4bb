"""The other half of the twins: reading, ending, changing, giving back, and setting up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import stripe as library

from clawhaven.ports.payments import Price, VendorState
from clawhaven.providers.payments.signature import sign, verify
from clawhaven.providers.payments.stripe import HEADER, Stripe
from clawhaven.providers.payments.stripe_calls import API_VERSION
from clawhaven.providers.payments.stripe_objects import EVENTS
from tests.contracts.payments import START as LONG_AGO
from tests.fakes.stripe_recorder import shaped
from tests.fakes.stripe_server import SECRET
from tests.fakes.stripe_twins import (
    CUS,
    END,
    PI,
    PORTAL,
    START,
    SUB,
    Twin,
    charge,
    compare,
    intent,
    invoice,
    make,
    price,
    session,
    subscription,
    when,
)

ONE, ALL = f"/v1/subscriptions/{SUB}", {"limit": 100}
DISPUTE = {"object": "dispute", "id": "du_1", "status": "needs_response", "payment_intent": PI}


def told(state: VendorState) -> Any:
    """A state as plain facts: cents, times, words."""
    one = state.subscription
    return (
        state.checkout_state,
        state.customer_reference,
        one and (one.reference, one.state, one.current_period_start, one.current_period_end, one.cancel_at_period_end),
        one and ((one.amount_micros or 0) // 10_000, one.plan, one.trial_end, one.pay_url),
        [
            (paid.reference, paid.amount_micros // 10_000, (paid.fee_micros or 0) // 10_000, paid.dispute)
            for paid in state.payments
        ],
        [(paid.period_start, paid.period_end, paid.plan, paid.refunded_micros // 10_000) for paid in state.payments],
    )


def read_subscription(c: Any) -> Any:
    expand = ["subscription", "payment_intent.latest_charge.balance_transaction"]
    found = c.v1.checkout.sessions.retrieve("cs_1", params={"expand": expand})
    sub = found.subscription
    invoices = c.v1.invoices.list(params={"subscription": sub.id, "expand": ["data.payments"], **ALL})
    charges = c.v1.charges.list(params={"customer": CUS, "expand": ["data.balance_transaction"], **ALL})
    disputes = c.v1.disputes.list(params={"payment_intent": PI, **ALL})
    (item,), (bill,), (taken,), (quarrel,) = sub["items"].data, invoices.data, charges.data, disputes.data
    (line,), (payment,), (lost,) = bill.lines.data, bill.payments.data, quarrel.balance_transactions
    assert line.parent.type == "subscription_item_details"
    assert not line.parent.subscription_item_details.proration
    assert payment.payment.payment_intent == taken.payment_intent == PI
    assert quarrel.status == "needs_response"
    details = line.pricing.price_details
    return (
        {"complete": "paid"}[found.status],
        found.customer,
        (sub.id, sub.status, when(item.current_period_start), when(item.current_period_end), sub.cancel_at_period_end),
        (item.price.unit_amount, item.price.product.removeprefix("clawhaven_"), None, None),
        [(payment.payment.payment_intent, payment.amount_paid, taken.balance_transaction.fee + lost.fee, "open")],
        [
            (
                when(line.period.start),
                when(line.period.end),
                details.product.removeprefix("clawhaven_"),
                taken.amount_refunded,
            )
        ],
    )


def read_single(c: Any) -> Any:
    expand = ["subscription", "payment_intent.latest_charge.balance_transaction"]
    found = c.v1.checkout.sessions.retrieve("cs_1", params={"expand": expand})
    return single_facts(found.payment_intent, found.customer)


def read_charge(c: Any) -> Any:
    expand = ["latest_charge.balance_transaction"]
    found = c.v1.payment_intents.retrieve(PI, params={"expand": expand})
    return single_facts(found, found.customer)


def single_facts(found: Any, customer: str) -> Any:
    taken = found.latest_charge
    return (
        {"succeeded": "paid"}[found.status],
        customer,
        None,
        None,
        [(found.id, found.amount_received, taken.balance_transaction.fee, None)],
        [(None, None, None, taken.amount_refunded)],
    )


def change(c: Any, **more: Any) -> None:
    sub = c.v1.subscriptions.retrieve(SUB)
    key = f"clawhaven_personal_{more.pop('cents')}_month"
    (wanted,) = c.v1.prices.list(params={"lookup_keys": [key], "active": True, **ALL}).data
    items = [{"id": sub["items"].data[0].id, "price": wanted.id, "quantity": 1}]
    c.v1.subscriptions.update(SUB, params={"items": items, **more})


def end(c: Any, **params: Any) -> None:
    c.v1.subscriptions.retrieve(SUB)
    c.v1.subscriptions.update(SUB, params=params)


def end_now(c: Any) -> None:
    c.v1.subscriptions.retrieve(SUB)
    c.v1.subscriptions.cancel(SUB, params={"prorate": False})


def give_back(c: Any) -> str:
    assert c.v1.refunds.list(params={"payment_intent": PI, **ALL}).data == []
    params = {"payment_intent": PI, "amount": 600, "metadata": {"refund": "refund_1"}}
    return str(c.v1.refunds.create(params=params).id)


def give_all_back(c: Any) -> str:
    assert c.v1.refunds.list(params={"payment_intent": PI, **ALL}).data == []
    return str(c.v1.refunds.create(params={"payment_intent": PI, "metadata": {"refund": "refund_1"}}).id)


def move_customer(c: Any) -> None:
    c.v1.customers.update(CUS, params={"email": "new@example.com"})


def delete_customer(c: Any) -> None:
    c.v1.customers.delete(CUS)


def list_invoices(c: Any) -> Any:
    bills = c.v1.invoices.list(params={"customer": CUS, "expand": ["data.payments"], **ALL}).data
    charges = c.v1.charges.list(params={"customer": CUS, **ALL}).data
    of_bills = {payment.payment.payment_intent for bill in bills for payment in bill.payments.data}
    found = [(bill.id, bill.number, bill.total, bill.hosted_invoice_url, bill.created) for bill in bills]
    found += [
        (one.id, one.id, one.amount, one.receipt_url, one.created)
        for one in charges
        if one.payment_intent not in of_bills
    ]
    return sorted(found, key=lambda one: one[4], reverse=True)


def saved(c: Any) -> Any:
    found = c.v1.customers.retrieve(CUS, params={"expand": ["invoice_settings.default_payment_method"]})
    assert found.invoice_settings.default_payment_method is None
    card = c.v1.payment_methods.list(params={"customer": CUS, "type": "card", **ALL}).data[0].card
    return card.brand, card.last4, card.exp_month, card.exp_year


def missed(c: Any) -> list[str]:
    params = {"created": {"gte": int(LONG_AGO.timestamp())}, "types": list(EVENTS), **ALL}
    return [one.id for one in reversed(c.v1.events.list(params=params).data)]


def open_portal(c: Any, **more: Any) -> str:
    c.v1.billing_portal.configurations.list(params={"active": True, **ALL})
    params = {"customer": CUS, "return_url": "https://haven.example/billing", **more}
    return str(c.v1.billing_portal.sessions.create(params=params).url)


def read_long_invoice(c: Any) -> Any:
    expand = ["subscription", "payment_intent.latest_charge.balance_transaction"]
    found = c.v1.checkout.sessions.retrieve("cs_1", params={"expand": expand})
    c.v1.invoices.list(params={"subscription": found.subscription.id, "expand": ["data.payments"], **ALL})
    c.v1.charges.list(params={"customer": CUS, "expand": ["data.balance_transaction"], **ALL})
    lines = list(c.v1.invoices.line_items.list("in_1", params=ALL).auto_paging_iter())
    (whole,) = [one for one in lines if not one.parent.subscription_item_details.proration]
    return [(when(whole.period.start), when(whole.period.end))]


def running(c: Any) -> Any:
    found = c.v1.subscriptions.list(params=ALL).data
    return [(one.id, one.status, one.metadata["checkout"], one.customer) for one in found]


def proration(number: int) -> Any:
    (line,) = invoice()["lines"]["data"]
    details = {**line["parent"]["subscription_item_details"], "proration": True}
    return {**line, "id": f"il_{number}", "parent": {**line["parent"], "subscription_item_details": details}}


PARTS = [proration(number) for number in range(12)]
PAGE = shaped("billing_portal.session", url="https://billing.stripe.com/p/1")
DEARER, CHEAPER = (Price("personal", "Personal", micros, "month") for micros in (59_000_000, 19_000_000))
COMPLETE = {"status": "complete", "payment_status": "paid"}
KEEPING = [
    Twin(
        "the state of a subscription",
        lambda p: told(p.fetch("cs_1")),
        read_subscription,
        {
            "GET /v1/checkout/sessions/cs_1": session(**COMPLETE, mode="subscription", subscription=subscription()),
            "GET /v1/invoices": [invoice()],
            "GET /v1/charges": [charge(disputed=True)],
            "GET /v1/disputes": [DISPUTE | {"balance_transactions": [{"fee": 1500, "currency": "usd"}]}],
        },
    ),
    Twin(
        "the state of a single payment",
        lambda p: told(p.fetch("cs_1")),
        read_single,
        {"GET /v1/checkout/sessions/cs_1": session(**COMPLETE, payment_intent=intent())},
    ),
    Twin(
        "the state of a charge",
        lambda p: told(p.fetch(PI)),
        read_charge,
        {f"GET /v1/payment_intents/{PI}": intent(latest_charge=charge(amount=2000, amount_refunded=500))},
    ),
    Twin(
        "a cancel at the period's end",
        lambda p: p.cancel(SUB, at_period_end=True),
        lambda c: end(c, cancel_at_period_end=True),
        {f"GET {ONE}": subscription(), f"POST {ONE}": subscription()},
    ),
    Twin(
        "a cancel at once",
        lambda p: p.cancel(SUB, at_period_end=False),
        end_now,
        {f"GET {ONE}": subscription(), f"DELETE {ONE}": subscription()},
    ),
    Twin(
        "a cancel taken back",
        lambda p: p.undo_cancel(SUB),
        lambda c: end(c, cancel_at_period_end=False),
        {f"GET {ONE}": subscription(cancel_at_period_end=True), f"POST {ONE}": subscription()},
    ),
    Twin(
        "a cancel at a date, taken back",
        lambda p: p.undo_cancel(SUB),
        lambda c: end(c, cancel_at=""),
        {f"GET {ONE}": subscription(cancel_at=END), f"POST {ONE}": subscription()},
    ),
    Twin(
        "a dearer plan",
        lambda p: p.change_plan(SUB, DEARER, "change_1"),
        lambda c: change(c, cents=5900, proration_behavior="always_invoice", payment_behavior="pending_if_incomplete"),
        {f"GET {ONE}": subscription(), "GET /v1/prices": [price(id="price_2")], f"POST {ONE}": subscription()},
    ),
    Twin(
        "a cheaper plan",
        lambda p: p.change_plan(SUB, CHEAPER, "change_1"),
        lambda c: change(c, cents=1900, proration_behavior="create_prorations"),
        {f"GET {ONE}": subscription(), "GET /v1/prices": [price(id="price_2")], f"POST {ONE}": subscription()},
    ),
    Twin(
        "a refund",
        lambda p: p.refund(PI, 6_000_000, "refund_1"),
        give_back,
        {"GET /v1/refunds": [], "POST /v1/refunds": shaped("refund", id="re_1")},
    ),
    Twin(
        "the whole of a payment back",
        lambda p: p.refund(PI, None, "refund_1"),
        give_all_back,
        {"GET /v1/refunds": [], "POST /v1/refunds": shaped("refund", id="re_1")},
    ),
    Twin(
        "a customer's new address",
        lambda p: p.move_customer(CUS, "new@example.com"),
        move_customer,
        {f"POST /v1/customers/{CUS}": shaped("customer", id=CUS)},
    ),
    Twin(
        "a customer deleted",
        lambda p: p.remove_customer(CUS),
        delete_customer,
        {f"DELETE /v1/customers/{CUS}": {"id": CUS, "object": "customer", "deleted": True}},
    ),
    Twin(
        "the portal",
        lambda p: p.portal_url(CUS, "https://haven.example/billing"),
        open_portal,
        {
            "GET /v1/billing_portal/configurations": [{**PORTAL, "metadata": {}}],
            "POST /v1/billing_portal/sessions": PAGE,
        },
    ),
    Twin(
        "the portal as the set-up made it",
        lambda p: p.portal_url(CUS, "https://haven.example/billing"),
        lambda c: open_portal(c, configuration="bpc_1"),
        {"GET /v1/billing_portal/configurations": [PORTAL], "POST /v1/billing_portal/sessions": PAGE},
    ),
    Twin(
        "an invoice of more lines than come with it",
        lambda p: [(one.period_start, one.period_end) for one in p.fetch("cs_1").payments],
        read_long_invoice,
        {
            "GET /v1/checkout/sessions/cs_1": session(**COMPLETE, mode="subscription", subscription=subscription()),
            "GET /v1/invoices": [invoice(lines={"object": "list", "data": PARTS[:10], "has_more": True})],
            "GET /v1/charges": [charge()],
            "GET /v1/invoices/in_1/lines": [*PARTS, *invoice()["lines"]["data"]],
        },
    ),
    Twin(
        "renewals held back",
        lambda p: p.pause(SUB),
        lambda c: end(c, pause_collection={"behavior": "void"}),
        {f"GET {ONE}": subscription(), f"POST {ONE}": subscription()},
    ),
    Twin(
        "renewals collected again",
        lambda p: p.resume(SUB),
        lambda c: end(c, pause_collection=""),
        {f"GET {ONE}": subscription(pause_collection={"behavior": "void"}), f"POST {ONE}": subscription()},
    ),
    Twin(
        "invoices and receipts",
        lambda p: [
            (one.reference, one.number, one.amount_micros // 10_000, one.page_url, int(one.created_at.timestamp()))
            for one in p.invoices(CUS)
        ],
        list_invoices,
        {
            "GET /v1/invoices": [invoice(created=START)],
            "GET /v1/charges": [
                charge(),
                charge(id="ch_2", payment_intent="pi_2", created=END, receipt_url="https://pay.stripe.com/receipts/2"),
            ],
        },
    ),
    Twin(
        "the saved card",
        lambda p: (
            (one := p.saved_method(CUS)) and (one.brand, one.last4, one.expires_month, one.expires_year)  # type: ignore[func-returns-value]
        ),
        saved,
        {f"GET /v1/customers/{CUS}": shaped("customer"), "GET /v1/payment_methods": [shaped("payment_method")]},
    ),
    Twin(
        "every subscription",
        lambda p: [
            (one.reference, one.state, one.checkout_key, one.customer_reference) for one in p.list_subscriptions()
        ],
        running,
        {"GET /v1/subscriptions": [subscription()]},
    ),
    Twin(
        "events that did not arrive",
        lambda p: [p.parse_event(*one).event_id for one in p.unseen(LONG_AGO)],
        missed,
        {"GET /v1/events": [shaped("event", id="evt_2"), shaped("event", id="evt_1")]},
    ),
]


@pytest.mark.parametrize("twin", KEEPING, ids=lambda twin: twin.name)
def test_both_keep_alike(twin: Twin, tmp_path: Path) -> None:
    compare(twin, tmp_path)


def test_every_event_we_read_and_our_version_are_stripes_own() -> None:
    known = Path(str(library.params.__path__[0])) / "_webhook_endpoint_create_params.py"
    text = known.read_text()
    assert [name for name in (*EVENTS, API_VERSION) if f'"{name}"' not in text] == []


def test_each_reads_what_the_other_signed(tmp_path: Path) -> None:
    body = json.dumps(shaped("event", id="evt_1", type="invoice.paid", data={"object": invoice()})).encode()
    payments: Stripe = make("http://127.0.0.1:9", tmp_path)
    now = payments._clock.now()
    seconds = int(now.timestamp())
    theirs = library.Webhook.construct_event(body, sign(SECRET, seconds, body), SECRET)
    digest = library.WebhookSignature._compute_signature(f"{seconds}.{body.decode()}", SECRET)
    assert verify(f"t={seconds},v1={digest}", body, [SECRET], now) == seconds
    ours = payments.parse_event({HEADER: f"t={seconds},v1={digest}"}, body)
    assert (ours.event_id, ours.vendor_type, ours.created_at) == (theirs.id, theirs.type, when(theirs.created))


def test_every_call_of_ours_has_its_twin() -> None:
    here = Path(__file__)
    ours = here.parents[3] / "clawhaven/providers/payments"
    pattern = re.compile(r"\.(?:read|write|pages|_once)\(\s*\"([a-z_.]+)\"")
    called = {verb for path in ours.glob("stripe*.py") for verb in pattern.findall(path.read_text())}
    twins = "".join(path.read_text() for path in here.parent.glob("test_stripe_twins*.py"))
    assert len(called) > 20
    assert [verb for verb in sorted(called) if f"v1.{verb}(" not in twins] == []
