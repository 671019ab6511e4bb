"""What the stand-in for Creem keeps, and what its customers, their banks and its calendar do there."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

SECRET = "whsec_of_the_stand_in"
PERIOD = timedelta(days=30)
TOPUP, PERSONAL, METERED, MONTHLY, YEARLY = "prod_topup", "prod_personal", "prod_metered", "prod_monthly", "prod_yearly"

Json = dict[str, Any]


def product(name: str, price: int, period: str = "once", **more: Any) -> Json:
    """A product as Creem shows it."""
    kind = "onetime" if period == "once" else "recurring"
    return {
        "id": name,
        "mode": "test",
        "object": "product",
        "name": name,
        "description": name,
        "price": price,
        "currency": "USD",
        "billing_type": kind,
        "billing_period": period,
        "status": "active",
        "tax_mode": "exclusive",
        "tax_category": "saas",
        **more,
    }


class Books:
    """Products, customers, checkouts, subscriptions, transactions, discounts, and every event told so far."""

    def __init__(self, tax_percent: int = 0) -> None:
        self.products = {
            one["id"]: one
            for one in (
                product(TOPUP, 100),
                product(PERSONAL, 2900, "every-month"),
                product(METERED, 5900, "every-month"),
                product(MONTHLY, 900, "every-month"),
                product(YEARLY, 29900, "every-year"),
            )
        }
        self.tax_percent = tax_percent
        self.checkouts: dict[str, Json] = {}
        self.subscriptions: dict[str, Json] = {}
        self.transactions: dict[str, Json] = {}
        self.customers: dict[str, Json] = {}
        self.discounts: dict[str, Json] = {}
        self.declining: set[str] = set()
        self.told: list[tuple[dict[str, Any], bytes]] = []
        self.url = ""
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    def pay(self, checkout_id: str) -> None:
        """The customer pays on the page."""
        with self._lock:
            checkout = self.checkouts[checkout_id]
            sold, units = self.products[checkout["product"]], checkout["units"]
            customer = checkout.pop("wanted_customer")
            code = checkout.pop("discount_code")
            order = {"id": self._id("ord"), "object": "order", "customer": customer["id"], "product": sold["id"]}
            subscription = None
            if sold["billing_type"] == "recurring":
                subscription = self._subscribe(sold, customer["id"], checkout["metadata"], code)
            transaction = self._charge(sold["price"] * units, customer["id"], order["id"], subscription)
            order |= {"status": "paid", "type": sold["billing_type"], "transaction": transaction["id"]}
            checkout |= {"status": "completed", "order": order, "customer": customer}
            if subscription is not None:
                checkout["subscription"] = subscription["id"]
                self.tell("subscription.active", self._shown(subscription))
            self.tell("checkout.completed", self.shown_checkout(checkout))
            if subscription is not None:
                self.tell("subscription.paid", self._shown(subscription))

    def expire(self, checkout_id: str) -> None:
        """Nobody paid."""
        self.checkouts[checkout_id]["status"] = "expired"

    def renew(self, subscription_id: str) -> None:
        """The period ends: the next one is charged, or the charge fails."""
        with self._lock:
            one = self.subscriptions[subscription_id]
            one["updated_at"] = iso(now())
            if one["status"] == "paused":
                return
            if one["customer"] in self.declining:
                one["status"] = "past_due"
                self._add({"amount": 2900, "amount_paid": None, "status": "declined"}, one["customer"], None, one)
                self.tell("subscription.past_due", self._shown(one))
                return
            start = datetime.fromisoformat(one["current_period_end_date"])
            self._move_period(one, start)
            self._charge(self.products[one["product"]]["price"], one["customer"], None, one)
            self.tell("subscription.paid", self._shown(one))

    def give_back(self, transaction_id: str, cents: int) -> None:
        """A refund in the dashboard; `cents` includes the tax."""
        with self._lock:
            one = self.transactions[transaction_id]
            one["refunded_amount"] = (one["refunded_amount"] or 0) + cents
            one["status"] = "refunded" if one["refunded_amount"] >= one["amount_paid"] else "partialRefund"
            about = {"id": self._id("ref"), "object": "refund", "status": "succeeded", "refund_amount": cents}
            self.tell("refund.created", about | self._around(one))

    def dispute(self, transaction_id: str, outcome: Literal["open", "won", "lost"]) -> None:
        """The customer's bank objects; Creem's events tell only that."""
        with self._lock:
            one = self.transactions[transaction_id]
            one["status"] = "paid" if outcome == "won" else "chargedBack"
            one["refunded_amount"] = one["amount_paid"] if outcome == "lost" else None
            if outcome == "open":
                about = {"id": self._id("disp"), "object": "dispute", "amount": one["amount_paid"]}
                self.tell("dispute.created", about | self._around(one))

    def tell(self, event_type: str, about: Json) -> None:
        """Sign an event and keep it in `told`."""
        made = {"id": self._id("evt"), "eventType": event_type, "created_at": ms(now()), "object": about}
        body = json.dumps(made).encode()
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        self.told.append(({"creem-signature": signature, "content-type": "application/json"}, body))

    def shown_checkout(self, checkout: Json) -> Json:
        """A checkout with what belongs to it whole, as Creem shows a completed one."""
        hidden = {"discount_code", "wanted_customer"}
        shown = {key: value for key, value in checkout.items() if key not in hidden}
        shown["product"] = self.products[checkout["product"]]
        if "subscription" in shown:
            shown["subscription"] = self._shown(self.subscriptions[shown["subscription"]])
        return shown

    def _subscribe(self, sold: Json, customer: str, metadata: Json, code: str | None) -> Json:
        at = now()
        found = {
            "id": self._id("sub"),
            "mode": "test",
            "object": "subscription",
            "status": "active",
            "product": sold["id"],
            "customer": customer,
            "collection_method": "charge_automatically",
            "created_at": iso(at),
            "updated_at": iso(at),
            "canceled_at": None,
            "metadata": metadata,
            "discount_code": code,
        }
        self._move_period(found, at)
        self.subscriptions[found["id"]] = found
        return found

    def _move_period(self, one: Json, start: datetime) -> None:
        one["current_period_start_date"] = iso(start)
        one["current_period_end_date"] = one["next_transaction_date"] = iso(start + PERIOD)

    def _charge(
        self,
        amount: int,
        customer: str,
        order: str | None,
        subscription: Json | None,
        period: tuple[datetime, datetime] | None = None,
    ) -> Json:
        discount = self.discounts.get((subscription or {}).get("discount_code") or "", {})
        off = round(amount * discount.get("percentage", 0) / 100) + discount.get("amount", 0) if not period else 0
        tax = round((amount - off) * self.tax_percent / 100)
        money = {"amount": amount, "discount_amount": off, "tax_amount": tax, "amount_paid": amount - off + tax}
        found = self._add({**money, "status": "paid"}, customer, order, subscription, period)
        if subscription is not None:
            subscription["last_transaction_id"] = found["id"]
        return found

    def _add(
        self,
        money: Json,
        customer: str,
        order: str | None,
        subscription: Json | None,
        period: tuple[datetime, datetime] | None = None,
    ) -> Json:
        at = now()
        found: Json = {
            "id": self._id("tran"),
            "mode": "test",
            "object": "transaction",
            "currency": "USD",
            **money,
            "type": "payment",
            "refunded_amount": None,
            "order": order,
            "customer": customer,
            "subscription": None,
            "created_at": max([ms(at), *(one["created_at"] + 1 for one in self.transactions.values())]),
        }
        if subscription is not None:
            names = ("current_period_start_date", "current_period_end_date")
            start, end = period or tuple(datetime.fromisoformat(subscription[name]) for name in names)
            found |= {"type": "invoice", "subscription": subscription["id"]}
            found |= {"period_start": ms(start), "period_end": ms(end)}
        self.transactions[found["id"]] = found
        return found

    def _shown(self, one: Json) -> Json:
        shown = {key: value for key, value in one.items() if key != "discount_code"}
        customers = {known["id"]: known for known in self.customers.values()}
        return shown | {"product": self.products[one["product"]], "customer": customers[one["customer"]]}

    def _around(self, one: Json) -> Json:
        """A transaction and what belongs to it, as refunds and disputes are told."""
        found: Json = {"transaction": one, "customer": {"id": one["customer"], "object": "customer"}}
        if one["subscription"]:
            found["subscription"] = self._shown(self.subscriptions[one["subscription"]])
        return found

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):04d}"


def now() -> datetime:
    """UTC, in whole milliseconds as Creem keeps them."""
    found = datetime.now(UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def iso(at: datetime) -> str:
    """A time as Creem writes it in objects."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms(at: datetime) -> int:
    """A time as Creem writes it in transactions and events."""
    return round(at.timestamp() * 1000)
