"""The waitlist: one line per email; a freed place invites the next."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.billing.models import Waiting
from clawhaven.core.ids import new_id
from clawhaven.core.languages import current


def join(db: Session, email: str, now: datetime) -> int:
    """Queue this normalised email; returns its position from 1. Joining twice keeps the first place.

    Its invitation is written in the language that is spoken now.
    """
    try:
        with db.begin_nested():
            db.add(Waiting(id=new_id("wai"), email=email, created_at=now, language=current()))
            db.flush()
    except IntegrityError:
        pass
    mine = db.scalars(select(Waiting).where(Waiting.email == email)).one()
    ahead = db.scalar(
        select(func.count())
        .select_from(Waiting)
        .where(
            Waiting.invited_at.is_(None),
            or_(
                Waiting.created_at < mine.created_at,
                and_(Waiting.created_at == mine.created_at, Waiting.id < mine.id),
            ),
        )
    )
    return int(ahead or 0) + 1


def invited(db: Session, since: datetime) -> int:
    """How many were invited since then: their places are kept."""
    return int(db.scalar(select(func.count()).select_from(Waiting).where(Waiting.invited_at >= since)) or 0)


def invite_next(db: Session, free_places: int, now: datetime) -> list[tuple[str, str | None]]:
    """Mark the next people as invited and return (email, language); at most `free_places`."""
    if free_places <= 0:
        return []
    rows = list(
        db.scalars(
            select(Waiting)
            .where(Waiting.invited_at.is_(None))
            .order_by(Waiting.created_at, Waiting.id)
            .limit(free_places)
        )
    )
    db.execute(update(Waiting).where(Waiting.id.in_([row.id for row in rows])).values(invited_at=now))
    return [(row.email, row.language) for row in rows]
