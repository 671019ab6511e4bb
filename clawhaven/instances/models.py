"""Tables of the instances room. Lifecycle, observation and progress are three things and share no column."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from clawhaven.core.db import Base


class Instance(Base):
    """One assistant: one OpenClaw gateway with its own state. `state` is written by instances.states only."""

    __tablename__ = "instance"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    slug: Mapped[str] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(60))
    persona: Mapped[str] = mapped_column(String(40))
    instructions: Mapped[str] = mapped_column(Text)
    plan: Mapped[str] = mapped_column(String(40))
    model: Mapped[str] = mapped_column(String(100))
    runtime: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20), index=True)
    suspended_for: Mapped[str | None] = mapped_column(String(80))
    """Reasons in force, space-separated and sorted; the assistant resumes when none is left."""
    generation: Mapped[int] = mapped_column(default=1)
    placement: Mapped[dict[str, Any] | None]
    gateway_token: Mapped[str] = mapped_column(Text)
    proxy_key: Mapped[str] = mapped_column(Text)
    failure_code: Mapped[str | None] = mapped_column(String(60))
    failure_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    active_at: Mapped[datetime | None]
    deletion_asked_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_instance_live_slug",
            "slug",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )


class InstanceEvent(Base):
    """History of one instance, readable by its owner."""

    __tablename__ = "instance_event"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    instance_id: Mapped[str] = mapped_column(ForeignKey("instance.id"), index=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(40))
    message: Mapped[str] = mapped_column(Text)


class Connection(Base):
    """A channel of an instance. A live bot token's `fingerprint` belongs to one instance only."""

    __tablename__ = "channel_connection"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    instance_id: Mapped[str] = mapped_column(ForeignKey("instance.id"), index=True)
    channel: Mapped[str] = mapped_column(String(40))
    fingerprint: Mapped[str | None] = mapped_column(String(64), unique=True)
    credentials: Mapped[str] = mapped_column(Text)
    bot_username: Mapped[str] = mapped_column(String(100))
    bot_url: Mapped[str] = mapped_column(String(300))
    claim_token: Mapped[str | None] = mapped_column(Text)
    owner_external_id: Mapped[str | None] = mapped_column(String(100))
    owner_username: Mapped[str | None] = mapped_column(String(100))
    claimed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("instance_id", "channel"),)


class Port(Base):
    """A loopback port taken for an instance on a host. The primary key makes a race impossible."""

    __tablename__ = "port_allocation"

    host: Mapped[str] = mapped_column(String(100), primary_key=True)
    port: Mapped[int] = mapped_column(primary_key=True)
    instance_id: Mapped[str | None] = mapped_column(ForeignKey("instance.id"), unique=True)
    blocked_at: Mapped[datetime | None]


class BootSlot(Base):
    """One of the few gateways that may boot at the same time on a host."""

    __tablename__ = "boot_slot"

    host: Mapped[str] = mapped_column(String(100), primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True)
    instance_id: Mapped[str] = mapped_column(String(40), unique=True)
    taken_at: Mapped[datetime]


class Operation(Base):
    """Something asked of an instance that takes time. `state`: queued, running, done or failed."""

    __tablename__ = "operation"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    instance_id: Mapped[str] = mapped_column(ForeignKey("instance.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20))
    error_code: Mapped[str | None] = mapped_column(String(60))
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Progress(Base):
    """One real step of an operation, as the customer watches it. `state`: waiting, running, done, failed or undone."""

    __tablename__ = "operation_step"

    operation_id: Mapped[str] = mapped_column(ForeignKey("operation.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class Observed(Base):
    """What the health sweep last saw. Overwritten; never the truth about the lifecycle."""

    __tablename__ = "observation"

    instance_id: Mapped[str] = mapped_column(ForeignKey("instance.id"), primary_key=True)
    at: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(20))
    is_healthy: Mapped[bool]
    detail: Mapped[str] = mapped_column(Text, default="")
    unhealthy_since: Mapped[datetime | None]
    restarts: Mapped[int] = mapped_column(default=0)
    restarted_at: Mapped[datetime | None]
