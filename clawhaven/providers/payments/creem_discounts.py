"""Coupons at Creem: a discount code for each checkout that has one.

Source: docs.creem.io (API reference, Discount codes).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Discount
from clawhaven.providers.payments.creem_calls import Calls, not_offered


def code_for(calls: Calls, key: str, discount: Discount, product: str) -> str:
    """A code for this checkout alone, made or found: nobody else can use it, whoever reads it on the page.

    Of a percentage only: whether the `amount` of a fixed discount is in cents or in dollars, Creem's reference
    does not say (docs.creem.io/api-reference/endpoint/create-discount-code), and a guess is wrong by a hundred.
    """
    if discount.percent_off is None:
        not_offered("coupons of a fixed amount that could be relied on; use a percentage")
    code = "CH" + hashlib.sha256(key.encode()).hexdigest()[:16].upper()
    body: dict[str, Any] = {
        "name": f"Coupon {discount.code}",
        "code": code,
        "duration": "forever" if discount.months is None else "repeating" if discount.months else "once",
        "max_redemptions": 1,
        "applies_to_products": [product],
    }
    if discount.months:
        body["duration_in_months"] = discount.months
    body |= {"type": "percentage", "percentage": discount.percent_off}
    try:
        calls.post("/v1/discounts", body, "discount")
    except ProviderError as error:
        if error.code != "creem_refused" or not _is_there(calls, code):
            raise
    return code


def _is_there(calls: Calls, code: str) -> bool:
    """True when a try before this one made it and was killed before it made the checkout."""
    with suppress(ProviderError):
        return calls.get("/v1/discounts", {"discount_code": code}, "discount").get("code") == code
    return False
