"""What the operator was told of: open until somebody says that nothing is left to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from clawhaven.core import audit, cursors
from clawhaven.core.errors import NotFound
from clawhaven.notices.models import Notice

KIND = "alert"


@dataclass(frozen=True, slots=True)
class AlertPage:
    """Alerts, newest first, and the cursor of the next page (None: this was the last)."""

    alerts: list[Notice]
    next_cursor: str | None


def list_alerts(db: Session, *, is_open: bool = True, cursor: str | None = None, limit: int = 50) -> AlertPage:
    """The open alerts, or those that are done with. Raises Invalid for a bad cursor."""
    query = select(Notice).where(Notice.kind == KIND)
    query = query.where(Notice.closed_at.is_(None) if is_open else Notice.closed_at.is_not(None))
    if cursor is not None:
        query = query.where(cursors.is_after(cursor, Notice.created_at, Notice.id))
    found = list(db.scalars(query.order_by(Notice.created_at.desc(), Notice.id.desc()).limit(limit + 1)))
    last = found[limit - 1] if len(found) > limit else None
    return AlertPage(found[:limit], cursors.write(last.created_at, last.id) if last is not None else None)


def count_open(db: Session) -> int:
    """How many are open."""
    query = select(func.count()).select_from(Notice).where(Notice.kind == KIND, Notice.closed_at.is_(None))
    return int(db.scalar(query) or 0)


def close(db: Session, notice_id: str, now: datetime, actor: str) -> None:
    """Nothing is left to do about it; once more is success. Raises NotFound for what is no alert."""
    found = db.scalar(select(Notice.id).where(Notice.id == notice_id, Notice.kind == KIND))
    if found is None:
        raise NotFound("There is no such alert.")
    is_open = (Notice.id == notice_id, Notice.closed_at.is_(None))
    if db.execute(update(Notice).where(*is_open).values(closed_at=now).returning(Notice.id)).first() is not None:
        audit.record(db, now, actor, "alert.close", notice_id)
