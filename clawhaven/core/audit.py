"""Who did what to which thing, and when: one row per change of state, money or access, in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from clawhaven.core import cursors
from clawhaven.core.db import Base
from clawhaven.core.ids import new_id


class AuditEntry(Base):
    """One line of the audit log. `actor` is `user:<id>`, `key:<id>`, `system` or `workflow:<name>`."""

    __tablename__ = "audit_log"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(80))
    subject: Mapped[str] = mapped_column(String(80), index=True)
    account_id: Mapped[str | None] = mapped_column(String(40), index=True)
    details: Mapped[dict[str, Any]]


def record(
    db: Session,
    now: datetime,
    actor: str,
    action: str,
    subject: str,
    account_id: str | None = None,
    **details: Any,
) -> None:
    """Write one line. `details` must not hold secrets or message texts."""
    db.add(
        AuditEntry(
            id=new_id("aud"),
            at=now,
            actor=actor,
            action=action,
            subject=subject,
            account_id=account_id,
            details=details,
        )
    )


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines are asked for; empty: all. `actor` and `action` are beginnings: `user:`, `account.`."""

    actor: str = ""
    action: str = ""
    subject: str = ""
    account_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, newest first, and the cursor of the next page (None: this was the last)."""

    entries: list[AuditEntry]
    next_cursor: str | None


def list_entries(db: Session, which: Filter, cursor: str | None = None, limit: int = 50) -> Page:
    """The lines that fit, newest first. Raises Invalid for a bad cursor."""
    query = select(AuditEntry)
    if which.actor:
        query = query.where(AuditEntry.actor.startswith(which.actor, autoescape=True))
    if which.action:
        query = query.where(AuditEntry.action.startswith(which.action, autoescape=True))
    if which.subject:
        query = query.where(AuditEntry.subject == which.subject)
    if which.account_id:
        query = query.where(AuditEntry.account_id == which.account_id)
    if which.since is not None:
        query = query.where(AuditEntry.at >= which.since)
    if which.until is not None:
        query = query.where(AuditEntry.at < which.until)
    if cursor is not None:
        query = query.where(cursors.is_after(cursor, AuditEntry.at, AuditEntry.id))
    found = list(db.scalars(query.order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit + 1)))
    last = found[limit - 1] if len(found) > limit else None
    return Page(found[:limit], cursors.write(last.at, last.id) if last is not None else None)
