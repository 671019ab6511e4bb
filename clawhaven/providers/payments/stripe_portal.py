"""Stripe's customer portal as we want it: payment method and invoices; plan and cancellation are changed here only.

Without a configuration Stripe opens the one that somebody saved in its dashboard, or refuses where nobody did. Ours is
found by its metadata. Source: docs.stripe.com/customer-management/configure-portal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from clawhaven.providers.payments.stripe_articles import id_of
from clawhaven.providers.payments.stripe_calls import Calls, key_of

_MARK: Final = {"clawhaven": "portal"}

FEATURES: Final[dict[str, Any]] = {
    # Not the mail address: here it says who may sign in.
    "customer_update": {"enabled": True, "allowed_updates": ["address", "name", "tax_id"]},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {"enabled": False},
    "subscription_update": {"enabled": False},
}


def find(calls: Calls) -> dict[str, Any] | None:
    """Our configuration, the newest that is active; None before the set-up."""
    for one in calls.pages("billing_portal.configurations.list", noun="portal", active=True):
        if (one.get("metadata") or {}).get("clawhaven") == _MARK["clawhaven"]:
            return one
    return None


def prepare(calls: Calls) -> str:
    """Find, mend or make it; returns a line to print."""
    known = find(calls)
    if known is None:
        params = {"features": FEATURES, "metadata": _MARK}
        made = calls.write(
            "billing_portal.configurations.create", noun="portal", key=key_of("portal", params), params=params
        )
        return f"portal: {id_of(made)}, made now: payment method, address and invoices."
    reference = id_of(known)
    if _agrees(known.get("features"), FEATURES):
        return f"portal: {reference}, there already."
    params = {"features": FEATURES}
    key = key_of("portal", reference, known.get("features"), known.get("updated"), params)
    calls.write("billing_portal.configurations.update", reference, noun="portal", key=key, params=params)
    return f"portal: {reference}, changed back to payment method, address and invoices."


def _agrees(there: object, wanted: object) -> bool:
    """True when everything wanted is there so; what else is there does not matter. Lists in any order."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(_agrees(there.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return isinstance(there, list) and sorted(there) == sorted(wanted)
    return there == wanted
