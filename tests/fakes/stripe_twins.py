"""Twins: a call by our provider and the same by the official library, against a server that writes both down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import stripe as library
from pydantic import SecretStr

from clawhaven.core.settings import Settings
from clawhaven.providers.payments.stripe import Stripe
from clawhaven.providers.payments.stripe_portal import FEATURES
from tests.fakes.stripe_recorder import Recorder, Request, shaped, strangers
from tests.fakes.stripe_server import KEY, SECRET

FACTS = {"checkout": "chk_1"}
URLS = {"success_url": "http://127.0.0.1/success", "cancel_url": "http://127.0.0.1/cancel"}
CUS, SUB, PI, PRICE, PAGE = "cus_1", "sub_1", "pi_1", "price_1", "https://checkout.stripe.com/c/1"
START, END = 1_790_000_000, 1_792_592_000
COUPON = "clawhaven-coupon-c94ec36c23b5664e42ab7685307a00c4f2b50819"
MONTHLY = {"interval": "month", "interval_count": 1}
PORTAL = {
    "object": "billing_portal.configuration", "id": "bpc_1", "active": True, "metadata": {"clawhaven": "portal"},
    "features": FEATURES,
}  # fmt: skip


@dataclass(frozen=True)
class Twin:
    """`ours` and `theirs` do the same and return the same facts, read from `answers`."""

    name: str
    ours: Callable[[Stripe], Any]
    theirs: Callable[[Any], Any]
    answers: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def price(**more: Any) -> dict[str, Any]:
    return shaped("price", **{"id": PRICE, "unit_amount": 2900, "product": "clawhaven_personal", **more})


def subscription(**more: Any) -> dict[str, Any]:
    found = shaped("subscription", id=SUB, customer=CUS, cancel_at=None, cancel_at_period_end=False, canceled_at=None)
    (item,) = found["items"]["data"]
    item |= {"id": "si_1", "price": price(), "current_period_start": START, "current_period_end": END}
    return found | {"trial_end": None, "metadata": FACTS} | more


def invoice(**more: Any) -> dict[str, Any]:
    found = shaped(
        "invoice", id="in_1", customer=CUS, status="paid", amount_paid=2900, total=2900, number="A-1", attempted=True,
        billing_reason="subscription_create", hosted_invoice_url="https://invoice.stripe.com/i/1",
        status_transitions={"paid_at": START},
    )  # fmt: skip
    paid = shaped("invoice_payment", status="paid", amount_paid=2900, payment={"payment_intent": PI})
    (line,) = found["lines"]["data"]
    line["period"] = {"start": START, "end": END}
    line["parent"] |= {"type": "subscription_item_details"}
    line["parent"]["subscription_item_details"] |= {"proration": False, "subscription": SUB}
    line["pricing"] |= {"price_details": {"price": PRICE, "product": "clawhaven_personal"}}
    return found | {"payments": {"object": "list", "data": [paid]}} | more


def charge(**more: Any) -> dict[str, Any]:
    booked = {"object": "balance_transaction", "id": "txn_1", "fee": 114, "currency": "usd"}
    return shaped(
        "charge", id="ch_1", amount=2900, customer=CUS, payment_intent=PI, balance_transaction=booked
    ) | more  # fmt: skip


def intent(**more: Any) -> dict[str, Any]:
    return shaped(
        "payment_intent", id=PI, status="succeeded", amount_received=2000, customer=CUS, last_payment_error=None
    ) | {"latest_charge": charge(amount=2000), "metadata": {}} | more  # fmt: skip


def session(**more: Any) -> dict[str, Any]:
    return shaped("checkout.session", id="cs_1", url=PAGE, customer=CUS, payment_intent=None) | more


def page(made: Any) -> tuple[str, str]:
    return (made.reference, made.url) if hasattr(made, "reference") else (made.id, made.url)


def when(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def options_of(url: str, **more: Any) -> Stripe.Options:
    """Settings for a server of ours."""
    given = {"stripe_webhook_secret": SecretStr(f"{SECRET}, whsec_the_old_one"), "stripe_api_url": url, **more}
    return Stripe.Options(_env_file=None, **{"stripe_secret_key": SecretStr(KEY), **given})


def make(url: str, tmp_path: Path, **more: Any) -> Stripe:
    """The provider against a server of ours."""
    return Stripe(options_of(url, **more), Settings(_env_file=None, data_dir=tmp_path / "var"))


def compare(twin: Twin, tmp_path: Path) -> None:
    """Run both and hold what they sent, and what they read, against each other and against Stripe's description."""
    with Recorder(twin.answers) as recorder:
        ours = twin.ours(make(recorder.url, tmp_path, **twin.options))
        sent = recorder.take()
        theirs = twin.theirs(library.StripeClient(KEY, base_addresses={"api": recorder.url}))
        wanted = recorder.take()
    assert [one.path for one in sent] == [one.path for one in wanted], f"{sent}\n{wanted}"
    for mine, other in zip(sent, wanted, strict=True):
        assert mine.asked == other.asked, f"{mine.asked}\n{other.asked}"
        assert _headers(mine) == _headers(other), f"{_headers(mine)}\n{_headers(other)}"
    assert [wrong for one in sent for wrong in strangers(one.verb, one.path, one.params)] == []
    keys = [one.headers["idempotency-key"] for one in sent if one.verb == "POST"]
    assert all(key.startswith("clawhaven-") and len(key) <= 255 for key in keys)
    assert len(set(keys)) == len(keys)
    assert ours == theirs, f"{ours}\n{theirs}"


def _headers(request: Request) -> tuple[Any, ...]:
    names = ("authorization", "stripe-version", "content-type", "stripe-account", "stripe-context")
    return (*(request.headers.get(name) for name in names), "idempotency-key" in request.headers)
