"""What the stand-in for Stripe remembers, and how money moves there; shapes of version 2026-10-28."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
_DAYS = {"month": 30, "year": 365}


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str = "", message: str = "", kind: str = "", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": kind or "invalid_request_error", "code": code, "message": message, **more}


class Books:
    """Every object by its id, newest last, and the events that came of them."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.cards: dict[str, str] = {}
        """Payment method -> how it behaves: works, declined, needs_3ds."""
        self.lines: dict[str, list[Json]] = {}
        """Invoice -> all its lines; the object itself shows the first ten."""
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)

    def put(self, kind: str, prefix: str, **fields: Any) -> Json:
        """A new object; `id` may be given."""
        made = {"id": f"{prefix}_{next(self._numbers):04d}", "object": kind, "created": int(time.time()), **fields}
        self.objects[made["id"]] = made
        return made

    def find(self, reference: Any, kind: str) -> Json:
        found = self.objects.get(str(reference))
        if found is None or found["object"] != kind:
            raise Refused(404, "resource_missing", f"No such {kind}: '{reference}'")
        return found

    def all(self, kind: str, **wanted: Any) -> list[Json]:
        """Newest first, as Stripe lists."""
        found = [one for one in self.objects.values() if one["object"] == kind]
        return [one for one in reversed(found) if all(one.get(name) == value for name, value in wanted.items())]

    def tell(self, kind: str, told: Json) -> None:
        self.put("event", "evt", type=kind, api_version="2026-10-28.endive", data={"object": dict(told)})

    # Money

    def save_card(self, customer: str, behaviour: str = "works") -> str:
        card = {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2040}
        method = self.put("payment_method", "pm", type="card", customer=customer, card=card)
        self.cards[method["id"]] = behaviour
        self.find(customer, "customer")["invoice_settings"] = {"default_payment_method": method["id"]}
        return str(method["id"])

    def take(self, customer: str, cents: int, metadata: Json, method: str = "", off_session: bool = True) -> Json:
        """A payment intent, succeeded or not."""
        behaviour = self.cards.get(method, "works") if off_session else "works"
        code = {"declined": "card_declined", "needs_3ds": "authentication_required"}.get(behaviour)
        intent = self.put(
            "payment_intent", "pi", amount=cents, amount_received=0 if code else cents, currency="usd",
            customer=customer, metadata=metadata, status="requires_payment_method" if code else "succeeded",
            last_payment_error={"code": code, "type": "card_error"} if code else None, latest_charge=None,
        )  # fmt: skip
        if not code:
            booked = self.put("balance_transaction", "txn", fee=30 + cents * 29 // 1000, currency="usd", amount=cents)
            charge = self.put(
                "charge", "ch", amount=cents, amount_refunded=0, paid=True, disputed=False, customer=customer,
                payment_intent=intent["id"], balance_transaction=booked["id"], receipt_number=None,
                receipt_url="https://pay.stripe.com/receipts/1", description=None,
            )  # fmt: skip
            intent["latest_charge"] = charge["id"]
        self.tell("payment_intent.payment_failed" if code else "payment_intent.succeeded", intent)
        return intent

    def bill(self, sub: Json, reason: str, lines: list[tuple[int, bool]], off_session: bool = True) -> Json:
        """An invoice of (cents, is a proration) lines, paid at once if the card works."""
        item = sub["items"]["data"][0]
        period = {"start": item["current_period_start"], "end": item["current_period_end"]}
        details = {"price": item["price"]["id"], "product": item["price"]["product"]}
        drawn = [
            {
                "id": f"il_{next(self._numbers)}", "object": "line_item", "amount": cents, "description": "Plan",
                "period": period,
                "parent": {"type": "subscription_item_details", "subscription_item_details": {"proration": part}},
                "pricing": {"type": "price_details", "price_details": details},
            }
            for cents, part in lines
        ]  # fmt: skip
        total = max(0, sum(cents for cents, _ in lines))
        intent = None
        if total:
            method = self.find(sub["customer"], "customer")["invoice_settings"]["default_payment_method"]
            intent = self.take(sub["customer"], total, {}, method, off_session)
        is_paid = intent is None or intent["status"] == "succeeded"
        parts = [] if intent is None else [
            {"object": "invoice_payment", "status": "paid" if is_paid else "open", "amount_paid": total,
             "payment": {"type": "payment_intent", "payment_intent": intent["id"]}}
        ]  # fmt: skip
        invoice = self.put(
            "invoice", "in", status="paid" if is_paid else "open", attempted=True, total=total, billing_reason=reason,
            amount_paid=total if is_paid else 0, amount_remaining=0 if is_paid else total, customer=sub["customer"],
            number=f"A-{next(self._numbers)}", hosted_invoice_url="https://invoice.stripe.com/i/1", description=None,
            invoice_pdf="https://invoice.stripe.com/i/1.pdf", status_transitions={"paid_at": int(time.time())},
            lines={"object": "list", "data": drawn[:10], "has_more": len(drawn) > 10},
            payments={"object": "list", "data": parts},
            parent={"type": "subscription_details", "subscription_details": {"subscription": sub["id"]}},
            subscription_for_filter=sub["id"],
        )  # fmt: skip
        self.lines[invoice["id"]] = drawn
        self.tell("invoice.paid" if is_paid else "invoice.payment_failed", invoice)
        return invoice

    # What a customer, a bank or the calendar does

    def pay(self, reference: str) -> None:
        """The customer pays on the page."""
        with self._lock:
            session = self.find(reference, "checkout.session")
            self.save_card(session["customer"])
            session |= {"status": "complete", "payment_status": "paid"}
            if session["mode"] == "payment":
                asked = session["asked"]["payment_intent_data"]
                cents = int(session["asked"]["line_items"][0]["price_data"]["unit_amount"])
                intent = self.take(session["customer"], cents, asked["metadata"], off_session=False)
                session["payment_intent"] = intent["id"]
            else:
                session["subscription"] = self._begin(session)["id"]
            self.tell("checkout.session.completed", session)

    def _begin(self, session: Json) -> Json:
        asked, now = session["asked"], int(time.time())
        data, price = asked["subscription_data"], self.find(asked["line_items"][0]["price"], "price")
        trial = int(data.get("trial_period_days", 0)) * 86_400
        item = {"id": f"si_{next(self._numbers)}", "object": "subscription_item", "price": price, "quantity": 1}
        item |= {"current_period_start": now, "current_period_end": now + (trial or self._length(price))}
        sub = self.put(
            "subscription", "sub", status="trialing" if trial else "active", customer=session["customer"],
            metadata=data["metadata"], items={"object": "list", "data": [item]}, cancel_at_period_end=False,
            cancel_at=None, canceled_at=None, pause_collection=None, trial_end=now + trial if trial else None,
        )  # fmt: skip
        cents = 0 if trial else price["unit_amount"]
        for one in asked.get("discounts", []):
            coupon = self.find(one["coupon"], "coupon")
            cents -= int(coupon.get("amount_off") or cents * int(coupon.get("percent_off", 0)) // 100)
        self.tell("customer.subscription.created", sub)
        self.bill(sub, "subscription_create", [(cents, False)], off_session=False)
        return sub

    def renew(self, reference: str) -> None:
        """The period or trial ends; the next one is billed."""
        with self._lock:
            sub = self.find(reference, "subscription")
            item = sub["items"]["data"][0]
            start = item["current_period_end"]
            item |= {"current_period_start": start, "current_period_end": start + self._length(item["price"])}
            if sub["pause_collection"]:
                sub["status"] = "active"  # the invoice is void at once
                self.tell("customer.subscription.updated", sub)
                return
            invoice = self.bill(sub, "subscription_cycle", [(item["price"]["unit_amount"], False)])
            sub["status"] = "active" if invoice["status"] == "paid" else "past_due"
            self.tell("customer.subscription.updated", sub)

    def dispute(self, intent: str, status: str, cents: int | None = None) -> None:
        """The bank takes a payment back, or has decided; `cents` of it, else all."""
        with self._lock:
            charge = self.find(self.find(intent, "payment_intent")["latest_charge"], "charge")
            charge["disputed"] = True
            known = self.all("dispute", payment_intent=intent)
            made = known[0] if known else self.put("dispute", "du", payment_intent=intent, charge=charge["id"])
            made |= {"amount": cents or charge["amount"], "currency": "usd"}
            made |= {"status": status, "evidence_details": {"due_by": int(time.time()) + 7 * 86_400}}
            self.tell("charge.dispute.closed" if known else "charge.dispute.created", made)

    @staticmethod
    def _length(price: Json) -> int:
        return int(price["recurring"]["interval_count"]) * _DAYS[price["recurring"]["interval"]] * 86_400


def when(seconds: int) -> datetime:
    """Unix seconds as a time."""
    return datetime.fromtimestamp(seconds, UTC)
