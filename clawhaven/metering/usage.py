"""Reading usage: sums for charts and invoices, and the calls behind them. Abandoned calls are listed, cost nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.errors import Invalid
from clawhaven.metering.models import CallState, UsageRow


@dataclass(frozen=True, slots=True)
class Sum:
    """Usage of one key (a day `2026-11-21`, a model, an instance, a source). Money in micro-dollars.

    `provider_cost_micros` is the operator's figure; do not show it to customers.
    """

    key: str
    calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    price_micros: int
    provider_cost_micros: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Usage of an account in a period, added up four ways. Days are UTC."""

    total: Sum
    by_day: list[Sum]
    by_model: list[Sum]
    by_instance: list[Sum]
    by_source: list[Sum]


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Calls, newest first, and the cursor of the next page (None: this was the last)."""

    calls: Sequence[UsageRow]
    next_cursor: str | None


def usage_summary(db: Session, account_id: str, since: datetime, until: datetime) -> Summary:
    """Everything used from `since` up to, not including, `until`."""
    row = UsageRow
    period = sa.and_(row.account_id == account_id, row.started_at >= since, row.started_at < until)
    total = _sums(db, sa.literal("total"), period)
    return Summary(
        total=total[0] if total else Sum("total", 0, 0, 0, 0, 0, 0, 0),
        by_day=_sums(db, _day(db), period),
        by_model=_sums(db, row.model, period),
        by_instance=_sums(db, row.instance_id, period),
        by_source=_sums(db, row.source, period),
    )


def list_usage(
    db: Session, account_id: str, cursor: str | None = None, limit: int = 50, instance_id: str | None = None
) -> UsagePage:
    """An account's calls, newest first. Raises Invalid for a bad cursor."""
    row = UsageRow
    query = sa.select(row).where(row.account_id == account_id).order_by(row.started_at.desc(), row.id.desc())
    if instance_id is not None:
        query = query.where(row.instance_id == instance_id)
    if cursor is not None:
        moment, call_id = _read_cursor(cursor)
        before = sa.and_(row.started_at == moment, row.id < call_id)
        query = query.where(sa.or_(row.started_at < moment, before))
    rows = db.execute(query.limit(limit + 1)).scalars().all()
    last = rows[limit - 1] if len(rows) > limit else None
    return UsagePage(rows[:limit], None if last is None else _write_cursor(last))


def calls_between(db: Session, instance_id: str, since: datetime, until: datetime) -> Sequence[UsageRow]:
    """An instance's calls from `since` up to, not including, `until`, oldest first."""
    row = UsageRow
    query = sa.select(row).where(row.instance_id == instance_id, row.started_at >= since, row.started_at < until)
    return db.execute(query.order_by(row.started_at, row.id)).scalars().all()


def calls_of_trace(db: Session, trace_id: str) -> Sequence[UsageRow]:
    """The calls of one turn, by the W3C trace id that they carried, oldest first."""
    return db.scalars(
        sa.select(UsageRow).where(UsageRow.trace_id == trace_id).order_by(UsageRow.started_at, UsageRow.id)
    ).all()


def _sums(db: Session, key: Any, period: sa.ColumnElement[bool]) -> list[Sum]:
    row = UsageRow

    def total(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(column), 0)

    label = key.label("usage_key")
    query = (
        sa.select(
            label,
            sa.func.count(),
            total(row.input_tokens + 0),
            total(row.output_tokens + 0),
            total(row.cache_read_tokens + 0),
            total(row.cache_write_5m_tokens + row.cache_write_1h_tokens),
            total(row.price_micros + 0),
            total(row.provider_cost_micros + 0),
        )
        .where(period, row.state != CallState.ABANDONED.value)
        .group_by(label)
        .order_by(label)
    )
    return [Sum(str(name), *(int(value) for value in values)) for name, *values in db.execute(query).all()]


def _day(db: Session) -> sa.ColumnElement[Any]:
    moment = UsageRow.started_at
    if db.get_bind().dialect.name == "sqlite":
        return sa.func.date(moment)
    return sa.func.to_char(sa.func.timezone("UTC", moment), "YYYY-MM-DD")


def _write_cursor(row: UsageRow) -> str:
    return base64.urlsafe_b64encode(f"{row.started_at.astimezone(UTC).isoformat()}|{row.id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        moment, _, call_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        started_at = datetime.fromisoformat(moment).astimezone(UTC) if "+" in moment else None
    except (ValueError, OverflowError):
        started_at = None
    if started_at is None or not call_id.isascii() or not call_id.isprintable():
        raise Invalid("This cursor is not one of ours.", field="cursor")
    return started_at, call_id
