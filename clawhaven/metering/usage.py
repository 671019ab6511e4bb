"""Reading usage: sums for charts and invoices, and the calls behind them. Abandoned calls are listed, cost nothing.

Sums over whole hours come from `usage_hour`, which is written with every call that ends; a period that begins or ends
within an hour is added up from the calls themselves.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.errors import Invalid
from clawhaven.metering.limits import IS_OPEN
from clawhaven.metering.models import CallState, Grant, UsageHour, UsageRow

WAYS = ("day", "hour", "model", "instance", "source")
"""What usage can be added up by. Days and hours are UTC."""

HOUR = timedelta(hours=1)


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
class Line:
    """Usage of one combination of keys, in the order in which they were asked for."""

    keys: tuple[str, ...]
    sum: Sum


@dataclass(frozen=True, slots=True)
class Summary:
    """Usage of an account in a period, added up four ways. Days are UTC."""

    total: Sum
    by_day: list[Sum]
    by_model: list[Sum]
    by_instance: list[Sum]
    by_source: list[Sum]


@dataclass(frozen=True, slots=True)
class Live:
    """What goes on now: calls under way, with what they hold, and the last hour and today (UTC) so far."""

    in_flight: int
    held_micros: int
    this_hour: Sum
    today: Sum
    today_by_source: list[Sum]


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Calls, newest first, and the cursor of the next page (None: this was the last)."""

    calls: Sequence[UsageRow]
    next_cursor: str | None


def usage_summary(db: Session, account_id: str, since: datetime, until: datetime) -> Summary:
    """Everything used from `since` up to, not including, `until`."""
    total = usage_by(db, account_id, (), since, until)
    day, model, instance, source = (
        [line.sum for line in usage_by(db, account_id, (way,), since, until)]
        for way in ("day", "model", "instance", "source")
    )
    return Summary(total[0].sum if total else empty("total"), day, model, instance, source)


def usage_by(
    db: Session,
    account_id: str | None,
    ways: Sequence[str],
    since: datetime,
    until: datetime,
    *,
    instance_id: str | None = None,
) -> list[Line]:
    """Usage from `since` up to, not including, `until`, one line per combination of `ways` (some of WAYS), in their
    order; without a way one line, or none. `account_id` None: of everybody. Raises Invalid for an unknown way."""
    unknown = [way for way in ways if way not in WAYS]
    if unknown or len(set(ways)) < len(ways):
        raise Invalid(f"Usage can be added up by {', '.join(WAYS)}, each once.", field="by", reason="unknown")
    is_whole = all(moment == hour_of(moment) for moment in (since, until))
    table: Any = UsageHour if is_whole else UsageRow
    moment = UsageHour.hour_at if is_whole else UsageRow.started_at
    where = [moment >= since, moment < until]
    where += [] if account_id is None else [table.account_id == account_id]
    where += [] if instance_id is None else [table.instance_id == instance_id]
    where += [] if is_whole else [UsageRow.state != CallState.ABANDONED.value]
    keys = [_key(db, table, moment, way).label(f"way_{way}") for way in ways]
    query = sa.select(*keys, *_totals(is_whole)).where(*where).group_by(*keys).order_by(*keys)
    lines = []
    for row in db.execute(query).all():
        names = tuple(str(name) for name in row[: len(keys)])
        lines.append(Line(names, Sum(" ".join(names) or "total", *(int(value or 0) for value in row[len(keys) :]))))
    return lines if ways or (lines and lines[0].sum.calls) else []


def live_usage(db: Session, account_id: str, now: datetime) -> Live:
    """What goes on in an account now."""
    row = UsageRow
    mine = sa.select(Grant.instance_id).where(Grant.account_id == account_id)
    open_now = (row.instance_id.in_(mine), IS_OPEN, row.expires_at > now)
    count, held = db.execute(sa.select(sa.func.count(), sa.func.sum(row.held_micros)).where(*open_now)).one()
    begin, end = now.replace(hour=0, minute=0, second=0, microsecond=0), hour_of(now) + HOUR
    by_source = [line.sum for line in usage_by(db, account_id, ("source",), begin, end)]
    (today,) = usage_by(db, account_id, (), begin, end) or [Line((), empty("total"))]
    (hour,) = usage_by(db, account_id, (), hour_of(now), end) or [Line((), empty("total"))]
    return Live(int(count), int(held or 0), hour.sum, today.sum, by_source)


def hour_of(moment: datetime) -> datetime:
    """The beginning of its hour, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def month_so_far(now: datetime) -> tuple[datetime, datetime]:
    """This month (UTC) in whole hours, the present one included: what `usage_by` adds up without reading the calls."""
    hour = hour_of(now)
    return hour.replace(day=1, hour=0), hour + HOUR


def empty(key: str) -> Sum:
    """Nothing used."""
    return Sum(key, 0, 0, 0, 0, 0, 0, 0)


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


def _totals(is_whole: bool) -> list[sa.ColumnElement[Any]]:
    if is_whole:
        hours = UsageHour
        columns: list[Any] = [hours.calls, hours.input_tokens, hours.output_tokens, hours.cache_read_tokens]
        columns += [hours.cache_write_tokens, hours.price_micros, hours.provider_cost_micros]
        return [sa.func.sum(column) for column in columns]
    row = UsageRow
    written = row.cache_write_5m_tokens + row.cache_write_1h_tokens
    columns = [row.input_tokens, row.output_tokens, row.cache_read_tokens, written]
    columns += [row.price_micros, row.provider_cost_micros]
    return [sa.func.count(), *(sa.func.sum(column) for column in columns)]


def _key(db: Session, table: Any, moment: Any, way: str) -> sa.ColumnElement[Any]:
    if way not in ("day", "hour"):
        column: sa.ColumnElement[Any] = {
            "model": table.model,
            "instance": table.instance_id,
            "source": table.source,
        }[way]
        return column
    if db.get_bind().dialect.name == "sqlite":
        return sa.func.strftime("%Y-%m-%d" if way == "day" else "%Y-%m-%dT%H:00:00Z", moment)
    shape = "YYYY-MM-DD" if way == "day" else 'YYYY-MM-DD"T"HH24:00:00"Z"'
    return sa.func.to_char(sa.func.timezone("UTC", moment), shape)


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
