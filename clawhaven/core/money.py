"""Money as integer micro-dollars (1 USD = 1,000,000). No floats anywhere."""

from __future__ import annotations

MICROS_PER_DOLLAR = 1_000_000
MICROS_PER_CENT = 10_000


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
    """`29`, `29.5`, `$0.000123` to micro-dollars; raises ValueError on anything else."""
    cleaned = text.strip().removeprefix("$").replace(",", "")
    whole, _, fraction = cleaned.partition(".")
    if not whole.isascii() or not whole.isdigit() or len(fraction) > 6 or len(whole) > 9:
        raise ValueError(f"not an amount in dollars: {text!r}")
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f"not an amount in dollars: {text!r}")
    return int(whole) * MICROS_PER_DOLLAR + int(fraction.ljust(6, "0") or 0)
