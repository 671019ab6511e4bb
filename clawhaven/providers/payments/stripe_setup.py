"""Make at Stripe what the product needs there: a price for each plan, the portal and the webhook endpoint. Safe to
repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Price
from clawhaven.providers.payments import stripe_portal, stripe_settings
from clawhaven.providers.payments.stripe import Stripe
from clawhaven.providers.payments.stripe_articles import Articles, id_of, lookup_key
from clawhaven.providers.payments.stripe_calls import API_VERSION, Calls, key_of, refused
from clawhaven.providers.payments.stripe_objects import EVENTS


def prepare(options: Stripe.Options, prices: Sequence[Price], webhook_url: str) -> list[str]:
    """Find or make everything; returns lines to print, among them the endpoint's secret when it was made now.

    ProviderError (permanent) `stripe_key` without a usable key, `price_mismatch` for a price of STRIPE_PRICES that is
    not its plan's.
    """
    key = options.stripe_secret_key.get_secret_value()
    if problem := stripe_settings.key_problem(key):
        raise refused("stripe_key", problem)
    calls = Calls(options.stripe_api_url.rstrip("/"), key)
    articles = Articles(calls, stripe_settings.chosen_prices(options.stripe_prices))
    made = [_price(articles, one) for one in prices] + _webhook(calls, webhook_url)
    return [*made, stripe_portal.prepare(calls)]


def _price(articles: Articles, price: Price) -> str:
    known = articles.known_price_id(price)
    if known:
        return f"plan {price.plan}: {known}, there already ({lookup_key(price)})."
    return f"plan {price.plan}: {articles.price_id(price)}, made now ({lookup_key(price)})."


def _webhook(calls: Calls, url: str) -> list[str]:
    if url.startswith("https://"):
        return _endpoint(calls, url)
    return [
        f"webhook: none made. Stripe calls only public https:// addresses and {url} is none: set BASE_URL.",
        f"To try it on this machine: stripe listen --latest --forward-to {url}",
        "and set STRIPE_WEBHOOK_SECRET to the whsec_… which that prints.",
    ]


def _endpoint(calls: Calls, url: str) -> list[str]:
    """An endpoint's version cannot be changed, so one of another version is left and a second one is made."""
    for one in calls.pages("webhook_endpoints.list", noun="endpoint"):
        if one.get("url") != url or one.get("api_version") != API_VERSION:
            continue
        reference = str(one["id"])
        if set(one.get("enabled_events") or []) != set(EVENTS) or one.get("status") == "disabled":
            params = {"enabled_events": list(EVENTS), "disabled": False}
            key = key_of("endpoint", reference, one.get("enabled_events"), one.get("status"), params)
            calls.write("webhook_endpoints.update", reference, noun="endpoint", key=key, params=params)
            return [f"webhook {url}: {reference}, now with every event we read; its secret is as before."]
        return [f"webhook {url}: {reference}, there already; its secret was shown when it was made."]
    params = {
        "url": url,
        "api_version": API_VERSION,
        "enabled_events": list(EVENTS),
        "description": "Clawhaven",
        "metadata": {"clawhaven": "webhook"},
    }
    made = _make(calls, params)
    return [
        f"webhook {url}: {made['id']}, made now. Paste this; Stripe does not show it again:",
        f"STRIPE_WEBHOOK_SECRET={made['secret']}",
    ]


def _make(calls: Calls, params: dict[str, Any]) -> dict[str, Any]:
    """Two set-ups at once make one endpoint, by their key. Stripe remembers the answer to a key for a day, also when
    the endpoint was deleted since; then a new one is made under a key that names the dead one."""
    gone: list[str] = []
    while True:
        key = key_of("endpoint", params, gone)
        made = calls.write("webhook_endpoints.create", noun="endpoint", key=key, params=params)
        try:
            calls.read("webhook_endpoints.retrieve", id_of(made), noun="endpoint")
            return made
        except ProviderError as error:
            if error.code != "unknown_endpoint" or id_of(made) in gone:
                raise
            gone.append(id_of(made))
