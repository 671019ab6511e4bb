"""Anthropic's usage and cost exports: the console's CSV files, and the pages of its Admin API.

https://platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages (tokens),
https://platform.claude.com/docs/en/api/admin/cost_report (cost; amounts are cents as decimal text).
"""

from __future__ import annotations

from clawhaven.ports.upstream import VendorDay
from clawhaven.providers.upstreams.exporting import MICROS, Row, Sums, count, day_of, number, rows_of

CENT = 10_000


def read_export(text: str) -> list[VendorDay]:
    """The days of an export, tokens or cost. Raises ValueError with a sentence."""
    rows, is_json = rows_of(text)
    sums = Sums()
    for row in rows:
        if is_json:
            _add_json(sums, row)
        elif "usage_output_tokens" in row:
            _add_tokens(sums, row)
        elif "cost_usd" in row:
            day, model = day_of(row, "usage_date_utc"), row.get("model") or row.get("cost_type")
            sums.add(day, str(model or ""), cost_micros=number(row, "cost_usd") * MICROS)
        else:
            raise ValueError("this is neither Anthropic's usage export (usage_output_tokens) nor its costs (cost_usd)")
    return sums.days()


def _add_tokens(sums: Sums, row: Row) -> None:
    written = ("usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h")
    sums.add(
        day_of(row, "usage_date_utc"),
        str(row.get("model_version") or ""),
        input_tokens=count(row, "usage_input_tokens_no_cache"),
        output_tokens=count(row, "usage_output_tokens"),
        cache_read_tokens=count(row, "usage_input_tokens_cache_read"),
        cache_write_tokens=sum(count(row, name) for name in written),
    )


def _add_json(sums: Sums, row: Row) -> None:
    if "amount" in row:
        model = row.get("model") or (row.get("cost_type") if row.get("cost_type") != "tokens" else "")
        sums.add(day_of(row), str(model or ""), cost_micros=number(row, "amount") * CENT)
        return
    if "output_tokens" not in row:
        raise ValueError("this is neither Anthropic's usage report nor its cost report")
    created = row.get("cache_creation")
    written = created if isinstance(created, dict) else {}
    sums.add(
        day_of(row),
        str(row.get("model") or ""),
        input_tokens=count(row, "uncached_input_tokens"),
        output_tokens=count(row, "output_tokens"),
        cache_read_tokens=count(row, "cache_read_input_tokens"),
        cache_write_tokens=sum(
            count(written, name) for name in ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
        ),
    )
