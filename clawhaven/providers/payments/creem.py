"""Creem, a merchant of record: it is the seller, collects and remits the taxes, and pays out what is left.

Top-ups are units of a product that costs one dollar; a plan is a product of its own. Creem cannot charge a saved
method, has no trial per checkout and no invoice files in its API (its portal has them), and its refunds are for a
whole payment, answer no id and take no key: refund in its dashboard, the event leads the books.
Source: docs.creem.io (API reference, Webhooks, Discount codes, Managing subscriptions).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pydantic import Field, SecretStr

from clawhaven.core.clock import Clock
from clawhaven.core.money import MICROS_PER_DOLLAR, from_cents, to_cents
from clawhaven.core.settings import EnvSettings, Settings
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
from clawhaven.providers.payments import creem_discounts, creem_settings
from clawhaven.providers.payments import creem_objects as objects
from clawhaven.providers.payments.creem_calls import Calls, not_offered, refused, too_early, unexpected
from clawhaven.providers.payments.creem_memory import Memory
from clawhaven.providers.payments.signature import sign_body, verify_body

HEADER: Final = "creem-signature"
_CHECKOUT_ORIGINS: Final = ("https://checkout.creem.io", "https://www.creem.io", "https://creem.io")
_PRODUCT_SECONDS: Final = 300.0
"""So long a product's price is believed before it is read again."""

_MOST_UNITS: Final = 10_000
_MOST_UNSEEN: Final = 2_000

log = logging.getLogger(__name__)


class Creem:
    """Implements ports.payments.Payments; every verb may be called from several threads and processes."""

    name = "creem"
    capabilities = frozenset(
        {
            Capability.SUBSCRIPTIONS,
            Capability.TOPUPS,
            Capability.COUPONS,
            Capability.CHANGE_PLAN,
            Capability.UNDO_CANCEL,
            Capability.PAUSE,
            Capability.PORTAL,
        }
    )
    is_for_production = True
    is_customer_by_email = True
    topup_unit_micros = 1_000_000
    """Top-ups are units of a one-dollar product."""

    class Options(EnvSettings):
        """Settings of Creem."""

        creem_api_key: SecretStr = Field(SecretStr(""), description="Creem's API key; creem_test_… is test mode.")
        creem_webhook_secret: SecretStr = Field(
            SecretStr(""), description="Checks Creem's events; several by comma while it is being changed."
        )
        creem_api_url: str = Field("", description="Creem's API. Default: live or test mode, as the key is.")
        creem_topup_product: str = Field(
            "", description="The one-time product of 1 US dollar that top-ups are units of."
        )
        creem_products: str = Field(
            "",
            description="Which product a plan is sold as: `personal=prod_1, yearly=prod_2`. A plan's first is sold;"
            " further ones, with an older price, are recognised.",
        )
        creem_checkout_origins: str = Field(
            "", description="Further origins of Creem's page, by comma, where it has a domain of your own."
        )
        creem_fee_percent: Decimal = Field(
            Decimal("3.9"),
            ge=0,
            le=100,
            description="What Creem keeps of a payment, per cent; for the margin, which estimates it. Default: as in"
            " its documentation.",
        )
        creem_fee_fixed: Decimal = Field(
            Decimal("0.40"), ge=0, le=100, description="What Creem keeps of each payment besides, US dollars."
        )

    def __init__(self, options: Options, settings: Settings, clock: Clock | None = None) -> None:
        key = options.creem_api_key.get_secret_value()
        url = creem_settings.address(options.creem_api_url, key)
        self._calls = Calls(url, key)
        self._secrets = creem_settings.words(options.creem_webhook_secret.get_secret_value())
        self._topup_product = options.creem_topup_product
        pairs = creem_settings.products(options.creem_products)
        self._plan_of = {product: plan for plan, product in pairs}
        self._product_of = dict(reversed(pairs))  # a plan's first product wins
        self._memory = Memory(settings.data_dir / "creem", url)
        self._clock = clock or Clock()
        # Its transactions do not tell a fee (docs.creem.io/get-paid/payouts: of the order's total, tax included).
        self.fee_rate: FeeRate | None = FeeRate(
            options.creem_fee_percent, int(options.creem_fee_fixed * MICROS_PER_DOLLAR)
        )
        self._products: dict[str, tuple[float, dict[str, Any]]] = {}
        further = creem_settings.words(options.creem_checkout_origins)
        if url not in (creem_settings.LIVE_URL, creem_settings.TEST_URL):
            further.append(creem_settings.origin(url))
        self.checkout_origins = (*_CHECKOUT_ORIGINS, *further)

    @classmethod
    def problems(cls, options: Options, settings: Settings) -> list[str]:
        """Everything missing or malformed in the settings, a sentence each."""
        return list(
            creem_settings.problems(
                settings,
                key=options.creem_api_key.get_secret_value(),
                secrets=options.creem_webhook_secret.get_secret_value(),
                url=options.creem_api_url,
                origins=options.creem_checkout_origins,
                topup_product=options.creem_topup_product,
                plan_products=options.creem_products,
            )
        )

    @classmethod
    def plan_problems(
        cls, options: Options, settings: Settings, *, sold: Collection[str], known: Collection[str]
    ) -> list[str]:
        """Plans without a product, and products of plans that there are not, a sentence each."""
        return list(creem_settings.plan_problems(settings, options.creem_products, sold=sold, known=known))

    def create_checkout(self, request: CheckoutRequest) -> VendorCheckout:
        """Create the checkout for `request.key`, or return the one made before (see creem_memory for how far).

        ProviderError (permanent): `invalid_amount` for a top-up that is not whole dollars, `product_missing`,
        `product_mismatch` when Creem's product costs something else than we ask for, `idempotency_mismatch`.
        """
        if request.trial_days:
            not_offered("trials")
        product, units = self._article(request)
        terms = {"amount_micros": request.amount_micros, "product": product, "units": units}
        with self._memory.hold(request.key) as slot:
            known = slot.read()
            if known is not None:
                if known.get("terms") != terms:
                    raise refused("idempotency_mismatch", "This checkout key was used before with another price.")
                return VendorCheckout(str(known["reference"]), str(known["url"]))
            body: dict[str, Any] = {
                "product_id": product,
                "units": units,
                "request_id": request.key,
                "success_url": request.success_url,
                "customer": {"id": request.customer_reference}
                if request.customer_reference
                else {"email": request.email},
                "metadata": {**request.metadata, "checkout": request.key, "account": request.account_id},
            }
            if request.discount is not None:
                body["discount_code"] = creem_discounts.code_for(self._calls, request.key, request.discount, product)
            made = self._calls.post("/v1/checkouts", body, "product")
            reference, url = objects.required(made), made.get("checkout_url")
            if not isinstance(url, str) or not url.startswith(("https://", "http://127.0.0.1:")):
                raise unexpected()
            if creem_settings.origin(url) not in self.checkout_origins:
                log.warning("creem: its page is on %s; name it in CREEM_CHECKOUT_ORIGINS", creem_settings.origin(url))
            slot.write({"terms": terms, "reference": reference, "url": url})
        return VendorCheckout(reference, url)

    def fetch(self, checkout_reference: str) -> VendorState:
        """What Creem says now of a checkout, its subscription and all that was paid (tax on top left out)."""
        found = self._calls.get("/v1/checkouts", {"checkout_id": checkout_reference}, "checkout")
        state = objects.CHECKOUT_STATES.get(str(found.get("status")))
        if state is None:
            raise unexpected()
        order = objects.whole(found.get("order"))
        customer = objects.reference_of(found.get("customer")) or objects.reference_of(order.get("customer"))
        subscription = objects.reference_of(found.get("subscription"))
        if subscription is None:
            if state == "paid" and order.get("type") == "recurring":
                raise too_early()
            paid = self._paid_for_order(order) if state == "paid" else []
            return VendorState(state, objects.payments_of(paid, None), None, customer, objects.foreign_of(paid))
        raw = self._subscription(subscription)
        customer = objects.required(raw.get("customer"))
        now = self._clock.now()
        is_owing = objects.state_of(raw, now) in ("past_due", "unpaid")
        pay_url = self.portal_url(customer, "") if is_owing else None
        seen = objects.subscription_of(raw, self._plan_of, now, pay_url)
        listed = self._transactions({"customer_id": customer})
        paid = [one for one in listed if objects.reference_of(one.get("subscription")) == subscription]
        payments = objects.payments_of(paid, seen.current_period_start)
        return VendorState(state, payments, seen, customer, objects.foreign_of(paid))

    def cancel(self, subscription_reference: str, at_period_end: bool) -> None:
        """End a subscription now or with its period; already ended, or marked to end then, is success."""
        status = self._subscription(subscription_reference).get("status")
        if status == "canceled" or (status == "scheduled_cancel" and at_period_end):
            return
        body = {"mode": "scheduled", "onExecute": "cancel"} if at_period_end else {"mode": "immediate"}
        self._calls.post(f"/v1/subscriptions/{subscription_reference}/cancel", body, "subscription")

    def undo_cancel(self, subscription_reference: str) -> None:
        """Take back a cancel at period end. ProviderError (permanent) `subscription_ended` when it is too late."""
        status = self._subscription(subscription_reference).get("status")
        if status == "canceled":
            raise refused("subscription_ended", "This subscription has ended.")
        if status == "scheduled_cancel":
            self._calls.post(f"/v1/subscriptions/{subscription_reference}/resume", {}, "subscription")

    def pause(self, subscription_reference: str) -> None:
        """Collect no renewal until `resume`; paused already, ended, or to end with its period is success.

        Source: docs.creem.io/api-reference/endpoint/pause-subscription.
        """
        if self._subscription(subscription_reference).get("status") not in ("paused", "canceled", "scheduled_cancel"):
            self._calls.post(f"/v1/subscriptions/{subscription_reference}/pause", {}, "subscription")

    def resume(self, subscription_reference: str) -> None:
        """Collect renewals again; not paused, or ended, is success. One that is to end with its period stays so."""
        if self._subscription(subscription_reference).get("status") == "paused":
            self._calls.post(f"/v1/subscriptions/{subscription_reference}/resume", {}, "subscription")

    def change_plan(self, subscription_reference: str, price: Price, key: str) -> None:
        """Move to the plan's product now. Dearer: the difference is charged at once; cheaper: what is left of the
        period goes back to the card. `key` is not needed: the product is read first, already there is success."""
        product = self._plan_product(price.plan)
        found = self._subscription(subscription_reference)
        if found.get("status") == "canceled":
            raise refused("subscription_ended", "This subscription has ended.")
        if objects.reference_of(found.get("product")) == product:
            return
        self._check_product(product, price.amount_micros, price.interval)
        body = {"product_id": product, "update_behavior": "proration-charge-immediately"}
        self._calls.post(f"/v1/subscriptions/{subscription_reference}/upgrade", body, "subscription")

    def portal_url(self, customer_reference: str, return_url: str) -> str:
        """Creem's page for the customer's payment method, receipts and invoices; it has no way back to us."""
        found = self._calls.post("/v1/customers/billing", {"customer_id": customer_reference}, "customer")
        url = found.get("customer_portal_link")
        if not isinstance(url, str) or not url.startswith(("https://", "http://127.0.0.1:")):
            raise unexpected()
        return url

    def list_subscriptions(self) -> list[ListedSubscription]:
        """Every subscription that is ours by its metadata or its product, and that has not ended."""
        listed = []
        for one in self._calls.pages("/v1/subscriptions/search", {}, "subscription"):
            key = objects.reference_of(objects.whole(one.get("metadata")).get("checkout"))
            is_ours = key is not None or objects.reference_of(one.get("product")) in self._plan_of
            state = objects.state_of(one, self._clock.now())
            if is_ours and state != "canceled":
                customer = objects.reference_of(one.get("customer"))
                seen = objects.listed_subscription(one, self._plan_of, self._clock.now())
                listed.append(ListedSubscription(objects.required(one), state, key, customer, seen))
        return listed

    def parse_event(self, headers: Mapping[str, str], body: bytes) -> PaymentEvent:
        """Verify over the raw bytes and normalise. BadSignature first; ProviderError (permanent) for another shape."""
        given = [value for name, value in headers.items() if name.lower() == HEADER]
        if len(given) != 1:
            raise BadSignature("the event has no single signature header")
        verify_body(given[0], body, self._secrets)
        return objects.event_of(body)

    def unseen(self, since: datetime) -> list[tuple[dict[str, Any], bytes]]:
        """Creem keeps no list of events; these are made here of what its lists say, signed with our own secret.

        Subscriptions that changed and were paid since then, and every payment that was refunded or disputed, among
        the first 2,000 of each list. A paid top-up is not among them: a transaction does not name its checkout, and
        open checkouts are asked about anyway (billing.checkouts.unpaid).
        """
        if not self._secrets:
            raise refused("no_webhook_secret", "CREEM_WEBHOOK_SECRET is missing.")
        bodies: list[bytes | None] = []
        for one in self._calls.pages("/v1/subscriptions/search", {}, "subscription", _MOST_UNSEEN):
            bodies.append(objects.unseen_subscription(one, since))
        for one in self._calls.pages("/v1/transactions/search", {}, "transaction", _MOST_UNSEEN):
            bodies.append(objects.unseen_transaction(one, since))
        return [({HEADER: sign_body(self._secrets[0], body)}, body) for body in bodies if body is not None]

    # What Creem does not offer

    def refund(self, payment_reference: str, amount_micros: int | None, key: str) -> str:
        """Not offered: Creem's refund is of a whole payment. Refund in its dashboard."""
        not_offered("refunds of a part; refund in its dashboard")

    def charge_saved(self, request: ChargeRequest) -> VendorCheckout:
        """Not offered: Creem charges only on its own page."""
        not_offered("charging a saved method")

    def find_charge(self, request: ChargeRequest) -> VendorCheckout | None:
        """None: nothing is charged but on Creem's own page."""
        return None

    def invoices(self, customer_reference: str) -> list[VendorInvoice]:
        """Not offered: the customer's invoices are in Creem's portal."""
        not_offered("a list of invoices; its portal has them")

    def saved_method(self, customer_reference: str) -> SavedMethod | None:
        """None: there is nothing `charge_saved` could charge."""
        return None

    def move_customer(self, customer_reference: str, email: str) -> None:
        """Not offered: whoever has an address at Creem is its customer there, everywhere."""
        not_offered("another address for a customer; its portal changes it")

    def remove_customer(self, customer_reference: str) -> None:
        """Not offered: Creem is the seller, and keeps its customers itself."""
        not_offered("removing a customer")

    def _subscription(self, reference: str) -> dict[str, Any]:
        return self._calls.get("/v1/subscriptions", {"subscription_id": reference}, "subscription")

    def _transactions(self, params: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        return self._calls.pages("/v1/transactions/search", params, "transaction")

    def _paid_for_order(self, order: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The transactions of a single payment's order; ProviderError (worth a retry) before there is one."""
        paid = list(self._transactions({"order_id": objects.required(order)}))
        if not paid:
            raise too_early()
        return paid

    # What is sold

    def _article(self, request: CheckoutRequest) -> tuple[str, int]:
        """The product and how many of it; checked against what Creem would charge."""
        if request.interval is not None:
            product = self._plan_product(request.plan)
            self._check_product(product, request.amount_micros, request.interval)
            return product, 1
        units, rest = divmod(request.amount_micros, MICROS_PER_DOLLAR)
        if rest or not 0 < units <= _MOST_UNITS:
            raise refused("invalid_amount", "Through Creem a top-up is a whole number of dollars, 1 to 10,000.")
        if request.discount is not None:
            not_offered("coupons on top-ups")
        if not self._topup_product:
            raise refused("product_missing", "CREEM_TOPUP_PRODUCT is missing.")
        self._check_product(self._topup_product, MICROS_PER_DOLLAR, None)
        return self._topup_product, units

    def _plan_product(self, plan: str) -> str:
        if plan not in self._product_of:
            raise refused("product_missing", f"CREEM_PRODUCTS names no product for the plan {plan!r}.")
        return self._product_of[plan]

    def _check_product(self, product: str, amount_micros: int, interval: str | None) -> None:
        """Refuse to sell what Creem would charge differently: its price is the product's, whatever we ask for."""
        found = self._product(product)
        wanted = {
            "currency": "USD",
            "price": to_cents(amount_micros) if amount_micros % from_cents(1) == 0 else -1,
            "billing_type": "recurring" if interval else "onetime",
        }
        if interval:
            wanted["billing_period"] = objects.PERIODS.get(interval, "")
        wrong = [name for name, value in wanted.items() if found.get(name) != value]
        if found.get("trial_period_days"):
            wrong.append("trial_period_days")
        if found.get("status") != "active":
            wrong.append("status")
        if wrong:
            self._products.pop(product, None)
            raise refused(
                "product_mismatch",
                f"Creem's product {product} is not what is being sold: its {', '.join(wrong)} differs from the plan's.",
            )

    def _product(self, product: str) -> dict[str, Any]:
        known = self._products.get(product)
        if known is not None and time.monotonic() - known[0] < _PRODUCT_SECONDS:
            return known[1]
        found = self._calls.get(f"/v1/products/{product}", {}, "product")
        self._products[product] = (time.monotonic(), found)
        return found
