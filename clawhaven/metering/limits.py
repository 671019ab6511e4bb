"""A grant's limits, counted from what was used so that they hold across processes and restarts.

Messages: calls that begin a person's turn (or automatic calls, which have no turn) in the last 60 minutes; a turn's
follow-up calls with tool results are never refused for this limit. Tokens: the last 24 hours, which move on hour by
hour; cache reads count a tenth, as that is about what they cost; and the most that calls under way can use. A call is
admitted while that is below the limit, however large it may be itself, else nobody could use the end of an allowance:
so one call can go beyond it, never several at once. In flight: calls open now. Money: what was charged since midnight
UTC and what is held for calls under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.db import table_of
from clawhaven.core.errors import RateLimited
from clawhaven.core.money import MICROS_PER_CENT, format_usd
from clawhaven.core.statements import Lookup
from clawhaven.metering.models import AccountLimit, Grant, Source, UsageHour, UsageRow

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

MESSAGES_PER_HOUR = "messages_per_hour"
TOKENS_PER_DAY = "tokens_per_day"
IN_FLIGHT = "in_flight"
SPEND_PER_DAY = "spend_per_day"
ACCOUNT_SPEND_PER_DAY = "account_spend_per_day"
AUTOMATIC_PER_DAY = "automatic_per_day"

AUTOMATIC_SOURCES = tuple(source.value for source in Source if source.is_idle)
"""Of calls that began without a person."""

IS_OPEN = sa.text("usage.state = 'open'")
"""In the words of the index that holds just these rows."""


class Terms(NamedTuple):
    """What admission reads of a Grant, by the names of its columns, and its account's limit."""

    key_hash: str
    replaced_key_hash: str | None
    instance_id: str
    account_id: str
    is_active: bool
    plan_mode: str
    ledger_account_id: str | None
    messages_per_hour: int | None
    tokens_per_day: int | None
    max_in_flight: int | None
    models: list[str] | None
    markup_percent: int
    spend_per_day_micros: int | None
    account_spend_per_day_micros: int | None
    automatic_per_day_micros: int | None
    automatic_extra_micros: int
    automatic_extra_day: str | None
    own_key_upstream: str | None
    own_key_sealed: str | None


@dataclass(slots=True)
class Counts:
    """What counts against one instance's limits now. Money in micro-dollars, of today."""

    in_flight: int = 0
    messages: int = 0
    weighted_tokens: int = 0
    held_tokens: int = 0
    spent_micros: int = 0
    held_micros: int = 0
    automatic_micros: int = 0
    automatic_held_micros: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the last 24 hours as the limit counts them."""
        return self.weighted_tokens // 10


class Tally:
    """The counts of the instances and accounts of one transaction, which goes on counting what it admits itself."""

    def __init__(self, db: Session, grants: Sequence[Terms], now: datetime) -> None:
        self._db, self._now = db, now
        self._of = {grant.instance_id: Counts() for grant in grants}
        self._accounts: dict[str, int] = {}
        self._read(grants)

    def check(self, grant: Terms, *, is_message: bool) -> None:
        """Raises RateLimited with the name of the limit as its code; `retry_after` in seconds."""
        counts, now = self._of[grant.instance_id], self._now
        if is_message and grant.messages_per_hour is not None and counts.messages >= grant.messages_per_hour:
            oldest = _oldest_message(self._db, grant.instance_id, now)
            wait = _seconds_until(oldest + HOUR, now) if oldest else 3600
            message = f"The limit of {grant.messages_per_hour} messages an hour is reached."
            raise _limited(MESSAGES_PER_HOUR, grant.messages_per_hour, message, wait)
        if grant.tokens_per_day is not None and counts.tokens >= grant.tokens_per_day:
            oldest = _oldest_hour(self._db, grant.instance_id, now)
            wait = _seconds_until(oldest + DAY, now) if oldest else 3600
            raise _limited(
                TOKENS_PER_DAY,
                grant.tokens_per_day,
                f"The limit of {grant.tokens_per_day:,} tokens a day is reached.",
                wait,
            )
        if grant.tokens_per_day is not None and counts.tokens + counts.held_tokens >= grant.tokens_per_day:
            message = f"Model calls under way may use up the {grant.tokens_per_day:,} tokens a day."
            raise _under_way(f"{message} Try again in a moment.", grant.tokens_per_day)
        if grant.max_in_flight is not None and counts.in_flight >= grant.max_in_flight:
            message = f"{grant.max_in_flight} model calls are under way already. Try again in a moment."
            raise _under_way(message, grant.max_in_flight)

    def check_money(self, grant: Terms, worst_micros: int, *, is_automatic: bool) -> None:
        """The same for limits of money, which need to know what the call costs at most."""
        counts = self._of[grant.instance_id]
        wait = _seconds_until(_midnight(self._now) + DAY, self._now)
        limit = grant.spend_per_day_micros
        if limit is not None and counts.spent_micros + counts.held_micros + worst_micros > limit:
            raise _over(SPEND_PER_DAY, limit, worst_micros, "a day", wait)
        limit = grant.account_spend_per_day_micros
        if limit is not None and self._accounts.get(grant.account_id, 0) + worst_micros > limit:
            raise _over(ACCOUNT_SPEND_PER_DAY, limit, worst_micros, "a day for the whole account", wait)
        allowance = automatic_allowance(grant, self._now)
        if not is_automatic or allowance is None:
            return
        if counts.automatic_micros >= allowance:
            message = f"The allowance of {format_usd(allowance)} a day for automatic calls is used up."
            raise _limited(AUTOMATIC_PER_DAY, allowance, message, wait)
        if counts.automatic_micros + counts.automatic_held_micros >= allowance:
            message = "Automatic calls under way may use up their allowance of today. Try again in a moment."
            raise _under_way(message, allowance)

    def admit(self, grant: Terms, held_micros: int, held_tokens: int, *, is_message: bool, is_automatic: bool) -> None:
        """Count a call that was admitted."""
        counts = self._of[grant.instance_id]
        counts.in_flight += 1
        counts.messages += is_message
        counts.held_micros += held_micros
        counts.held_tokens += held_tokens
        if is_automatic:
            counts.automatic_held_micros += held_micros
        if grant.account_spend_per_day_micros is not None:
            self._accounts[grant.account_id] = self._accounts.get(grant.account_id, 0) + held_micros

    def _read(self, grants: Sequence[Terms]) -> None:
        db, now = self._db, self._now
        per_day = {one.instance_id for one in grants if _has_money_limit(one)}
        per_token = {one.instance_id for one in grants if one.tokens_per_day is not None}
        counted = per_day | per_token | {one.instance_id for one in grants if one.max_in_flight is not None}
        for instance_id, count, held, automatic, tokens in _IN_FLIGHT.fetch(db, counted, now=now):
            counts = self._of[instance_id]
            counts.in_flight, counts.held_micros, counts.automatic_held_micros = count, int(held), int(automatic)
            counts.held_tokens = int(tokens)
        counted = {one.instance_id for one in grants if one.messages_per_hour is not None}
        for instance_id, count in _MESSAGES.fetch(db, counted, since=now - HOUR):
            self._of[instance_id].messages = count
        for instance_id, weighted in _TOKENS.fetch(db, per_token, since=now - DAY):
            self._of[instance_id].weighted_tokens = int(weighted)
        for instance_id, source, spent in _SPENT.fetch(db, per_day, since=_midnight(now)):
            counts = self._of[instance_id]
            counts.spent_micros += int(spent)
            counts.automatic_micros += int(spent) if source in AUTOMATIC_SOURCES else 0
        for account_id in sorted({one.account_id for one in grants if one.account_spend_per_day_micros is not None}):
            self._accounts[account_id] = account_spent(db, account_id, now)


_CALL, _HOURS, _LIMIT = table_of(UsageRow), table_of(UsageHour), table_of(AccountLimit)
_AT = _CALL.c.started_at.type
_IS_AUTOMATIC = _CALL.c.source.in_([sa.literal_column(f"'{source}'") for source in AUTOMATIC_SOURCES])
_IN_FLIGHT = Lookup(
    _CALL.c.instance_id,
    sa.select(
        _CALL.c.instance_id,
        sa.func.count(),
        sa.func.sum(_CALL.c.held_micros),
        sa.func.sum(sa.case((_IS_AUTOMATIC, _CALL.c.held_micros), else_=sa.literal_column("0"))),
        sa.func.sum(_CALL.c.held_tokens),
    )
    .where(IS_OPEN, _CALL.c.expires_at > sa.bindparam("now", type_=_AT))
    .group_by(_CALL.c.instance_id),
)
_MESSAGES = Lookup(
    _CALL.c.instance_id,
    sa.select(_CALL.c.instance_id, sa.func.count())
    .where(_CALL.c.is_message, _CALL.c.started_at > sa.bindparam("since", type_=_AT))
    .group_by(_CALL.c.instance_id),
)
_TOKENS = Lookup(
    _HOURS.c.instance_id,
    sa.select(_HOURS.c.instance_id, sa.func.sum(_HOURS.c.weighted_tokens))
    .where(_HOURS.c.hour_at > sa.bindparam("since", type_=_AT))
    .group_by(_HOURS.c.instance_id),
)
_SPENT = Lookup(
    _HOURS.c.instance_id,
    sa.select(_HOURS.c.instance_id, _HOURS.c.source, sa.func.sum(_HOURS.c.price_micros))
    .where(_HOURS.c.hour_at >= sa.bindparam("since", type_=_AT))
    .group_by(_HOURS.c.instance_id, _HOURS.c.source),
)


def automatic_allowance(grant: Terms | Grant, now: datetime) -> int | None:
    """Micro-dollars that automatic calls may cost today; None: no limit."""
    if grant.automatic_per_day_micros is None:
        return None
    extra = grant.automatic_extra_micros if grant.automatic_extra_day == now.date().isoformat() else 0
    return grant.automatic_per_day_micros + extra


def lock_account_limits(db: Session, grants: Iterable[Terms]) -> None:
    """Let nobody else admit calls of accounts that have a limit until the transaction ends: their assistants may have
    several wallets, whose locks do not keep each other's calls from being counted at the same time."""
    _TAKE_ACCOUNTS.fetch(db, {one.account_id for one in grants if one.account_spend_per_day_micros is not None})


_TAKE_ACCOUNTS = Lookup(
    _LIMIT.c.account_id,
    sa.select(_LIMIT.c.account_id).order_by(_LIMIT.c.account_id).with_for_update(key_share=True),
)


def account_spent(db: Session, account_id: str, now: datetime) -> int:
    """Charged today and held now, of all instances of an account; in one statement, so that a call that ends meanwhile
    is counted as one or the other."""
    hours, row = UsageHour, UsageRow
    spent = sa.select(sa.func.coalesce(sa.func.sum(hours.price_micros), 0)).where(
        hours.account_id == account_id, hours.hour_at >= _midnight(now)
    )
    mine = sa.select(Grant.instance_id).where(Grant.account_id == account_id)
    held = sa.select(sa.func.coalesce(sa.func.sum(row.held_micros), 0)).where(
        row.instance_id.in_(mine), IS_OPEN, row.expires_at > now
    )
    charged, waiting = db.execute(sa.select(spent.scalar_subquery(), held.scalar_subquery())).one()
    return int(charged) + int(waiting)


def _oldest_message(db: Session, instance_id: str, now: datetime) -> datetime | None:
    row = UsageRow
    query = sa.select(sa.func.min(row.started_at)).where(
        row.instance_id == instance_id, row.is_message, row.started_at > now - HOUR
    )
    return db.execute(query).scalar_one()


def _oldest_hour(db: Session, instance_id: str, now: datetime) -> datetime | None:
    hours = UsageHour
    query = sa.select(sa.func.min(hours.hour_at)).where(
        hours.instance_id == instance_id, hours.hour_at > now - DAY, hours.weighted_tokens > 0
    )
    return db.execute(query).scalar_one()


def _has_money_limit(grant: Terms) -> bool:
    return grant.spend_per_day_micros is not None or grant.automatic_per_day_micros is not None


def _over(code: str, limit: int, worst_micros: int, per: str, wait: int) -> RateLimited:
    if worst_micros <= limit:
        return _limited(code, limit, f"The limit of {format_usd(limit)} {per} is reached.", wait)
    enough = -(-worst_micros // MICROS_PER_CENT) * MICROS_PER_CENT
    message = f"This answer may cost up to {format_usd(enough)}, and the limit is {format_usd(limit)} {per}. "
    message += f"With a limit of {format_usd(enough)} or more, or with a model that costs less, it is possible."
    return RateLimited(message, code=code, limit=limit, needed_micros=enough, retry_after=wait)


def _limited(code: str, limit: int, message: str, wait: int) -> RateLimited:
    text = f"{message} It frees up in about {_minutes(wait)}."
    return RateLimited(text, code=code, limit=limit, retry_after=wait)


def _under_way(message: str, limit: int) -> RateLimited:
    return RateLimited(message, code=IN_FLIGHT, limit=limit, retry_after=5)


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _seconds_until(moment: datetime, now: datetime) -> int:
    return max(1, round((moment - now).total_seconds()))


def _minutes(seconds: int) -> str:
    minutes = -(-seconds // 60)
    if minutes >= 120:
        return f"{-(-minutes // 60)} hours"
    return "a minute" if minutes == 1 else f"{minutes} minutes"
