"""Creem's objects, read into the port's shapes. Pure.

Sources: docs.creem.io, API reference (checkouts, orders, subscriptions, transactions) and "Webhooks". Amounts are cents
of a US dollar. Creem is the seller: tax on top of a price goes through its hands, so what counts here is the amount
without such a tax. The docs spell some states in two ways; both are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from clawhaven.core.money import from_cents
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import ForeignPayment, PaymentEvent, PaymentKind, VendorPayment, VendorSubscription
from clawhaven.providers.payments.creem_calls import unexpected

PERIODS: Final = {"month": "every-month", "quarter": "every-three-months", "year": "every-year"}
"""Our intervals in Creem's words."""

CHECKOUT_STATES: Final = {"pending": "open", "processing": "open", "completed": "paid", "expired": "expired"}

_RENEWAL_SLACK: Final = timedelta(days=1)
"""A renewal is collected within hours; a period that ended longer ago without a new one was not paid."""

_WORDS: Final = frozenset({"incomplete", "trialing", "past_due", "unpaid", "canceled"})
"""States that are the field's words already, whenever they are said."""

_PAID: Final = frozenset({"paid"})
_REFUNDED: Final = frozenset({"refunded", "partialRefund", "partially_refunded"})
_CHARGED_BACK: Final = frozenset({"chargedBack", "chargeback"})

_CHANGE_SEEN: Final = "subscription.seen"
_PAYMENT_SEEN: Final = "transaction.seen"

_KINDS: Final = {
    "checkout.completed": PaymentKind.CHECKOUT_COMPLETED,
    "subscription.active": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.paid": PaymentKind.PAYMENT_SUCCEEDED,
    "subscription.trialing": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.update": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.canceled": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.scheduled_cancel": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.past_due": PaymentKind.PAYMENT_FAILED,
    "subscription.unpaid": PaymentKind.PAYMENT_FAILED,
    "subscription.expired": PaymentKind.SUBSCRIPTION_CHANGED,
    "subscription.paused": PaymentKind.SUBSCRIPTION_CHANGED,
    "refund.created": PaymentKind.REFUNDED,
    "dispute.created": PaymentKind.DISPUTED,
}


def reference_of(value: Any) -> str | None:
    """The id of what Creem gives as an id, as a whole object, or not at all."""
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) and found else None


def required(value: Any) -> str:
    """As `reference_of`; ProviderError `unexpected_answer` when there is none."""
    found = reference_of(value)
    if found is None:
        raise unexpected()
    return found


def whole(value: Any) -> dict[str, Any]:
    """The object where Creem gives it whole; empty where it gives an id or nothing."""
    return value if isinstance(value, dict) else {}


def cents_of(value: Any) -> int:
    """A whole, not negative number of cents; nothing is 0. ProviderError `unexpected_answer` for anything else."""
    if value is None:
        return 0
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole or value < 0:
        raise unexpected()
    return int(value)


def time_of(value: Any) -> datetime | None:
    """A time, given as ISO text or in milliseconds. ProviderError `unexpected_answer` for anything else."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(int(value) // 1000, UTC) + timedelta(milliseconds=int(value) % 1000)
    except (ValueError, OverflowError, OSError):
        pass
    raise unexpected()


def subscription_of(
    found: Mapping[str, Any], plans: Mapping[str, str], now: datetime, pay_url: str | None
) -> VendorSubscription:
    """A subscription at `now`; `plans` says which of our plans a product is."""
    product = found.get("product")
    start = time_of(found.get("current_period_start_date")) or time_of(found.get("created_at"))
    if start is None:
        raise unexpected()
    end = time_of(found.get("current_period_end_date")) or time_of(found.get("canceled_at")) or start
    state = state_of(found, now)
    amount = None
    if isinstance(product, dict) and product.get("price") is not None:
        amount = from_cents(cents_of(product["price"]))
    return VendorSubscription(
        reference=required(found),
        state=state,
        current_period_start=start,
        current_period_end=end,
        cancel_at_period_end=found.get("status") == "scheduled_cancel",
        plan=plans.get(reference_of(product) or ""),
        amount_micros=amount,
        trial_end=end if state == "trialing" else None,
        pay_url=pay_url,
        is_paused=found.get("status") == "paused",
    )


def listed_subscription(found: Mapping[str, Any], plans: Mapping[str, str], now: datetime) -> VendorSubscription | None:
    """One of a list, where a strange one hides no other: None."""
    try:
        return subscription_of(found, plans, now, None)
    except ProviderError:
        return None


def state_of(found: Mapping[str, Any], now: datetime) -> str:
    """A subscription's state in the field's words.

    Creem leaves one `active` whose period ended without a payment: a day later it is past due here. One that was
    paused runs to the end of what was paid, then it is unpaid. `expired` is past due and not canceled, which is for
    good here: Creem may still collect the payment then, and ends it with `canceled` alone (docs.creem.io, "Event
    types", subscription.expired). A word that is new to us counts as active while its period is paid, then past due.
    """
    status = found.get("status")
    if not isinstance(status, str) or not status:
        raise unexpected()
    end = time_of(found.get("current_period_end_date"))
    if status == "expired":
        return "past_due"
    if status in _WORDS:
        return status
    if status == "paused":
        return "active" if end is not None and now < end else "unpaid"
    return "past_due" if end is not None and now > end + _RENEWAL_SLACK else "active"


def payments_of(
    transactions: Iterable[Mapping[str, Any]], current_period_start: datetime | None
) -> tuple[VendorPayment, ...]:
    """What was paid in dollars, oldest first. A subscription's within a period already paid is a proration."""
    kept = [one for one in _kept(transactions) if one.get("currency") == "USD"]
    kept.sort(key=lambda one: (cents_of(one.get("created_at")), str(one.get("id"))))
    made: list[VendorPayment] = []
    paid_until: datetime | None = None
    starts: set[datetime] = set()
    for one in kept:
        start, end = time_of(one.get("period_start")), time_of(one.get("period_end"))
        is_invoice = one.get("type") == "invoice" and start is not None and end is not None
        is_next = start is not None and (paid_until is None or start >= paid_until or start == current_period_start)
        if is_invoice and is_next and start is not None and start not in starts:
            paid_until = end
            starts.add(start)
        else:
            start = end = None
        made.append(_payment(one, start, end))
    return tuple(made)


def foreign_of(transactions: Iterable[Mapping[str, Any]]) -> tuple[ForeignPayment, ...]:
    """What was paid in another currency than dollars."""
    return tuple(
        ForeignPayment(
            required(one), f"{net_cents(one) / 100:.2f} {str(one.get('currency'))[:3]}", refunded_cents(one) > 0
        )
        for one in _kept(transactions)
        if one.get("currency") != "USD"
    )


def _kept(transactions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in transactions if _status(one) in _PAID | _REFUNDED | _CHARGED_BACK]


def _payment(one: Mapping[str, Any], start: datetime | None, end: datetime | None) -> VendorPayment:
    amount, refunded = net_cents(one), refunded_cents(one)
    is_charged_back = _status(one) in _CHARGED_BACK
    dispute = None
    if is_charged_back:
        dispute = "lost" if refunded >= amount else "open"
    return VendorPayment(
        reference=required(one),
        amount_micros=from_cents(amount),
        period_start=start,
        period_end=end,
        refunded_micros=from_cents(refunded),
        dispute=dispute,
        paid_at=time_of(one.get("created_at")),
    )


def _status(one: Mapping[str, Any]) -> str:
    return str(one.get("status"))


def net_cents(one: Mapping[str, Any]) -> int:
    """What was paid, without a tax that Creem put on top of the price (a tax within the price stays in it)."""
    amount, discount = cents_of(one.get("amount")), cents_of(one.get("discount_amount"))
    if one.get("amount_paid") is None:
        return max(0, amount - discount)
    paid, tax = cents_of(one["amount_paid"]), cents_of(one.get("tax_amount"))
    return paid - tax if tax and paid - tax in (amount, amount - discount) else paid


def refunded_cents(one: Mapping[str, Any]) -> int:
    """The part of `net_cents` that was given back; Creem counts the tax with it."""
    net = net_cents(one)
    if one.get("status") == "refunded":
        return net
    paid = cents_of(one.get("amount_paid")) or net
    given = cents_of(one.get("refunded_amount"))
    return net if given >= paid else given * net // paid


def event_of(body: bytes) -> PaymentEvent:
    """A verified event. ProviderError (permanent) for one of an unknown shape."""
    try:
        event = json.loads(body)
        about = event["object"]
        vendor_type = event["eventType"]
        created_at = time_of(event["created_at"])
        if not isinstance(about, dict) or not isinstance(vendor_type, str) or created_at is None:
            raise ValueError
        checkout, subscription, payment = _named(about)
        return PaymentEvent(
            event_id=required(event),
            kind=_kind(vendor_type, about),
            vendor_type=vendor_type,
            checkout_reference=checkout,
            subscription_reference=subscription,
            created_at=created_at,
            payment_reference=payment,
            checkout_key=_key_of(about),
            is_made=vendor_type in (_CHANGE_SEEN, _PAYMENT_SEEN),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ProviderError):
        raise ProviderError(
            "A signed event of Creem has an unknown shape.", permanent=True, code="malformed_event"
        ) from None


def _kind(vendor_type: str, about: Mapping[str, Any]) -> PaymentKind:
    if vendor_type == _PAYMENT_SEEN:
        if _status(about) in _CHARGED_BACK:
            return PaymentKind.DISPUTED
        return PaymentKind.REFUNDED if _status(about) in _REFUNDED else PaymentKind.PAYMENT_SUCCEEDED
    if vendor_type == _CHANGE_SEEN:
        is_owing = about.get("status") in ("past_due", "unpaid")
        return PaymentKind.PAYMENT_FAILED if is_owing else PaymentKind.SUBSCRIPTION_CHANGED
    return _KINDS.get(vendor_type, PaymentKind.OTHER)


def _named(about: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """The checkout, subscription and transaction that an event speaks of."""
    itself, what = reference_of(about), about.get("object")
    if what == "checkout":
        paid = whole(about.get("order")).get("transaction")
        return itself, reference_of(about.get("subscription")), reference_of(paid)
    if what == "subscription":
        return None, itself, reference_of(about.get("last_transaction_id"))
    if what == "transaction":
        return None, reference_of(about.get("subscription")), itself
    checkout, subscription = reference_of(about.get("checkout")), reference_of(about.get("subscription"))
    return checkout, subscription, reference_of(about.get("transaction"))


def _key_of(about: Mapping[str, Any]) -> str | None:
    """Our checkout's id: given as `request_id` and in the metadata of a checkout, which its subscription inherits."""
    itself = about if about.get("object") in ("checkout", "subscription") else whole(about.get("checkout"))
    for found in (itself.get("request_id"), whole(itself.get("metadata")).get("checkout")):
        if isinstance(found, str) and 0 < len(found) <= 200:
            return found
    return None


def unseen_subscription(one: Mapping[str, Any], since: datetime) -> bytes | None:
    """An event of our own making about a subscription that changed since then; None for any other."""
    changed_at = time_of(one.get("updated_at"))
    if changed_at is None or changed_at < since:
        return None
    itself = required(one)
    about: dict[str, Any] = {"id": itself, "object": "subscription", "status": one.get("status")}
    if key := reference_of(whole(one.get("metadata")).get("checkout")):
        about["metadata"] = {"checkout": key}
    return _made(_CHANGE_SEEN, [itself, _stamp(changed_at)], changed_at, about)


def unseen_transaction(one: Mapping[str, Any], since: datetime) -> bytes | None:
    """An event of our own making about a new payment of a subscription, or money given back of any payment.

    Refunds and disputes carry no date of their own, so every one of them is told again under the same id.
    """
    created_at, status = time_of(one.get("created_at")), _status(one)
    if created_at is None:
        raise unexpected()
    is_new = status in _PAID and created_at >= since and reference_of(one.get("subscription")) is not None
    if not is_new and status not in _REFUNDED | _CHARGED_BACK:
        return None
    about = {key: one.get(key) for key in ("id", "subscription", "status")} | {"object": "transaction"}
    return _made(_PAYMENT_SEEN, [required(one), status, str(refunded_cents(one))], created_at, about)


def _made(vendor_type: str, words: Sequence[str], at: datetime, about: Mapping[str, Any]) -> bytes:
    made = {"id": "-".join(["seen", *words]), "eventType": vendor_type, "created_at": int(_stamp(at)), "object": about}
    return json.dumps(made, separators=(",", ":")).encode()


def _stamp(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))
