"""A grant's limits, counted from usage rows so that they hold across processes and restarts.

Messages: calls that begin a person's turn (or automatic calls, which have no turn) in the last 60 minutes; a turn's
follow-up calls with tool results are never refused for this limit. Tokens: the last 24 hours; cache reads count a
tenth, as that is about what they cost. In flight: calls open now.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.errors import RateLimited
from clawhaven.metering.models import CallState, Grant, Source, UsageRow

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

MESSAGES_PER_HOUR = "messages_per_hour"
TOKENS_PER_DAY = "tokens_per_day"
IN_FLIGHT = "in_flight"


def check_limits(db: Session, grant: Grant, *, is_message: bool, now: datetime) -> None:
    """Raises RateLimited (`messages_per_hour`, `tokens_per_day` or `in_flight`; `retry_after` in seconds)."""
    if is_message and grant.messages_per_hour is not None:
        _check_messages(db, grant, grant.messages_per_hour, now)
    if grant.tokens_per_day is not None:
        _check_tokens(db, grant, grant.tokens_per_day, now)
    if grant.max_in_flight is not None:
        _check_in_flight(db, grant, grant.max_in_flight, now)


def tokens_used(db: Session, instance_id: str, *, since: datetime) -> int:
    """Tokens that count against a day's limit."""
    row = UsageRow
    whole = row.input_tokens + row.output_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens
    total = sa.func.coalesce(sa.func.sum(whole * 10 + row.cache_read_tokens), 0)
    query = sa.select(total).where(row.instance_id == instance_id, row.started_at > since)
    return int(db.execute(query).scalar_one()) // 10


def _check_messages(db: Session, grant: Grant, limit: int, now: datetime) -> None:
    row = UsageRow
    is_message = sa.or_(row.is_turn, row.source == Source.AUTOMATIC.value)
    recent = sa.and_(row.instance_id == grant.instance_id, row.started_at > now - HOUR, is_message)
    count, oldest = db.execute(sa.select(sa.func.count(), sa.func.min(row.started_at)).where(recent)).one()
    if count >= limit:
        wait = _seconds_until(oldest + HOUR, now) if oldest else 3600
        message = f"The limit of {limit} messages an hour is reached. It frees up in about {_minutes(wait)}."
        raise RateLimited(message, code=MESSAGES_PER_HOUR, limit=limit, retry_after=wait)


def _check_tokens(db: Session, grant: Grant, limit: int, now: datetime) -> None:
    if tokens_used(db, grant.instance_id, since=now - DAY) < limit:
        return
    row = UsageRow
    oldest = db.execute(
        sa.select(sa.func.min(row.started_at)).where(
            row.instance_id == grant.instance_id, row.started_at > now - DAY, row.output_tokens > 0
        )
    ).scalar_one()
    wait = _seconds_until(oldest + DAY, now) if oldest else 3600
    message = f"The limit of {limit:,} tokens a day is reached. It frees up in about {_minutes(wait)}."
    raise RateLimited(message, code=TOKENS_PER_DAY, limit=limit, retry_after=wait)


def _check_in_flight(db: Session, grant: Grant, limit: int, now: datetime) -> None:
    row = UsageRow
    count = db.execute(
        sa.select(sa.func.count()).where(
            row.instance_id == grant.instance_id,
            row.started_at > now - DAY,
            row.state == CallState.OPEN.value,
            row.expires_at > now,
        )
    ).scalar_one()
    if count >= limit:
        message = f"{limit} model calls are under way already. Try again in a moment."
        raise RateLimited(message, code=IN_FLIGHT, limit=limit, retry_after=5)


def _seconds_until(moment: datetime, now: datetime) -> int:
    return max(1, round((moment - now).total_seconds()))


def _minutes(seconds: int) -> str:
    minutes = -(-seconds // 60)
    if minutes >= 120:
        return f"{-(-minutes // 60)} hours"
    return "a minute" if minutes == 1 else f"{minutes} minutes"
