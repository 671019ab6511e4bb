"""Each call twice: by our provider, and by the official library used as Stripe's documentation says.

Both talk to a server that writes down what arrives: method, path, query, form and headers must agree, and must be known
to Stripe's published description. Both read the same answer, made of Stripe's own example objects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import stripe as library

from clawhaven.ports.payments import CheckoutRequest, Discount
from tests.contracts.payments import charge_of, request_of
from tests.fakes.stripe_recorder import shaped
from tests.fakes.stripe_twins import COUPON, CUS, FACTS, URLS, Twin, compare, intent, page, price, session

# Selling


def single_of(cents: int, description: str, facts: dict[str, str]) -> dict[str, Any]:
    data = {
        "currency": "usd",
        "unit_amount": cents,
        "tax_behavior": "inclusive",
        "product_data": {"name": description},
    }
    return {
        "mode": "payment",
        "line_items": [{"price_data": data, "quantity": 1}],
        "payment_intent_data": {"setup_future_usage": "off_session", "description": description, "metadata": facts},
        "metadata": facts,
    }


def sell_with_trial_and_coupon(c: Any) -> Any:
    assert c.v1.customers.list(params={"email": "ada@example.com", "limit": 100}).data == []
    made = c.v1.customers.create(params={"email": "ada@example.com", "metadata": {"account": "acc_1"}})
    key = "clawhaven_personal_2900_month"
    found = c.v1.prices.list(params={"lookup_keys": [key], "active": True, "limit": 100}).data[0]
    c.v1.coupons.create(
        params={
            "id": COUPON, "name": "Coupon HALF", "duration": "repeating", "duration_in_months": 3, "percent_off": 50,
            "metadata": {"coupon": "HALF"},
        }
    )  # fmt: skip
    return page(
        c.v1.checkout.sessions.create(
            params={
                **URLS,
                "mode": "subscription",
                "client_reference_id": "chk_1",
                "customer": made.id,
                "line_items": [{"price": found.id, "quantity": 1}],
                "subscription_data": {"metadata": FACTS, "trial_period_days": 14},
                "discounts": [{"coupon": COUPON}],
                "metadata": FACTS,
            }
        )
    )


def sell_at_a_new_price(c: Any) -> Any:
    key = "clawhaven_personal_2900_year"
    assert c.v1.prices.list(params={"lookup_keys": [key], "active": True, "limit": 100}).data == []
    c.v1.products.create(
        params={"id": "clawhaven_personal", "name": "Personal", "metadata": {"plan": "personal"}}
    )  # fmt: skip
    made = c.v1.prices.create(
        params={
            "product": "clawhaven_personal",
            "currency": "usd",
            "unit_amount": 2900,
            "recurring": {"interval": "year", "interval_count": 1},
            "lookup_key": key,
            "tax_behavior": "inclusive",
            "metadata": {"plan": "personal"},
        }
    )
    return page(sell_for(c, made.id))


def sell_for(c: Any, price_id: str, **more: Any) -> Any:
    params = {
        **URLS,
        "mode": "subscription",
        "client_reference_id": "chk_1",
        "customer": CUS,
        "line_items": [{"price": price_id, "quantity": 1}],
        "subscription_data": {"metadata": FACTS},
        "metadata": FACTS,
    }
    return c.v1.checkout.sessions.create(params=params | more)


def sell_at_a_chosen_price(c: Any) -> Any:
    found = c.v1.prices.retrieve("price_mine")
    assert (found.unit_amount, found.recurring.interval) == (2900, "month")
    return page(sell_for(c, found.id, automatic_tax={"enabled": True}, customer_update={"address": "auto"}))


def sell_once(c: Any) -> Any:
    params = {
        **URLS,
        "client_reference_id": "chk_1",
        "customer_email": "ada@example.com",
        "customer_creation": "always",
    }
    return page(c.v1.checkout.sessions.create(params=params | single_of(1000, "Personal", FACTS)))


def charge_card(c: Any) -> Any:
    assert c.v1.payment_intents.list(params={"customer": CUS, "limit": 100}).data == []
    owner = c.v1.customers.retrieve(CUS, params={"expand": ["invoice_settings.default_payment_method"]})
    return c.v1.payment_intents.create(
        params={
            "amount": 2000,
            "currency": "usd",
            "customer": CUS,
            "payment_method": owner.invoice_settings.default_payment_method.id,
            "off_session": True,
            "confirm": True,
            "description": "Automatic top-up",
            "metadata": {"checkout": "chk_2", "charge": "chk_2"},
        }
    )


def charge_and_ask(c: Any) -> Any:
    with pytest.raises(library.CardError) as caught:
        charge_card(c)
    assert caught.value.code == "authentication_required"
    home = "http://127.0.0.1:8080/dashboard"
    params = {"client_reference_id": "chk_2", "customer": CUS, "success_url": home, "cancel_url": home}
    made = c.v1.checkout.sessions.create(
        params=params | single_of(2000, "Automatic top-up", {"checkout": "chk_2"})
    )  # fmt: skip
    return page(made)


SAVED = shaped("customer", id=CUS, invoice_settings={"default_payment_method": shaped("payment_method", id="pm_1")})
WANTS = intent(status="requires_payment_method", last_payment_error={"code": "authentication_required"})
REFUSED = {"type": "card_error", "code": "authentication_required", "message": "Sign in.", "payment_intent": WANTS}


def ask(**more: Any) -> CheckoutRequest:
    return request_of("chk_1", **{"email": "ada@example.com", **more})


SELLING = [
    Twin(
        "a subscription with a trial and a coupon, to a new customer",
        lambda p: page(p.create_checkout(ask(trial_days=14, discount=Discount("HALF", percent_off=50, months=3)))),
        sell_with_trial_and_coupon,
        {
            "GET /v1/customers": [],
            "POST /v1/customers": shaped("customer", id=CUS),
            "GET /v1/prices": [price()],
            "POST /v1/coupons": shaped("coupon", id=COUPON),
            "POST /v1/checkout/sessions": session(),
        },
    ),
    Twin(
        "a subscription at a price that Stripe has not seen",
        lambda p: page(p.create_checkout(ask(interval="year", customer_reference=CUS))),
        sell_at_a_new_price,
        {
            "GET /v1/prices": [],
            "POST /v1/products": shaped("product"),
            "POST /v1/prices": price(),
            "POST /v1/checkout/sessions": session(),
        },
    ),
    Twin(
        "a subscription at a price of the operator's, with tax",
        lambda p: page(p.create_checkout(ask(customer_reference=CUS))),
        sell_at_a_chosen_price,
        {"GET /v1/prices/price_mine": price(id="price_mine"), "POST /v1/checkout/sessions": session()},
        {"stripe_prices": "personal=price_mine", "stripe_automatic_tax": True},
    ),
    Twin(
        "a single payment by somebody without an account",
        lambda p: page(p.create_checkout(ask(amount_micros=10_000_000, interval=None, account_id=""))),
        sell_once,
        {"POST /v1/checkout/sessions": session()},
    ),
    Twin(
        "a charge of the saved card",
        lambda p: p.charge_saved(charge_of("chk_2", CUS)).reference,
        lambda c: charge_card(c).id,
        {"GET /v1/payment_intents": [], f"GET /v1/customers/{CUS}": SAVED, "POST /v1/payment_intents": intent()},
    ),
    Twin(
        "a charge that the bank wants confirmed",
        lambda p: page(p.charge_saved(charge_of("chk_2", CUS))),
        charge_and_ask,
        {
            "GET /v1/payment_intents": [],
            f"GET /v1/customers/{CUS}": SAVED,
            "POST /v1/payment_intents": (402, {"error": REFUSED}),
            "POST /v1/checkout/sessions": session(),
        },
    ),
]


@pytest.mark.parametrize("twin", SELLING, ids=lambda twin: twin.name)
def test_both_sell_alike(twin: Twin, tmp_path: Path) -> None:
    compare(twin, tmp_path)
