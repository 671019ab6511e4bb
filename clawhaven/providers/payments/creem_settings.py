"""What Creem's settings mean, and what is wrong with them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import urlsplit

from clawhaven.core.settings import Settings

LIVE_URL: Final = "https://api.creem.io"
TEST_URL: Final = "https://test-api.creem.io"

_TEST_PREFIX: Final = "creem_test_"
_KEY: Final = re.compile(r"creem_[!-~]+")
_PRODUCT: Final = re.compile(r"prod_[A-Za-z0-9_]+")
_PLAN: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")


def is_test(key: str) -> bool:
    """True for a key of Creem's test mode."""
    return key.startswith(_TEST_PREFIX)


def address(url: str, key: str) -> str:
    """The API's address: the one that is set, else the one the key belongs to."""
    return (url or (TEST_URL if is_test(key) else LIVE_URL)).rstrip("/")


def words(text: str) -> list[str]:
    """The parts of a setting that takes several, by comma."""
    return [word.strip() for word in text.split(",") if word.strip()]


def products(text: str) -> list[tuple[str, str]]:
    """`personal=prod_1, yearly=prod_2` as (plan, product). Raises ValueError with a sentence."""
    found: list[tuple[str, str]] = []
    for pair in words(text):
        plan, _, product = (part.strip() for part in pair.partition("="))
        if not _PLAN.fullmatch(plan) or not _PRODUCT.fullmatch(product):
            raise ValueError(f"{pair!r} is not of the form plan=prod_…")
        if product in {known for _, known in found}:
            raise ValueError(f"{product} is there twice")
        found.append((plan, product))
    return found


def origin(url: str) -> str:
    """`https://example.com/a?b` becomes `https://example.com`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def problems(
    settings: Settings, *, key: str, secrets: str, url: str, origins: str, topup_product: str, plan_products: str
) -> Iterator[str]:
    """Everything missing or malformed, a sentence each; no sentence repeats a secret."""
    if not key:
        yield "CREEM_API_KEY is missing (Creem's dashboard, Developers)."
    elif not _KEY.fullmatch(key):
        yield "CREEM_API_KEY is malformed; Creem's keys begin with creem_."
    elif settings.is_production and (is_test(key) or address(url, key) == TEST_URL):
        yield "CREEM_API_KEY is a key of Creem's test mode, which takes no money; production needs a live one."
    elif not settings.is_production and not is_test(key) and address(url, key) == LIVE_URL:
        yield "CREEM_API_KEY is a live key; outside production use one of Creem's test mode (creem_test_…)."
    if not words(secrets):
        yield "CREEM_WEBHOOK_SECRET is missing (Creem's dashboard, Developers, Webhooks)."
    elif any(re.search(r"\s", secret) for secret in words(secrets)):
        yield "CREEM_WEBHOOK_SECRET is malformed; several secrets are separated by commas."
    yield from _address_problems(url, key)
    for found in words(origins):
        if origin(found) != found or not found.startswith("https://"):
            yield f"CREEM_CHECKOUT_ORIGINS: {found!r} is not of the form https://pay.example.com."
    yield from _product_problems(settings, topup_product, plan_products)


def plan_problems(
    settings: Settings, plan_products: str, *, sold: Collection[str], known: Collection[str]
) -> Iterator[str]:
    """Plans on sale (`sold`) without a product, where Creem sells them, and products of plans that are not `known`.

    Nothing for a setting that is empty or malformed: `problems` says so.
    """
    try:
        named = list(dict.fromkeys(plan for plan, _ in products(plan_products)))
    except ValueError:
        return
    if named and _is_seller(settings, settings.subscriptions_by):
        for plan in sold:
            if plan not in named:
                yield f"CREEM_PRODUCTS names no product for the plan {plan}, which is on offer."
    for plan in named:
        if plan not in known:
            yield f"CREEM_PRODUCTS names the plan {plan}; there is {', '.join(known)}."


def _address_problems(url: str, key: str) -> Iterator[str]:
    parts = urlsplit(url)
    is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if url and not (parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_here))):
        yield "CREEM_API_URL must be an https:// address (http:// only on this machine)."
    elif is_test(key) and address(url, key) == LIVE_URL:
        yield "CREEM_API_KEY is a key of Creem's test mode; CREEM_API_URL is the one for live keys."


def _product_problems(settings: Settings, topup_product: str, plan_products: str) -> Iterator[str]:
    if topup_product and not _PRODUCT.fullmatch(topup_product):
        yield "CREEM_TOPUP_PRODUCT is malformed; Creem's products begin with prod_."
    elif not topup_product and _is_seller(settings, settings.topups_by):
        yield "CREEM_TOPUP_PRODUCT is missing: the one-time product of 1 US dollar that top-ups are sold as."
    try:
        if not products(plan_products) and _is_seller(settings, settings.subscriptions_by):
            yield "CREEM_PRODUCTS is missing: which product each plan is sold as (personal=prod_…, yearly=prod_…)."
    except ValueError as error:
        yield f"CREEM_PRODUCTS: {error}."


def _is_seller(settings: Settings, chosen: str) -> bool:
    """True when Creem sells it: it is the one chosen, or nothing is chosen and it is the first of PAYMENTS."""
    return (chosen or next(iter(words(settings.payments)), "")) == "creem"
