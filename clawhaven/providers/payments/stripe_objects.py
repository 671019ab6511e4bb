"""Stripe's objects in our words. Pure; knows where version 2026-10-28 keeps things.

Periods are on subscription items and invoice lines, an invoice names its subscription in `parent`, its payments in
`payments`; what was refunded, disputed and kept is on charges. Source: docs.stripe.com/api, changelog 2025-03-31.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from clawhaven.core.money import from_cents
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import (
    ForeignPayment,
    PaymentEvent,
    PaymentKind,
    VendorPayment,
    VendorSubscription,
)
from clawhaven.providers.payments.stripe_calls import refused, unexpected

PlanOf = Callable[[object, object], str | None]
Json = dict[str, Any]

_STATES: Final = {
    "incomplete": "incomplete",
    "incomplete_expired": "canceled",
    "trialing": "trialing",
    "active": "active",
    "past_due": "past_due",
    "canceled": "canceled",
    "unpaid": "unpaid",
    "paused": "unpaid",
}
_KINDS: Final = {
    "checkout.session.completed": PaymentKind.CHECKOUT_COMPLETED,
    "checkout.session.async_payment_succeeded": PaymentKind.PAYMENT_SUCCEEDED,
    "checkout.session.async_payment_failed": PaymentKind.PAYMENT_FAILED,
    "checkout.session.expired": PaymentKind.CHECKOUT_EXPIRED,
    "customer.subscription.created": PaymentKind.SUBSCRIPTION_CHANGED,
    "customer.subscription.updated": PaymentKind.SUBSCRIPTION_CHANGED,
    "customer.subscription.deleted": PaymentKind.SUBSCRIPTION_CHANGED,
    "customer.subscription.paused": PaymentKind.SUBSCRIPTION_CHANGED,
    "customer.subscription.resumed": PaymentKind.SUBSCRIPTION_CHANGED,
    "customer.subscription.trial_will_end": PaymentKind.TRIAL_ENDING,
    "invoice.paid": PaymentKind.PAYMENT_SUCCEEDED,
    "invoice.payment_failed": PaymentKind.PAYMENT_FAILED,
    "invoice.payment_action_required": PaymentKind.PAYMENT_FAILED,
    "payment_intent.succeeded": PaymentKind.PAYMENT_SUCCEEDED,
    "payment_intent.payment_failed": PaymentKind.PAYMENT_FAILED,
    "charge.refunded": PaymentKind.REFUNDED,
    "refund.updated": PaymentKind.REFUNDED,
    "refund.failed": PaymentKind.REFUNDED,
    "charge.dispute.created": PaymentKind.DISPUTED,
    "charge.dispute.updated": PaymentKind.DISPUTED,
    "charge.dispute.closed": PaymentKind.DISPUTED,
}
EVENTS: Final = tuple(_KINDS)
"""Every type of event that we read; the webhook endpoint is made for exactly these."""

_PERIODICAL: Final = ("subscription_create", "subscription_cycle", "subscription_update")


def at(seconds: object) -> datetime:
    """Unix seconds as a time; ProviderError for anything else."""
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise unexpected()
    return datetime.fromtimestamp(seconds, UTC)


def reference_of(value: object) -> str | None:
    """The id of what is either an id or the object itself."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) and found else None


def subscription_of(raw: Json, plan_of: PlanOf, pay_url: str | None) -> VendorSubscription:
    """A subscription with its first item; ours have one."""
    item = first_of(raw.get("items"))
    price, trial_end = item.get("price") or {}, raw.get("trial_end")
    amount = price.get("unit_amount") if is_dollars(price) else None
    return VendorSubscription(
        reference=str(raw["id"]),
        state=state_of(raw),
        current_period_start=at(item.get("current_period_start")),
        current_period_end=at(item.get("current_period_end")),
        cancel_at_period_end=bool(raw.get("cancel_at_period_end") or raw.get("cancel_at")),
        plan=plan_of(price.get("product"), price.get("id")),
        amount_micros=from_cents(amount * int(item.get("quantity") or 1)) if isinstance(amount, int) else None,
        trial_end=at(trial_end) if trial_end else None,
        pay_url=pay_url,
        is_paused=bool(raw.get("pause_collection")),
    )


def listed_subscription(raw: Json, plan_of: PlanOf) -> VendorSubscription | None:
    """One of a list, where a strange one hides no other: None."""
    try:
        return subscription_of(raw, plan_of, None)
    except ProviderError:
        return None


def state_of(raw: Json) -> str:
    """A subscription's state in the port's words."""
    state = _STATES.get(str(raw.get("status")))
    if state is None:
        raise unexpected()
    return state


def pay_url_of(invoices: list[Json]) -> str | None:
    """Where the newest invoice that was tried in vain can be paid; `invoices` newest first."""
    for one in invoices:
        if one.get("status") == "open" and one.get("attempted") and one.get("amount_remaining"):
            return one.get("hosted_invoice_url")
    return None


class Receipts:
    """Payments as they are told, with what Stripe knows of their charges. `disputes` by payment intent."""

    def __init__(self, charges: list[Json], disputes: Mapping[str, Dispute], plan_of: PlanOf) -> None:
        self._charges: dict[str, Json] = {}
        for one in charges:
            intent = reference_of(one.get("payment_intent"))
            if intent and one.get("paid"):
                self._charges.setdefault(intent, one)
        self._disputes, self._plan_of = disputes, plan_of

    def of_intent(self, intent: Json) -> VendorPayment | None:
        """A single payment; None before it succeeded, and in another currency."""
        if intent.get("status") != "succeeded" or not is_dollars(intent):
            return None
        return self._payment(str(intent["id"]), int(intent["amount_received"]), at(intent.get("created")))

    def of_invoices(self, invoices: list[Json], trial_end: int) -> tuple[VendorPayment, ...]:
        """Every payment of a subscription in dollars, oldest first; `trial_end` in unix seconds, 0 without a trial."""
        found: list[VendorPayment] = []
        for invoice in reversed(invoices):
            if invoice.get("status") == "paid" and is_dollars(invoice):
                found += self._of_invoice(invoice, _period_line(invoice, trial_end))
        return tuple(found)

    def foreign_of_intent(self, intent: Json) -> ForeignPayment | None:
        """A single payment that succeeded in another currency than dollars."""
        if intent.get("status") != "succeeded" or is_dollars(intent):
            return None
        return self._foreign(str(intent["id"]), int(intent["amount_received"]), str(intent["currency"]))

    def foreign_of_invoices(self, invoices: list[Json]) -> tuple[ForeignPayment, ...]:
        """Every payment of a subscription in another currency, oldest first."""
        paid = [one for one in reversed(invoices) if one.get("status") == "paid" and not is_dollars(one)]
        return tuple(self._foreign(*share, str(one["currency"])) for one in paid for share in _shares(one))

    def _foreign(self, reference: str, amount: int, currency: str) -> ForeignPayment:
        charge = self._charges.get(reference, {})
        return ForeignPayment(reference, _amount_of(amount, currency), bool(charge.get("refunded")))

    def _of_invoice(self, invoice: Json, line: Json | None) -> list[VendorPayment]:
        paid_at = at((invoice.get("status_transitions") or {}).get("paid_at") or invoice.get("created"))
        shares = _shares(invoice)
        if not shares and (invoice.get("amount_paid") or line):
            shares = [(str(invoice["id"]), int(invoice.get("amount_paid") or 0))]
        payments = []
        for intent, cents in shares:
            payments.append(self._payment(intent, cents, paid_at, line))
            line = None  # of several payments for one invoice, the first stands for the period
        return payments

    def _payment(self, reference: str, cents: int, paid_at: datetime, line: Json | None = None) -> VendorPayment:
        charge, quarrel = self._charges.get(reference, {}), self._disputes.get(reference)
        booked = charge.get("balance_transaction")
        is_told = isinstance(booked, dict) and booked.get("currency") == "usd" and isinstance(booked.get("fee"), int)
        period = (line or {}).get("period") or {}
        price = ((line or {}).get("pricing") or {}).get("price_details") or {}
        return VendorPayment(
            reference=reference,
            amount_micros=from_cents(cents),
            period_start=at(period.get("start")) if line else None,
            period_end=at(period.get("end")) if line else None,
            refunded_micros=_given_back(cents, charge, quarrel),
            dispute=quarrel.state if quarrel else None,
            dispute_due_at=quarrel.due_at if quarrel else None,
            disputed_micros=from_cents(quarrel.cents) if quarrel and quarrel.cents is not None else None,
            fee_micros=_kept(booked["fee"], quarrel) if is_told and isinstance(booked, dict) else None,
            paid_at=paid_at,
            plan=self._plan_of(reference_of(price.get("product")), reference_of(price.get("price"))) if line else None,
        )


@dataclass(frozen=True, slots=True)
class Dispute:
    """A word of VendorPayment.dispute, until when an answer is taken while one is wanted, and what it cost in cents.

    `cents`: how much of the payment it is about; None: all of it.
    """

    state: str
    due_at: datetime | None = None
    fee: int = 0
    cents: int | None = None


def is_dollars(raw: Json) -> bool:
    """Amounts are cents of a dollar to us; a hundred yen must not become one."""
    return bool(raw.get("currency", "usd") == "usd")


def _amount_of(amount: int, currency: str) -> str:
    """An amount as people read it; Stripe counts a currency's smallest unit.

    Source: https://docs.stripe.com/currencies#zero-decimal
    """
    digits = 0 if currency in _WHOLE else 3 if currency in _THOUSANDTHS else 2
    whole, rest = divmod(amount, 10**digits)
    return f"{whole}{f'.{rest:0{digits}}' if digits else ''} {currency.upper()}"


_WHOLE: Final = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
)
_THOUSANDTHS: Final = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})


def _shares(invoice: Json) -> list[tuple[str, int]]:
    """(payment intent, amount) of what an invoice was paid with, apart from credit."""
    parts = [
        (reference_of((one.get("payment") or {}).get("payment_intent")), int(one.get("amount_paid") or 0))
        for one in (invoice.get("payments") or {}).get("data", [])
        if one.get("status") == "paid"
    ]
    return [(intent, amount) for intent, amount in parts if intent and amount]


DISPUTES: Final = ("lost", "open", "won", "inquiry", "inquiry_closed")
"""The words, the weightiest first: a payment can have several."""


def _given_back(cents: int, charge: Json, dispute: Dispute | None) -> int | None:
    """What was refunded of a payment, or lost; None when its charge is not in the list, which may lag behind."""
    lost = 0
    if dispute is not None and dispute.state == "lost":
        lost = cents if dispute.cents is None else dispute.cents
    if not charge and lost < cents:
        return None
    return from_cents(min(cents, int(charge.get("amount_refunded") or 0) + lost))


def _kept(fee: int, quarrel: Dispute | None) -> int:
    """Both in cents; in micro-dollars what Stripe kept of a payment and for its disputes."""
    return from_cents(max(0, fee + (quarrel.fee if quarrel else 0)))


def dispute_fee_of(raw: Json) -> int:
    """The cents of a dollar that a dispute cost: a fee that came back when it was won is taken off again.

    Source: https://docs.stripe.com/api/disputes/object#dispute_object-balance_transactions
    """
    booked = [one for one in raw.get("balance_transactions") or [] if isinstance(one, dict)]
    return sum(int(one.get("fee") or 0) for one in booked if one.get("currency") == "usd")


def dispute_of(raw: Json) -> Dispute:
    """A dispute in our words; an inquiry (`warning_…`) has taken no money, and may never.

    Source: https://docs.stripe.com/api/disputes/object#dispute_object-status
    """
    status = str(raw.get("status"))
    amount = raw.get("amount")
    # A bank may dispute in its own currency: how much of our dollars that is, nobody tells.
    cents = amount if isinstance(amount, int) and raw.get("currency") == "usd" else None
    if status in ("warning_closed", "prevented"):
        return Dispute("inquiry_closed", cents=cents)
    if status in ("won", "lost"):
        return Dispute(status, cents=cents)
    due = (raw.get("evidence_details") or {}).get("due_by")
    return Dispute("inquiry" if status.startswith("warning_") else "open", at(due) if due else None, cents=cents)


def weightiest(disputes: list[Dispute]) -> Dispute | None:
    """What several disputes of one payment come to: the weightiest word, with all that is disputed in that state."""
    for state in DISPUTES:
        same = [one for one in disputes if one.state == state]
        if same:
            parts = [one.cents for one in same if one.cents is not None]
            return replace(same[-1], cents=sum(parts) if len(parts) == len(same) else None)
    return None


def is_cut_short(listed: object) -> bool:
    """True for a list within an object that has more than what came with it."""
    return isinstance(listed, dict) and bool(listed.get("has_more"))


def intents_of(invoices: list[Json]) -> set[str]:
    """The payment intents that belong to these invoices."""
    parts = [one for invoice in invoices for one in (invoice.get("payments") or {}).get("data", [])]
    return {found for one in parts if (found := reference_of((one.get("payment") or {}).get("payment_intent")))}


def event_of(body: bytes) -> PaymentEvent:
    """A verified body in our vocabulary. ProviderError (permanent) `malformed_event` for another shape."""
    try:
        event = json.loads(body)
        told, vendor_type = event["data"]["object"], event["type"]
        if not isinstance(event["id"], str) or not isinstance(vendor_type, str) or not isinstance(told, dict):
            raise TypeError("an event has a name, a type and an object")
        noun, kind = vendor_type.split(".")[0], _KINDS.get(vendor_type, PaymentKind.OTHER)
        is_ours = noun != "payment_intent" or "charge" in (told.get("metadata") or {})
        return PaymentEvent(
            event_id=event["id"],
            kind=kind if is_ours else PaymentKind.OTHER,  # those of checkouts and invoices are told by these
            vendor_type=vendor_type,
            checkout_reference=_checkout_of(vendor_type, told, is_ours),
            subscription_reference=_subscription_of(vendor_type, told),
            created_at=datetime.fromtimestamp(event["created"], UTC),
            payment_reference=_intent_of(noun, told),
            checkout_key=_key_of(told),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        raise refused("malformed_event", "A signed Stripe event has an unknown shape.") from None


def _key_of(told: Json) -> str | None:
    """Our checkout's id, which we put into the metadata of sessions, subscriptions and payments."""
    details = (told.get("parent") or {}).get("subscription_details") or {}
    for metadata in (told.get("metadata"), details.get("metadata")):
        found = metadata.get("checkout") if isinstance(metadata, dict) else None
        if isinstance(found, str) and len(found) <= 200:
            return found
    return None


def _checkout_of(vendor_type: str, told: Json, is_ours: bool) -> str | None:
    if vendor_type.startswith("checkout.session."):
        return reference_of(told)
    return reference_of(told) if vendor_type.startswith("payment_intent.") and is_ours else None


def _subscription_of(vendor_type: str, told: Json) -> str | None:
    if vendor_type.startswith("customer.subscription."):
        return reference_of(told)
    if vendor_type.startswith("invoice."):
        details = (told.get("parent") or {}).get("subscription_details") or {}
        return reference_of(details.get("subscription")) or reference_of(told.get("subscription"))  # before 2025-03
    return reference_of(told.get("subscription")) if vendor_type.startswith("checkout.") else None


def _intent_of(noun: str, told: Json) -> str | None:
    return reference_of(told) if noun == "payment_intent" else reference_of(told.get("payment_intent"))


def _period_line(invoice: Json, trial_end: int) -> Json | None:
    """The line of an invoice that buys a whole period; None for prorations and trials."""
    if invoice.get("billing_reason") not in _PERIODICAL:
        return None
    for line in (invoice.get("lines") or {}).get("data", []):
        parent = line.get("parent") or {}
        details = parent.get("subscription_item_details") or {}
        ends = (line.get("period") or {}).get("end") or 0
        if parent.get("type") == "subscription_item_details" and not details.get("proration") and ends > trial_end:
            return dict(line)
    return None


def first_of(listed: object) -> Json:
    """The first object of a list within an object; an empty one when there is none."""
    data = listed.get("data") if isinstance(listed, dict) else None
    return data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
