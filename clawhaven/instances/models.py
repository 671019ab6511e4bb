"""Tables of the instances room. Lifecycle, observation and progress are three things and share no column."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, text
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
    openclaw_version: Mapped[str | None] = mapped_column(String(40))
    """What its gateway said when it was last seen ready."""
    openclaw_since_at: Mapped[datetime | None]
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


class OpenDraft(Base):
    """What somebody has chosen in the wizard and not ordered yet; one per account. Credentials are sealed.

    `step` is the page to go on at. `bots`: channel -> its tested bot (see instances/drafts.py).
    """

    __tablename__ = "open_draft"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    plan: Mapped[str] = mapped_column(String(40))
    step: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(60))
    persona: Mapped[str] = mapped_column(String(40))
    instructions: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(String(100))
    """Empty: the one that suits the plan."""
    key_vendor: Mapped[str | None] = mapped_column(String(40))
    key_hint: Mapped[str | None] = mapped_column(String(10))
    key_sealed: Mapped[str | None] = mapped_column(Text)
    bots: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(index=True)


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
    backup_id: Mapped[str | None] = mapped_column(String(40))
    """What a restore brings back; no foreign key: the backup may go once it is over."""
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


class WorkspaceVersion(Base):
    """One text of a workspace file, sealed; numbers count up for each file. Not written yet while `written_at` and
    `problem` are both empty."""

    __tablename__ = "workspace_version"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    instance_id: Mapped[str] = mapped_column(ForeignKey("instance.id"))
    file: Mapped[str] = mapped_column(String(40))
    number: Mapped[int]
    content: Mapped[str] = mapped_column(Text, deferred=True)
    digest: Mapped[str] = mapped_column(String(64))
    base: Mapped[str | None] = mapped_column(String(64))
    """Digest of the text that its writer had before them."""
    author: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime]
    written_at: Mapped[datetime | None]
    problem: Mapped[str | None] = mapped_column(String(200))

    __table_args__ = (UniqueConstraint("instance_id", "file", "number"),)


class Backup(Base):
    """A copy of everything an assistant keeps; the sealed file is the vault's, under this id. `state` is written by
    instances.backups only. `size_bytes` and `digest` (SHA-256) are the file's; 0 and empty until it is there."""

    __tablename__ = "backup"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    instance_id: Mapped[str] = mapped_column(ForeignKey("instance.id"))
    made_for: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    most_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What its files could together take at most when it was made; so much may be unpacked from it."""
    digest: Mapped[str] = mapped_column(String(64), default="")
    openclaw_version: Mapped[str] = mapped_column(String(40), default="")
    problem: Mapped[str | None] = mapped_column(String(60))
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_backup_instance_id_created_at", "instance_id", "created_at"),)
