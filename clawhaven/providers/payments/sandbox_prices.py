"""The sandbox's arithmetic: discounts, prorations, fees and periods. Pure; amounts are micro-dollars in whole cents."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime

from clawhaven.core.clock import month_after
from clawhaven.core.money import MICROS_PER_CENT, to_cents
from clawhaven.ports.payments import CheckoutRequest, Discount, Price
from clawhaven.providers.payments.sandbox_schema import MONTHS
from clawhaven.providers.payments.sandbox_store import refused

_FIXED_FEE_MICROS = 300_000
_LONGEST_TRIAL_DAYS = 730


def fee_of(amount_micros: int) -> int:
    """What the vendor keeps of a payment: 2.9 % and 30 cents, as Stripe does for cards in the USA."""
    if amount_micros <= 0:
        return 0
    return min(amount_micros, _cents(amount_micros * 29, 1000) + _FIXED_FEE_MICROS)


def share_of(amount_micros: int, rest_seconds: float, total_seconds: float) -> int:
    """The part of an amount that belongs to the rest of its period, to the nearest cent."""
    total = max(1, round(total_seconds))
    return _cents(amount_micros * min(total, max(0, round(rest_seconds))), total)


def discounted(amount_micros: int, discount: Discount | None, begins: datetime, period_start: datetime) -> int:
    """A period's price after the discount, which began with the first paid period at `begins`."""
    if discount is None or not _is_valid_for(discount, begins, period_start):
        return amount_micros
    off = discount.amount_off_micros
    if off is None:
        off = _cents(amount_micros * (discount.percent_off or 0), 100)
    return max(0, amount_micros - off)


def period_of(anchor: datetime, cycle: int, interval: str) -> tuple[datetime, datetime]:
    """Start and end of the period number `cycle` from 0. Counted from the anchor, so 31 January leads to 31 March."""
    length = MONTHS[interval]
    return month_after(anchor, cycle * length), month_after(anchor, (cycle + 1) * length)


def pack(discount: Discount | None) -> str | None:
    """A discount as the file keeps it."""
    return None if discount is None else json.dumps(asdict(discount), sort_keys=True)


def unpack(text: str | None) -> Discount | None:
    """The same, read."""
    return None if text is None else Discount(**json.loads(text))


def check_request(request: CheckoutRequest) -> None:
    """Raises ProviderError (permanent) naming what no vendor could sell."""
    check_amount(request.amount_micros)
    if request.interval is not None:
        check_interval(request.interval)
    if not 0 <= request.trial_days <= _LONGEST_TRIAL_DAYS:
        raise refused("invalid_trial", f"A trial has 0 to {_LONGEST_TRIAL_DAYS} days.")
    if request.interval is None and (request.trial_days or request.discount):
        raise refused("invalid_checkout", "Only a subscription has a trial or a discount.")
    if request.discount is not None:
        _check_discount(request.discount)


def check_price(price: Price) -> None:
    """The same for a price to change to."""
    check_amount(price.amount_micros)
    check_interval(price.interval)


def check_amount(amount_micros: int) -> None:
    """The same for an amount: a positive number of whole cents."""
    with suppress(ValueError):
        if to_cents(amount_micros) > 0:
            return
    raise refused("invalid_amount", "An amount must be a positive number of whole cents.")


def check_interval(interval: str) -> None:
    """The same for an interval."""
    if interval not in MONTHS:
        raise refused("invalid_interval", f"There is no interval {interval!r}.")


def _check_discount(discount: Discount) -> None:
    percent, amount, months = discount.percent_off, discount.amount_off_micros, discount.months
    if (percent is None) == (amount is None):
        raise refused("invalid_discount", "A discount is either per cent or an amount.")
    if (percent is not None and not 1 <= percent <= 100) or (months is not None and months < 0):
        raise refused("invalid_discount", "A discount takes 1 to 100 per cent, for 0 or more months.")
    if amount is not None:
        check_amount(amount)


def _is_valid_for(discount: Discount, begins: datetime, period_start: datetime) -> bool:
    if discount.months is None:
        return True
    if discount.months == 0:
        return period_start <= begins
    return period_start < month_after(begins, discount.months)


def _cents(numerator: int, denominator: int) -> int:
    """The quotient in micro-dollars, rounded half up to whole cents."""
    unit = denominator * MICROS_PER_CENT
    return (2 * numerator + unit) // (2 * unit) * MICROS_PER_CENT
