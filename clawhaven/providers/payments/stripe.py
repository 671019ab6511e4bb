"""Stripe: subscriptions, single payments and charges of a saved card, through its official library.

Source: docs.stripe.com/api, version 2026-10-28. What is made is found again by our own names: an idempotency key on
every POST, our ids in metadata, and, where a key would be forgotten after a day, a look before the act.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from pydantic import Field, SecretStr

from clawhaven.core.clock import Clock
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import (
    BadSignature,
    Capability,
    ChargeRequest,
    CheckoutRequest,
    FeeRate,
    ListedSubscription,
    PaymentEvent,
    Price,
    SavedMethod,
    VendorCheckout,
    VendorInvoice,
    VendorState,
)
from clawhaven.providers.payments import stripe_customers, stripe_papers, stripe_portal, stripe_settings
from clawhaven.providers.payments import stripe_objects as objects
from clawhaven.providers.payments.signature import sign, verify
from clawhaven.providers.payments.stripe_articles import MONTHS, Articles, cents_of, id_of
from clawhaven.providers.payments.stripe_calls import Calls, key_of, refused, unexpected
from clawhaven.providers.payments.stripe_till import Till, single, url_of

HEADER: Final = "stripe-signature"
_MOST_UNSEEN: Final = 10_000
_ORIGINS: Final = (
    "https://checkout.stripe.com",
    "https://billing.stripe.com",
    "https://invoice.stripe.com",
    "https://pay.stripe.com",
)


class Stripe:
    """Implements ports.payments.Payments; every verb may be called from several threads and processes."""

    name = "stripe"
    capabilities = frozenset(Capability)
    is_for_production = True
    is_customer_by_email = False
    fee_rate: FeeRate | None = None

    class Options(EnvSettings):
        """Settings of Stripe."""

        stripe_secret_key: SecretStr = Field(
            SecretStr(""), description="Stripe's secret key: sk_live_… in production, sk_test_… elsewhere."
        )
        stripe_webhook_secret: SecretStr = Field(
            SecretStr(""), description="Checks Stripe's events; several by comma while it is being changed."
        )
        stripe_api_url: str = Field(stripe_settings.LIVE_URL, description="Stripe's API.")
        stripe_prices: str = Field(
            "",
            description="Prices of your own making to sell plans at: `personal=price_1, yearly=price_2`. Default:"
            " prices are found or made by plan, amount and interval.",
        )
        stripe_automatic_tax: bool = Field(False, description="Let Stripe Tax work out the tax; prices include it.")
        stripe_checkout_origins: str = Field(
            "", description="Further origins of Stripe's pages, by comma, where they have a domain of your own."
        )

    def __init__(self, options: Options, settings: Settings, clock: Clock | None = None) -> None:
        url = options.stripe_api_url.rstrip("/")
        self._calls = Calls(url, options.stripe_secret_key.get_secret_value())
        self._secrets = stripe_settings.words(options.stripe_webhook_secret.get_secret_value())
        self._articles = Articles(self._calls, stripe_settings.chosen_prices(options.stripe_prices))
        self._till = Till(self._calls, f"{settings.base_url}/dashboard", options.stripe_automatic_tax)
        self._clock = clock or Clock()
        self.checkout_origins = (*_ORIGINS, *stripe_settings.words(options.stripe_checkout_origins))

    @classmethod
    def problems(cls, options: Options, settings: Settings) -> list[str]:
        """Everything missing or malformed in the settings, a sentence each."""
        return list(
            stripe_settings.problems(
                settings,
                key=options.stripe_secret_key.get_secret_value(),
                secrets=options.stripe_webhook_secret.get_secret_value(),
                url=options.stripe_api_url,
                origins=options.stripe_checkout_origins,
                prices=options.stripe_prices,
            )
        )

    @classmethod
    def plan_problems(
        cls, options: Options, settings: Settings, *, sold: Collection[str], known: Collection[str]
    ) -> list[str]:
        """Prices of plans that there are not, a sentence each; a plan without a price gets one when it is sold."""
        return list(stripe_settings.plan_problems(options.stripe_prices, known))

    def create_checkout(self, request: CheckoutRequest) -> VendorCheckout:
        """Create the session for `request.key`, or return the one made before (Stripe remembers a day, as long as an
        unpaid session lives). ProviderError (permanent) `idempotency_mismatch` for the same key with other terms."""
        ours = {**request.metadata, "checkout": request.key}
        params: dict[str, Any] = {
            "client_reference_id": request.key,
            "success_url": request.success_url,
            "cancel_url": request.cancel_url,
            "metadata": ours,
        }
        if request.customer_reference or request.account_id:
            params["customer"] = request.customer_reference or self._articles.customer(
                request.email, request.account_id
            )
        else:
            params["customer_email"] = request.email
        if request.interval is None:
            params |= single(request.amount_micros, request.description, ours)
            if "customer" not in params:
                params["customer_creation"] = "always"
        else:
            price = Price(request.plan, request.description, request.amount_micros, request.interval)
            params |= {"mode": "subscription", "line_items": [{"price": self._articles.price_id(price), "quantity": 1}]}
            params["subscription_data"] = {"metadata": ours}
            if request.trial_days:
                params["subscription_data"]["trial_period_days"] = request.trial_days
        if request.discount is not None:
            params["discounts"] = [{"coupon": self._articles.coupon(request.discount)}]
        return self._till.open(request.key, params)

    def fetch(self, checkout_reference: str) -> VendorState:
        """What Stripe says now: one call for a single payment, three for a subscription, one more if disputed."""
        if checkout_reference.startswith("pi_"):
            return self._fetch_charge(checkout_reference)
        session = self._calls.read(
            "checkout.sessions.retrieve",
            checkout_reference,
            noun="checkout",
            expand=["subscription", "payment_intent.latest_charge.balance_transaction"],
        )
        customer = objects.reference_of(session.get("customer"))
        intent, raw = session.get("payment_intent"), session.get("subscription")
        state = _checkout_state(session)
        if isinstance(raw, dict):
            return self._fetch_subscription(state, raw, customer)
        if not isinstance(intent, dict):
            return VendorState(state, (), None, customer)
        return self._state_of(state, intent, customer)

    def cancel(self, subscription_reference: str, at_period_end: bool) -> None:
        """End a subscription now or with its period; already ended, or marked to end then, is success."""
        found = self._subscription(subscription_reference)
        is_marked = bool(found.get("cancel_at_period_end") or found.get("cancel_at"))
        if objects.state_of(found) == "canceled" or (at_period_end and is_marked):
            return
        if at_period_end:
            self._update(found, "cancel", {"cancel_at_period_end": True})
            return
        try:
            self._calls.write(
                "subscriptions.cancel", subscription_reference, noun="subscription", key="", params={"prorate": False}
            )
        except ProviderError as error:
            if error.code != "unknown_subscription":  # somebody else ended it in between
                raise

    def undo_cancel(self, subscription_reference: str) -> None:
        """Take back a cancel at period end. ProviderError (permanent) `subscription_ended` when it is too late."""
        found = self._subscription(subscription_reference)
        if objects.state_of(found) == "canceled":
            raise refused("subscription_ended", "This subscription has ended.")
        if found.get("cancel_at_period_end"):
            self._update(found, "undo", {"cancel_at_period_end": False})
        elif found.get("cancel_at"):
            self._update(found, "undo", {"cancel_at": ""})

    def pause(self, subscription_reference: str) -> None:
        """Void every invoice until `resume`: a period that begins meanwhile is never charged. What was billed before
        is still asked for. Paused already (whatever becomes of its invoices) or ended is success.

        Source: docs.stripe.com/billing/subscriptions/pause-payment.
        """
        found = self._subscription(subscription_reference)
        if objects.state_of(found) != "canceled" and not found.get("pause_collection"):
            self._update(found, "pause", {"pause_collection": {"behavior": "void"}})

    def resume(self, subscription_reference: str) -> None:
        """Collect again, from the next invoice on; not paused, or ended, is success."""
        found = self._subscription(subscription_reference)
        if objects.state_of(found) != "canceled" and found.get("pause_collection"):
            self._update(found, "resume", {"pause_collection": ""})

    def change_plan(self, subscription_reference: str, price: Price, key: str) -> None:
        """Move to another price now. Dearer, or another interval: the difference is charged at once and the change
        happens when it is paid (`pay_url` tells where, if the card would not). Cheaper: what is left of the period
        is taken off the next invoice."""
        found = self._subscription(subscription_reference)
        if objects.state_of(found) == "canceled":
            raise refused("subscription_ended", "This subscription has ended.")
        wanted = self._articles.price_id(price)
        (item, *_) = (found.get("items") or {}).get("data") or [{}]
        old = item.get("price") or {}
        if old.get("id") == wanted:
            return
        is_cheaper = _months_of(old) == MONTHS[price.interval] and cents_of(price.amount_micros) < (
            old.get("unit_amount") or 0
        )
        params: dict[str, Any] = {"items": [{"id": id_of(item), "price": wanted, "quantity": 1}]}
        if is_cheaper:
            params["proration_behavior"] = "create_prorations"
        else:
            params |= {"proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
        self._calls.write(
            "subscriptions.update",
            subscription_reference,
            noun="subscription",
            key=key_of("change", subscription_reference, key, old.get("id"), params),
            params=params,
        )

    def refund(self, payment_reference: str, amount_micros: int | None, key: str) -> str:
        """Give money back once per `key`, also when Stripe has forgotten the key: ours is in the refund's metadata.
        None: all that is left of the payment."""
        if not payment_reference.startswith("pi_"):
            raise refused("nothing_paid", "Nothing was paid here that Stripe could give back.")
        for one in self._calls.pages("refunds.list", noun="payment", payment_intent=payment_reference):
            if (one.get("metadata") or {}).get("refund") == key and one.get("status") not in ("failed", "canceled"):
                return id_of(one)
        params: dict[str, Any] = {"payment_intent": payment_reference, "metadata": {"refund": key}}
        if amount_micros is not None:
            params["amount"] = cents_of(amount_micros)
        found = self._calls.write("refunds.create", noun="payment", key=key_of("refund", key), params=params)
        return id_of(found)

    def charge_saved(self, request: ChargeRequest) -> VendorCheckout:
        """Charge the saved method once per key. Where the bank wants the customer, or nothing is saved, the answer is
        a checkout page for the same amount, good for a day."""
        return self._till.charge(request)

    def find_charge(self, request: ChargeRequest) -> VendorCheckout | None:
        """What `charge_saved` charged under this key, whatever became of it."""
        return self._till.find(request)

    def portal_url(self, customer_reference: str, return_url: str) -> str:
        """Stripe's page for payment method and invoices, at a new address every time: as `admin stripe setup` made it,
        else as it is in Stripe's dashboard."""
        params = {"customer": customer_reference, "return_url": return_url}
        configured = stripe_portal.find(self._calls)
        if configured is not None:
            params["configuration"] = id_of(configured)
        # A key of its own each time: a remembered answer would be an address that has expired.
        key = key_of("portal", uuid.uuid4())
        return url_of(self._calls.write("billing_portal.sessions.create", noun="customer", key=key, params=params))

    def invoices(self, customer_reference: str) -> list[VendorInvoice]:
        """Invoices, and receipts of payments that have none, newest first; those in US dollars."""
        found = self._calls.pages(
            "invoices.list", noun="customer", most=100, customer=customer_reference, expand=["data.payments"]
        )
        charges = self._calls.pages("charges.list", noun="customer", most=100, customer=customer_reference)
        known = objects.intents_of(found)
        listed = [
            stripe_papers.invoice_of(one) for one in found if one.get("status") != "draft" and objects.is_dollars(one)
        ]
        listed += [
            stripe_papers.receipt_of(one)
            for one in charges
            if one.get("paid")
            and objects.is_dollars(one)
            and objects.reference_of(one.get("payment_intent")) not in known
        ]
        return sorted(listed, key=lambda one: one.created_at, reverse=True)[:100]

    def saved_method(self, customer_reference: str) -> SavedMethod | None:
        """The customer's default method, or the card saved last."""
        found = self._till.method(customer_reference)
        return stripe_papers.method_of(found) if found else None

    def move_customer(self, customer_reference: str, email: str) -> None:
        """Stripe sends receipts and invoices there from now on."""
        stripe_customers.move(self._calls, customer_reference, email)

    def remove_customer(self, customer_reference: str) -> None:
        """Delete the customer; their payments, invoices and refunds stay readable, as the books need them."""
        stripe_customers.remove(self._calls, customer_reference)

    def list_subscriptions(self) -> list[ListedSubscription]:
        """Every subscription with our metadata that has not ended."""
        listed = []
        for one in self._calls.pages("subscriptions.list", noun="subscription", most=100_000):
            key, state = objects.reference_of((one.get("metadata") or {}).get("checkout")), objects.state_of(one)
            if key is not None and state != "canceled":
                customer = objects.reference_of(one.get("customer"))
                seen = objects.listed_subscription(one, self._articles.plan_of)
                listed.append(ListedSubscription(id_of(one), state, key, customer, seen))
        return listed

    def parse_event(self, headers: Mapping[str, str], body: bytes) -> PaymentEvent:
        """Verify over the raw bytes and normalise. BadSignature first; ProviderError (permanent) for another shape."""
        given = [value for name, value in headers.items() if name.lower() == HEADER]
        if len(given) != 1:
            raise BadSignature("the event has no single signature header")
        verify(given[0], body, self._secrets, self._clock.now())
        return objects.event_of(body)

    def unseen(self, since: datetime) -> list[tuple[dict[str, Any], bytes]]:
        """Stripe's events since then (it keeps thirty days), oldest first, signed here with our own secret; of more
        than 10,000 the newest."""
        if not self._secrets:
            raise refused("no_webhook_secret", "STRIPE_WEBHOOK_SECRET is missing.")
        created = {"gte": int(since.timestamp())}
        found = self._calls.pages(
            "events.list", noun="event", most=_MOST_UNSEEN, created=created, types=list(objects.EVENTS)
        )
        now = int(self._clock.now().timestamp())
        # The library makes a Decimal of what is text at Stripe (`unit_amount_decimal`): text again.
        bodies = [json.dumps(one, separators=(",", ":"), default=str).encode() for one in reversed(found)]
        return [({HEADER: sign(self._secrets[0], now, body)}, body) for body in bodies]

    # Reading

    def _subscription(self, reference: str) -> dict[str, Any]:
        return self._calls.read("subscriptions.retrieve", reference, noun="subscription")

    def _fetch_charge(self, reference: str) -> VendorState:
        expand = ["latest_charge.balance_transaction"]
        intent = self._calls.read("payment_intents.retrieve", reference, noun="checkout", expand=expand)
        states = {"succeeded": "paid", "processing": "processing"}
        state = states.get(str(intent.get("status")), "declined")
        return self._state_of(state, intent, objects.reference_of(intent.get("customer")))

    def _fetch_subscription(self, state: str, raw: dict[str, Any], customer: str | None) -> VendorState:
        invoices = self._calls.pages("invoices.list", noun="invoice", subscription=id_of(raw), expand=["data.payments"])
        charges = stripe_customers.charges(self._calls, customer)
        for one in invoices:
            if objects.is_cut_short(one.get("lines")):
                lines = self._calls.pages("invoices.line_items.list", id_of(one), noun="invoice")
                one["lines"] = {"data": lines, "has_more": False}
        wanted = objects.intents_of(invoices)
        charges = [one for one in charges if objects.reference_of(one.get("payment_intent")) in wanted]
        receipts = objects.Receipts(charges, self._disputes(charges), self._articles.plan_of)
        payments = receipts.of_invoices(invoices, int(raw.get("trial_end") or 0))
        seen = objects.subscription_of(raw, self._articles.plan_of, objects.pay_url_of(invoices))
        return VendorState(state, payments, seen, customer, receipts.foreign_of_invoices(invoices))

    def _state_of(self, state: str, intent: dict[str, Any], customer: str | None) -> VendorState:
        charge = intent.get("latest_charge")
        charges = [charge] if isinstance(charge, dict) else []
        receipts = objects.Receipts(charges, self._disputes(charges), self._articles.plan_of)
        payment, foreign = receipts.of_intent(intent), receipts.foreign_of_intent(intent)
        return VendorState(state, (payment,) if payment else (), None, customer, (foreign,) if foreign else ())

    def _disputes(self, charges: list[dict[str, Any]]) -> dict[str, objects.Dispute]:
        found = {}
        for charge in charges:
            intent = objects.reference_of(charge.get("payment_intent"))
            if charge.get("disputed") and intent:
                listed = self._calls.pages("disputes.list", noun="payment", payment_intent=intent)
                worst = objects.weightiest([objects.dispute_of(one) for one in listed])
                fee = sum(map(objects.dispute_fee_of, listed))
                found[intent] = replace(worst or objects.Dispute("open"), fee=fee)
        return found

    def _update(self, found: dict[str, Any], word: str, params: dict[str, Any]) -> None:
        # What is set is the same however often it is set, and a remembered answer would set nothing: a key of its own
        # each time, else cancel, undo and cancel again within a day would leave it uncancelled.
        key = key_of(word, id_of(found), uuid.uuid4())
        self._calls.write("subscriptions.update", id_of(found), noun="subscription", key=key, params=params)


def _checkout_state(session: dict[str, Any]) -> str:
    status = session.get("status")
    if status in ("open", "expired"):
        return str(status)
    if status != "complete":
        raise unexpected()
    if session.get("payment_status") != "unpaid":
        return "paid"
    intent = session.get("payment_intent")
    failed = isinstance(intent, dict) and intent.get("status") in ("requires_payment_method", "canceled")
    return "declined" if failed else "processing"  # a bank transfer or debit may take days


def _months_of(price: dict[str, Any]) -> int:
    recurring = price.get("recurring") or {}
    return {"month": 1, "year": 12}.get(str(recurring.get("interval")), 0) * int(recurring.get("interval_count") or 0)
