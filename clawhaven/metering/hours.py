"""Sums of usage by the hour, kept in step with the calls: limits and charts read them instead of every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from clawhaven.core.db import table_of
from clawhaven.core.statements import InsertMany
from clawhaven.metering.models import UsageHour
from clawhaven.metering.prices import Cost
from clawhaven.ports.upstream import Usage

_KEY = ("instance_id", "hour_at", "model", "source")
_SUMS = (
    "calls",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "weighted_tokens",
    "price_micros",
    "provider_cost_micros",
)
_ADD = InsertMany(table_of(UsageHour), key=_KEY, adds=_SUMS)


def add_to_hours(db: Session, ended: Sequence[tuple[Any, Usage | None, Cost]]) -> None:
    """Add calls that ended now: (the call's row, what it used, what it cost) to the hour in which each began."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    accounts: dict[tuple[Any, ...], str] = {}
    for row, usage, value in ended:
        key = (row.instance_id, row.started_at.replace(minute=0, second=0, microsecond=0), row.model, row.source)
        accounts[key] = row.account_id
        known = sums.setdefault(key, [0] * len(_SUMS))
        for place, amount in enumerate(_amounts(usage or Usage(), value)):
            known[place] += amount
    rows = [
        {**dict(zip(_KEY, key, strict=True)), "account_id": accounts[key], **dict(zip(_SUMS, sums[key], strict=True))}
        for key in sorted(sums)
    ]
    _ADD.run(db, rows)


def _amounts(usage: Usage, value: Cost) -> tuple[int, ...]:
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    weighted = (usage.input_tokens + usage.output_tokens + written) * 10 + usage.cache_read_tokens
    return (
        1,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        written,
        weighted,
        value.price_micros,
        value.provider_micros,
    )
