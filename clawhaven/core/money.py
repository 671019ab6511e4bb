"""Money as integer micro-dollars (1 USD = 1,000,000). No floats anywhere."""

from __future__ import annotations

import re

MICROS_PER_DOLLAR = 1_000_000
MICROS_PER_CENT = 10_000

_MOST_DIGITS = 9
_AMOUNTS = (
    re.compile(r"(?P<whole>[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.(?P<fraction>[0-9]{0,6}))?"),
    re.compile(r"(?P<whole>[1-9][0-9]{0,2}(?:\.[0-9]{3})+),(?P<fraction>[0-9]{0,6})"),
    re.compile(r"(?P<whole>[0-9]+)(?:[.,](?P<fraction>[0-9]{0,6}))?"),
)
"""With thousands marked as in English, as in German, and without."""


def from_cents(cents: int) -> int:
    """Cents, as payment vendors count, to micro-dollars."""
    return cents * MICROS_PER_CENT


def to_cents(micros: int) -> int:
    """Micro-dollars to whole cents; refuses an amount that is not a whole number of cents."""
    cents, rest = divmod(micros, MICROS_PER_CENT)
    if rest:
        raise ValueError(f"{micros} micro-dollars is not a whole number of cents")
    return cents


def format_usd(micros: int) -> str:
    """`$29.00`, `-$0.000123`: two decimals, or as many as the amount needs (at most six)."""
    sign = "-" if micros < 0 else ""
    dollars, rest = divmod(abs(micros), MICROS_PER_DOLLAR)
    decimals = f"{rest:06d}".rstrip("0")
    return f"{sign}${dollars:,}.{decimals.ljust(2, '0')}"


def parse_usd(text: str) -> int:
    """`29`, `29.5`, `$0.000123`, `1,000.50` to micro-dollars; raises ValueError on anything else.

    A comma before one, two or more than three digits at the end is a decimal one, as in `12,50` and `1.000,50`: read
    as a thousand's mark it would make hundreds of it.
    """
    cleaned = text.strip().removeprefix("$")
    found = next((found for form in _AMOUNTS if (found := form.fullmatch(cleaned))), None)
    if found is None:
        raise ValueError(f"not an amount in dollars: {text!r}")
    whole = found["whole"].replace(",", "").replace(".", "")
    if len(whole) > _MOST_DIGITS:
        raise ValueError(f"not an amount in dollars: {text!r}")
    return int(whole) * MICROS_PER_DOLLAR + int((found["fraction"] or "").ljust(6, "0"))
