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
    """Who caused a call: a person's message, something automatic (heartbeat, cron …), or nobody knows."""

    PERSON = "person"
    AUTOMATIC = "automatic"
    UNKNOWN = "unknown"


class Grant(Base):
    """What metering knows of an instance: its secret's hash, who pays, and its limits (None: unlimited).

    `models` None: every model in the price table. `own_key_sealed` is the customer's vendor key, sealed for
    metering.grants.OWN_KEY_PURPOSE; `own_key_upstream` is the vendor it belongs to.
    """

    __tablename__ = "model_grant"
    __table_args__ = (sa.UniqueConstraint("key_hash"), sa.Index(None, "account_id"))

    instance_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.String(40))
    key_hash: Mapped[str] = mapped_column(sa.String(64))
    is_active: Mapped[bool] = mapped_column(default=False)
    plan_mode: Mapped[str] = mapped_column(sa.String(16))
    ledger_account_id: Mapped[str | None] = mapped_column(sa.String(40))
    messages_per_hour: Mapped[int | None]
    tokens_per_day: Mapped[int | None]
    max_in_flight: Mapped[int | None]
    models: Mapped[list[str] | None] = mapped_column(sa.JSON(none_as_null=True))
    markup_percent: Mapped[int] = mapped_column(default=150)
    own_key_upstream: Mapped[str | None] = mapped_column(sa.String(32))
    own_key_sealed: Mapped[str | None] = mapped_column(sa.Text)
    updated_at: Mapped[datetime]


class OwnKey(Base):
    """A customer's own vendor key for one assistant, sealed for metering.grants.OWN_KEY_PURPOSE. `hint`: its end."""

    __tablename__ = "own_key"

    instance_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    upstream: Mapped[str] = mapped_column(sa.String(40))
    sealed: Mapped[str] = mapped_column(sa.Text)
    hint: Mapped[str] = mapped_column(sa.String(8))
    checked_at: Mapped[datetime]


class UsageRow(Base):
    """One model call. `provider_cost_micros` is list price (zero with the customer's own key); `price_micros` is what
    the customer was charged (on an included plan: its value); `uncovered_micros` is what the wallet could not cover."""

    __tablename__ = "usage"
    __table_args__ = (
        sa.Index(None, "account_id", "started_at"),
        sa.Index(None, "instance_id", "started_at"),
        sa.Index(None, "state", "expires_at"),
        sa.Index(None, "trace_id"),
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
    reservation_key: Mapped[str | None] = mapped_column(sa.String(200))
    error: Mapped[str | None] = mapped_column(sa.String(200))
    trace_id: Mapped[str | None] = mapped_column(sa.String(32))
    started_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


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
