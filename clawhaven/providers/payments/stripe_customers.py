"""Who a customer is at Stripe: a new address, the end, and what they paid.

Source: https://docs.stripe.com/api/customers/delete: payments and invoices stay, every card and subscription goes, and
the customer is still told of, as `deleted`.
"""

from __future__ import annotations

import uuid
from typing import Any

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.stripe_calls import Calls, key_of


def move(calls: Calls, customer: str, email: str) -> None:
    """Set the address; a customer who is gone is success."""
    # The same address may be set, changed and set again within a day: a key of its own each time.
    _write(calls, "update", customer, key_of("move", customer, uuid.uuid4()), email=email)


def remove(calls: Calls, customer: str) -> None:
    """Delete the customer; gone is success."""
    _write(calls, "delete", customer, "")


def charges(calls: Calls, customer: str | None) -> list[dict[str, Any]]:
    """Every charge of a customer, newest first, with what Stripe kept of it; of one it does not know any more, none."""
    expand = ["data.balance_transaction"]
    try:
        return calls.pages("charges.list", noun="customer", customer=customer or "", expand=expand)
    except ProviderError as error:
        if error.code != "unknown_customer":
            raise
        return []


def _write(calls: Calls, verb: str, customer: str, key: str, **params: str) -> None:
    try:
        calls.write(f"customers.{verb}", customer, noun="customer", key=key, params=params)
    except ProviderError as error:
        if error.code != "unknown_customer":
            raise
