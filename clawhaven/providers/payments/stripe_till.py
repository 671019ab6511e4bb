"""Taking money at Stripe: the page for it, and the saved card while the customer is away.

Source: docs.stripe.com, "Checkout Sessions", "Charge a saved payment method", "Handle declines".
"""

from __future__ import annotations

from typing import Any

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import ChargeRequest, VendorCheckout
from clawhaven.providers.payments.stripe_articles import cents_of, id_of
from clawhaven.providers.payments.stripe_calls import Calls, CardRefused, key_of, unexpected


class Till:
    """Opens sessions and charges saved methods. `home` is the page a customer comes back to after a charge."""

    def __init__(self, calls: Calls, home: str, has_tax: bool) -> None:
        self._calls, self._home, self._has_tax = calls, home, has_tax

    def open(self, key: str, params: dict[str, Any]) -> VendorCheckout:
        """A session, once per `key`."""
        if self._has_tax:
            params["automatic_tax"] = {"enabled": True}
            if "customer" in params:
                params["customer_update"] = {"address": "auto"}
        made = self._calls.write(
            "checkout.sessions.create", noun="customer", key=key_of("checkout", key), params=params
        )
        return VendorCheckout(id_of(made), url_of(made))

    def charge(self, request: ChargeRequest) -> VendorCheckout:
        """See `Payments.charge_saved`: looks for the charge first, then makes it, then reads how it ended."""
        intent = self._made_before(request)
        if intent is None:
            method = self.method(request.customer_reference)
            if method is None:
                return self._ask_to_pay(request)
            intent = self._charge(request, id_of(method))
        code = str((intent.get("last_payment_error") or {}).get("code") or "")
        wants_customer = intent.get("status") == "requires_action" or code == "authentication_required"
        return self._ask_to_pay(request) if wants_customer else VendorCheckout(id_of(intent), "")

    def find(self, request: ChargeRequest) -> VendorCheckout | None:
        """See `Payments.find_charge`. A page to pay on that nobody was sent to is none; nor has a customer whom Stripe
        does not know been charged."""
        try:
            intent = self._made_before(request)
        except ProviderError as error:
            if error.code != "unknown_customer":
                raise
            return None
        return None if intent is None else VendorCheckout(id_of(intent), "")

    def method(self, customer: str) -> dict[str, Any] | None:
        """What would be charged: the customer's default method, or the card saved last."""
        expand = ["invoice_settings.default_payment_method"]
        found = self._calls.read("customers.retrieve", customer, noun="customer", expand=expand)
        chosen = (found.get("invoice_settings") or {}).get("default_payment_method")
        if isinstance(chosen, dict):
            return chosen
        listed = self._calls.pages("payment_methods.list", noun="customer", most=1, customer=customer, type="card")
        return listed[0] if listed else None

    def _made_before(self, request: ChargeRequest) -> dict[str, Any] | None:
        listed = self._calls.pages(
            "payment_intents.list", noun="customer", most=100, customer=request.customer_reference
        )
        return next((one for one in listed if (one.get("metadata") or {}).get("charge") == request.key), None)

    def _charge(self, request: ChargeRequest, method: str) -> dict[str, Any]:
        params = {
            "amount": cents_of(request.amount_micros),
            "currency": "usd",
            "customer": request.customer_reference,
            "payment_method": method,
            "off_session": True,
            "confirm": True,
            "description": request.description,
            "metadata": {**request.metadata, "checkout": request.key, "charge": request.key},
        }
        try:
            return self._calls.write(
                "payment_intents.create", noun="customer", key=key_of("charge", request.key), params=params
            )
        except CardRefused as error:
            if error.intent is None:
                raise
            return error.intent

    def _ask_to_pay(self, request: ChargeRequest) -> VendorCheckout:
        ours = {**request.metadata, "checkout": request.key}
        params = {
            "client_reference_id": request.key,
            "customer": request.customer_reference,
            "success_url": self._home,
            "cancel_url": self._home,
            "metadata": ours,
            **single(request.amount_micros, request.description, ours),
        }
        return self.open(request.key, params)


def single(amount_micros: int, description: str, ours: dict[str, str]) -> dict[str, Any]:
    """What a session for a single payment says of it; its card is kept for `charge_saved`."""
    price = {
        "currency": "usd",
        "unit_amount": cents_of(amount_micros),
        "tax_behavior": "inclusive",
        "product_data": {"name": description},
    }
    return {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 1}],
        "payment_intent_data": {"setup_future_usage": "off_session", "description": description, "metadata": ours},
    }


def url_of(made: dict[str, Any]) -> str:
    """The address of a page of Stripe's; ProviderError for an answer without one."""
    url = made.get("url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://127.0.0.1:")):
        raise unexpected()
    return url
