"""What is sold at Stripe and to whom: customers, products, prices, coupons, each found or made by our own names.

A price is named by plan, amount and interval, so that a new price of a plan is a new price there and who subscribed
before keeps theirs. Source: docs.stripe.com, "Products and prices", "Lookup keys", "Coupons".
"""

from __future__ import annotations

from typing import Any, Final

from clawhaven.core.money import MICROS_PER_CENT, to_cents
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Discount, Price
from clawhaven.providers.payments.stripe_calls import Calls, key_of, refused, unexpected

MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_RECURRING: Final = {"month": ("month", 1), "quarter": ("month", 3), "year": ("year", 1)}
_PRODUCT: Final = "clawhaven_"


def cents_of(amount_micros: int) -> int:
    """Whole cents; ProviderError (permanent) `invalid_amount` for anything else."""
    if amount_micros <= 0 or amount_micros % MICROS_PER_CENT:
        raise refused("invalid_amount", "Stripe takes a positive number of whole cents.")
    return to_cents(amount_micros)


def product_of(plan: str) -> str:
    """The id that a plan's product has at Stripe."""
    return f"{_PRODUCT}{plan}"


def lookup_key(price: Price) -> str:
    """The name that a price has at Stripe."""
    return f"{_PRODUCT}{price.plan}_{cents_of(price.amount_micros)}_{price.interval}"


class Articles:
    """Finds or makes what a checkout names. `chosen` is STRIPE_PRICES, (plan, price id); a plan's first is sold."""

    def __init__(self, calls: Calls, chosen: list[tuple[str, str]]) -> None:
        self._calls = calls
        self._plan_of_price = {price: plan for plan, price in chosen}
        self._price_of_plan = dict(reversed(chosen))

    def plan_of(self, product: object, price: object = None) -> str | None:
        """Our plan's id of a product or a chosen price; None for one that is not ours."""
        if isinstance(price, str) and price in self._plan_of_price:
            return self._plan_of_price[price]
        if isinstance(product, str) and product.startswith(_PRODUCT):
            return product.removeprefix(_PRODUCT)
        return None

    def price_id(self, price: Price) -> str:
        """The price's id at Stripe. ProviderError (permanent) `price_mismatch` when a chosen one differs."""
        return self.known_price_id(price) or self._make(price, lookup_key(price))

    def known_price_id(self, price: Price) -> str | None:
        """The price's id at Stripe if it is there already; makes nothing. Raises like `price_id`."""
        return self._chosen(price) if price.plan in self._price_of_plan else self._find(lookup_key(price))

    def customer(self, email: str, account_id: str) -> str:
        """The customer of our account, found by address and account (search would lag behind by a minute)."""
        for one in self._calls.pages("customers.list", noun="customer", most=100, email=email):
            if (one.get("metadata") or {}).get("account") == account_id:
                return id_of(one)
        params = {"email": email, "metadata": {"account": account_id}}
        return id_of(
            self._calls.write("customers.create", noun="customer", key=key_of("customer", params), params=params)
        )

    def coupon(self, discount: Discount) -> str:
        """The coupon for our code and terms; other terms under the same code are another coupon."""
        params: dict[str, Any] = {
            "name": f"Coupon {discount.code}"[:40],
            "duration": "forever" if discount.months is None else "repeating" if discount.months else "once",
            "metadata": {"coupon": discount.code},
        }
        if discount.months:
            params["duration_in_months"] = discount.months
        if discount.percent_off is not None:
            params["percent_off"] = discount.percent_off
        else:
            params |= {"amount_off": cents_of(discount.amount_off_micros or 0), "currency": "usd"}
        found = key_of("coupon", params)
        self._once("coupons.create", "coupon", {"id": found, **params})
        return found

    def _chosen(self, price: Price) -> str:
        reference = self._price_of_plan[price.plan]
        found = self._calls.read("prices.retrieve", reference, noun="price")
        interval, count = _recurring(price.interval)
        given = found.get("recurring") or {}
        is_same = (found.get("unit_amount"), found.get("currency")) == (cents_of(price.amount_micros), "usd")
        if not (is_same and (given.get("interval"), given.get("interval_count")) == (interval, count)):
            raise refused("price_mismatch", f"STRIPE_PRICES: {reference} is not the price of the plan {price.plan!r}.")
        return reference

    def _find(self, name: str) -> str | None:
        found = self._calls.pages("prices.list", noun="price", most=1, lookup_keys=[name], active=True)
        return id_of(found[0]) if found else None

    def _make(self, price: Price, name: str) -> str:
        product = {"id": product_of(price.plan), "name": price.name, "metadata": {"plan": price.plan}}
        self._once("products.create", "product", product)
        interval, count = _recurring(price.interval)
        params = {
            "product": product_of(price.plan),
            "currency": "usd",
            "unit_amount": cents_of(price.amount_micros),
            "recurring": {"interval": interval, "interval_count": count},
            "lookup_key": name,
            "tax_behavior": "inclusive",
            "metadata": {"plan": price.plan},
        }
        try:
            key = key_of("price", params)
            return id_of(self._calls.write("prices.create", noun="price", key=key, params=params))
        except ProviderError as error:
            found = self._find(name) if error.permanent else None  # another process was quicker
            if found is None:
                raise
            return found

    def _once(self, verb: str, noun: str, params: dict[str, Any]) -> None:
        try:
            self._calls.write(verb, noun=noun, key=key_of(noun, params), params=params)
        except ProviderError as error:
            if error.code != "already_exists":
                raise


def id_of(found: dict[str, Any]) -> str:
    """The id of an object; ProviderError for an answer without one."""
    reference = found.get("id")
    if not isinstance(reference, str) or not reference:
        raise unexpected()
    return reference


def _recurring(interval: str) -> tuple[str, int]:
    if interval not in _RECURRING:
        raise refused("invalid_interval", f"Stripe is not sold anything by the {interval!r}.")
    return _RECURRING[interval]
