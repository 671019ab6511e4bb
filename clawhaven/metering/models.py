"""Tables of metering: who may call models, and what every call used and cost."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from clawhaven.core.db import Base
from clawhaven.core.states import Machine


class PlanMode(StrEnum):
    """Who pays for tokens: the platform, the customer's wallet, or the customer's own vendor account."""

    INCLUDED = "included"
    METERED = "metered"
    OWN_KEY = "own_key"


class CallState(StrEnum):
    """Life of a call. `abandoned`: its process died before the answer was released, so it was never acknowledged."""

    OPEN = "open"
    CLOSED = "closed"
    ABANDONED = "abandoned"


class Source(StrEnum):
    """Who caused a call. `automatic`: by itself, in a way that has no name here; `program`: a program of the customer's
    own, with a key for it; `unknown`: nobody knows."""

    PERSON = "person"
    HEARTBEAT = "heartbeat"
    CRON = "cron"
    SUBAGENT = "subagent"
    COMPACTION = "compaction"
    AUTOMATIC = "automatic"
    PROGRAM = "program"
    UNKNOWN = "unknown"

    @property
    def is_automatic(self) -> bool:
        """True when the assistant made it by itself."""
        return self not in (Source.PERSON, Source.PROGRAM, Source.UNKNOWN)

    @property
    def is_idle(self) -> bool:
        """True when it began without a person: what the day's allowance for automatic calls is for. Helpers that a
        person's turn sets to work, and keeping a long conversation short, are a part of that turn."""
        return self in (Source.HEARTBEAT, Source.CRON, Source.AUTOMATIC)


def _partial(name: str, condition: str, *columns: str, unique: bool = False) -> sa.Index:
    """An index of the rows that meet a condition. Queries must say the condition in the same words, not as a value."""
    where = sa.text(condition)
    return sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


class Grant(Base):
    """What metering knows of an instance: its secret's hash, who pays, and its limits (None: unlimited).
    `replaced_key_hash`: of the secret before, which is accepted too until nothing runs with it any more.

    `models` None: every model in the price table. `own_key_sealed` is the customer's vendor key, sealed for
    metering.grants.OWN_KEY_PURPOSE; `own_key_upstream` is the vendor it belongs to. Money a day (UTC) counts what the
    customer is charged: of this instance (of the whole account: AccountLimit), and of automatic calls alone, for which
    the customer may add `automatic_extra_micros` on the day `automatic_extra_day` (`2026-11-21`).
    """

    __tablename__ = "model_grant"
    __table_args__ = (
        sa.UniqueConstraint("key_hash"),
        _partial("uq_model_grant_replaced_key_hash", "replaced_key_hash IS NOT NULL", "replaced_key_hash", unique=True),
        sa.Index(None, "account_id"),
    )

    instance_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.String(40))
    key_hash: Mapped[str] = mapped_column(sa.String(64))
    replaced_key_hash: Mapped[str | None] = mapped_column(sa.String(64))
    is_active: Mapped[bool] = mapped_column(default=False)
    plan_mode: Mapped[str] = mapped_column(sa.String(16))
    ledger_account_id: Mapped[str | None] = mapped_column(sa.String(40))
    messages_per_hour: Mapped[int | None]
    tokens_per_day: Mapped[int | None]
    max_in_flight: Mapped[int | None]
    models: Mapped[list[str] | None] = mapped_column(sa.JSON(none_as_null=True))
    markup_percent: Mapped[int] = mapped_column(default=150)
    spend_per_day_micros: Mapped[int | None]
    automatic_per_day_micros: Mapped[int | None]
    automatic_extra_micros: Mapped[int] = mapped_column(default=0, server_default="0")
    automatic_extra_day: Mapped[str | None] = mapped_column(sa.String(10))
    own_key_upstream: Mapped[str | None] = mapped_column(sa.String(32))
    own_key_sealed: Mapped[str | None] = mapped_column(sa.Text)
    updated_at: Mapped[datetime]


class AccountLimit(Base):
    """What all assistants of an account together may cost a day. It outlives every one of them."""

    __tablename__ = "account_limit"

    account_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    spend_per_day_micros: Mapped[int]


class OwnKey(Base):
    """A customer's own vendor key for one assistant, sealed for metering.grants.OWN_KEY_PURPOSE. `hint`: its end."""

    __tablename__ = "own_key"

    instance_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    upstream: Mapped[str] = mapped_column(sa.String(40))
    sealed: Mapped[str] = mapped_column(sa.Text)
    hint: Mapped[str] = mapped_column(sa.String(8))
    checked_at: Mapped[datetime]


class ProgramKey(Base):
    """A key with which a program of the customer's own calls the models of one assistant's plan. Only its hash is
    stored; `prefix` is what a person recognises it by. `made_by`: the API key that made it; None: a signed-in person.
    A revoked key's row is gone."""

    __tablename__ = "program_key"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    instance_id: Mapped[str] = mapped_column(sa.String(40), index=True)
    account_id: Mapped[str] = mapped_column(sa.String(40), index=True)
    name: Mapped[str] = mapped_column(sa.String(100))
    prefix: Mapped[str] = mapped_column(sa.String(16))
    key_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    made_by: Mapped[str | None] = mapped_column(sa.String(40))
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]


class UsageRow(Base):
    """One model call. `provider_cost_micros` is list price (zero with the customer's own key); `price_micros` is what
    the customer was charged (on an included plan: its value); `uncovered_micros` is what the wallet could not cover.

    While it is open, `held_micros` are set aside of `ledger_account_id` (None: nothing is charged per token), and
    `held_tokens`, the most that it can read and write, count against the tokens a day.
    """

    __tablename__ = "usage"
    __table_args__ = (
        sa.Index(None, "account_id", "started_at"),
        sa.Index(None, "instance_id", "started_at", "is_message"),
        _partial("ix_usage_open", "state = 'open'", "instance_id", "expires_at"),
        _partial("ix_usage_trace", "trace_id IS NOT NULL", "trace_id"),
        _partial("ix_usage_uncovered", "uncovered_micros > 0", "started_at"),
    )

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    instance_id: Mapped[str] = mapped_column(sa.String(40))
    account_id: Mapped[str] = mapped_column(sa.String(40))
    plan_mode: Mapped[str] = mapped_column(sa.String(16))
    model: Mapped[str] = mapped_column(sa.String(100))
    upstream: Mapped[str] = mapped_column(sa.String(32))
    dialect: Mapped[str] = mapped_column(sa.String(32))
    price_id: Mapped[str] = mapped_column(sa.String(100))
    markup_percent: Mapped[int]
    state: Mapped[str] = mapped_column(sa.String(16), default=CallState.OPEN.value)
    source: Mapped[str] = mapped_column(sa.String(16), default=Source.UNKNOWN.value)
    is_turn: Mapped[bool] = mapped_column(default=False)
    """True when this call begins a person's turn, False for its follow-up calls (tool results) and automatic ones."""
    is_message: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """True when it counts as a message: it begins a person's turn, or is automatic."""
    input_tokens: Mapped[int] = mapped_column(default=0)
    output_tokens: Mapped[int] = mapped_column(default=0)
    cache_read_tokens: Mapped[int] = mapped_column(default=0)
    cache_write_5m_tokens: Mapped[int] = mapped_column(default=0)
    cache_write_1h_tokens: Mapped[int] = mapped_column(default=0)
    reasoning_tokens: Mapped[int] = mapped_column(default=0)
    is_estimated: Mapped[bool] = mapped_column(default=False)
    provider_cost_micros: Mapped[int] = mapped_column(default=0)
    price_micros: Mapped[int] = mapped_column(default=0)
    uncovered_micros: Mapped[int] = mapped_column(default=0)
    http_status: Mapped[int | None]
    ledger_account_id: Mapped[str | None] = mapped_column(sa.String(40))
    held_micros: Mapped[int] = mapped_column(default=0, server_default="0")
    held_tokens: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[str | None] = mapped_column(sa.String(200))
    trace_id: Mapped[str | None] = mapped_column(sa.String(32))
    started_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class UsageHour(Base):
    """What an instance's closed calls of one hour, model and source add up to. Written with each of them, so that
    limits and charts need not read the calls. `weighted_tokens`: ten for each token, one for each read from a cache."""

    __tablename__ = "usage_hour"
    __table_args__ = (sa.Index(None, "account_id", "hour_at"),)

    instance_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    hour_at: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    source: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.String(40))
    calls: Mapped[int] = mapped_column(default=0)
    input_tokens: Mapped[int] = mapped_column(default=0)
    output_tokens: Mapped[int] = mapped_column(default=0)
    cache_read_tokens: Mapped[int] = mapped_column(default=0)
    cache_write_tokens: Mapped[int] = mapped_column(default=0)
    weighted_tokens: Mapped[int] = mapped_column(default=0)
    price_micros: Mapped[int] = mapped_column(default=0)
    provider_cost_micros: Mapped[int] = mapped_column(default=0)


class LimitReached(Base):
    """A limit of money a day that refused a call (`limit`: its code, see limits.py). The first refusal of a UTC day
    writes it, so that the customer is told, once: `told_at`."""

    __tablename__ = "limit_reached"
    __table_args__ = (sa.Index(None, "told_at"),)

    instance_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    day: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    limit: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.String(40))
    at: Mapped[datetime]
    told_at: Mapped[datetime | None]


class VendorUsage(Base):
    """What a vendor says that a day (UTC) of a model was, by its newest export. Tokens and cost come in different
    exports: None, where none was read yet. `model` is in the form that both sides can be brought to."""

    __tablename__ = "vendor_usage"

    upstream: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    day: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    model: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cache_read_tokens: Mapped[int | None]
    cache_write_tokens: Mapped[int | None]
    cost_micros: Mapped[int | None]
    imported_at: Mapped[datetime]


calls = Machine(
    "call",
    UsageRow,
    "state",
    {
        CallState.OPEN: frozenset({CallState.CLOSED, CallState.ABANDONED}),
        # A call that outlived its time and ended properly after all is billed after all.
        CallState.ABANDONED: frozenset({CallState.CLOSED}),
        CallState.CLOSED: frozenset(),
    },
)
