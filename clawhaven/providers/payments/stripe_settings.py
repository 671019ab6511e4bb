"""What Stripe's settings mean, and what is wrong with them. Pure."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import SplitResult, urlsplit

from clawhaven.core.settings import Settings
from clawhaven.providers.payments.stripe_calls import INSTALL

LIVE_URL: Final = "https://api.stripe.com"
_KEY: Final = re.compile(r"(?:sk|rk)_(?:test|live)_[!-~]+")
_SECRET: Final = re.compile(r"whsec_[!-~]+")
_PRICE: Final = re.compile(r"price_[A-Za-z0-9_]+")
_PLAN: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")


def words(text: str) -> list[str]:
    """The parts of a setting that takes several, by comma."""
    return [word.strip() for word in text.split(",") if word.strip()]


def chosen_prices(text: str) -> list[tuple[str, str]]:
    """`personal=price_1, yearly=price_2` as (plan, price). Raises ValueError with a sentence."""
    found: list[tuple[str, str]] = []
    for pair in words(text):
        plan, _, price = (part.strip() for part in pair.partition("="))
        if not _PLAN.fullmatch(plan) or not _PRICE.fullmatch(price):
            raise ValueError(f"{pair!r} is not of the form plan=price_…")
        if price in {known for _, known in found}:
            raise ValueError(f"{price} is there twice")
        found.append((plan, price))
    return found


def origin(url: str) -> str:
    """`https://example.com/a?b` becomes `https://example.com`."""
    parts = _split(url)
    return f"{parts.scheme}://{parts.netloc}"


def key_problem(key: str) -> str | None:
    """What is wrong with a secret key wherever it is used; None for a well-formed one."""
    if not key:
        return "STRIPE_SECRET_KEY is missing (Stripe's dashboard, Developers, API keys)."
    if not _KEY.fullmatch(key):
        return "STRIPE_SECRET_KEY is malformed; Stripe's secret keys begin with sk_live_ or sk_test_."
    return None


def problems(settings: Settings, *, key: str, secrets: str, url: str, origins: str, prices: str) -> Iterator[str]:
    """Everything missing or malformed, a sentence each; no sentence repeats a secret."""
    if importlib.util.find_spec("stripe") is None:
        yield f"Stripe's library is not installed: {INSTALL}"
    is_test = "_test_" in key[:8]
    if found := key_problem(key):
        yield found
    elif settings.is_production and is_test:
        yield "STRIPE_SECRET_KEY is a test key, which takes no money; production needs a live one (sk_live_…)."
    elif not settings.is_production and not is_test:
        yield "STRIPE_SECRET_KEY is a live key; outside production use a test key (sk_test_…)."
    if not words(secrets):
        yield "STRIPE_WEBHOOK_SECRET is missing (clawhaven admin stripe setup prints it once)."
    elif not all(_SECRET.fullmatch(secret) for secret in words(secrets)):
        yield "STRIPE_WEBHOOK_SECRET is malformed; Stripe's begin with whsec_, several are separated by commas."
    parts = _split(url)
    is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not (parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_here))):
        yield "STRIPE_API_URL must be an https:// address (http:// only on this machine)."
    for page in words(origins):
        if origin(page) != page or not page.startswith("https://") or page == "https://":
            yield f"STRIPE_CHECKOUT_ORIGINS: {page!r} is not of the form https://pay.example.com."
    try:
        chosen_prices(prices)
    except ValueError as error:
        yield f"STRIPE_PRICES: {error}."


def plan_problems(prices: str, known: Collection[str]) -> Iterator[str]:
    """Plans in STRIPE_PRICES that there are not; nothing for a malformed one: `problems` says so."""
    try:
        named = dict.fromkeys(plan for plan, _ in chosen_prices(prices))
    except ValueError:
        return
    for plan in named:
        if plan not in known:
            yield f"STRIPE_PRICES names the plan {plan}; there is {', '.join(known)}."


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # an open bracket, and such
        return urlsplit("")
