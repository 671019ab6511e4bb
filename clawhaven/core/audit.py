"""Who did what to which thing, and when: one row per change of state, money or access, in the same transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, Session, mapped_column

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
