"""OpenAI's usage and cost exports: the dashboard's CSV files, and the pages of its administration API.

https://platform.openai.com/docs/api-reference/usage (completions and embeddings: input includes what was cached;
costs: dollars by line item, as in `gpt-5.4-2026-03-05, input`).
"""

from __future__ import annotations

from clawhaven.ports.upstream import VendorDay
from clawhaven.providers.upstreams.exporting import MICROS, Row, Sums, count, day_of, number, rows_of

DAYS = ("start_time_iso", "start_time", "usage_date_utc", "date")


def read_export(text: str) -> list[VendorDay]:
    """The days of an export, tokens or cost. Raises ValueError with a sentence."""
    rows, _ = rows_of(text)
    sums = Sums()
    for row in rows:
        amount = row.get("amount")
        if isinstance(amount, dict):
            _add_cost(sums, {**row, "amount_value": amount.get("value"), "amount_currency": amount.get("currency")})
        elif "amount_value" in row:
            _add_cost(sums, row)
        elif "input_tokens" in row:
            cached = count(row, "input_cached_tokens")
            sums.add(
                day_of(row, *DAYS),
                str(row.get("model") or ""),
                input_tokens=max(0, count(row, "input_tokens") - cached),
                output_tokens=count(row, "output_tokens"),
                cache_read_tokens=cached,
                cache_write_tokens=0,
            )
        else:
            raise ValueError("this is neither OpenAI's usage export (input_tokens) nor its costs (amount_value)")
    return sums.days()


def _add_cost(sums: Sums, row: Row) -> None:
    currency = str(row.get("amount_currency") or "usd").lower()
    if currency != "usd":
        raise ValueError(f"amounts are in {currency[:10]}; ours are in US dollars")
    model = str(row.get("line_item") or row.get("model") or "").partition(", ")[0]
    sums.add(day_of(row, *DAYS), model, cost_micros=number(row, "amount_value") * MICROS)
