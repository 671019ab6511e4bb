"""Comparisons of the money that were asked for, how far each is, and what it found. The newest are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from clawhaven.billing.models import Comparison
from clawhaven.core.errors import NotFound
from clawhaven.core.ids import new_id

LIFE = timedelta(days=90)
"""So long a comparison is kept."""

BROKEN = timedelta(hours=2)
"""One that has not ended after so long is taken for broken, and another may begin."""


def begin(db: Session, asked_by: str, now: datetime, *, is_repair: bool) -> Comparison | None:
    """A new comparison; None while one is under way."""
    if running(db, now) is not None:
        return None
    row = Comparison(id=new_id("cmp"), asked_by=asked_by, is_repair=is_repair, done=0, asked_at=now)
    db.add(row)
    db.flush()
    return row


def advance(db: Session, comparison_id: str, done: int) -> None:
    """So many looks are over."""
    db.execute(update(Comparison).where(Comparison.id == comparison_id, Comparison.done < done).values(done=done))


def finish(db: Session, comparison_id: str, found: Sequence[dict[str, Any]] | None, now: datetime) -> None:
    """It is over, and this is what was found; None: it broke. Once more is success."""
    plan = None if found is None else json.dumps(list(found))
    is_open = (Comparison.id == comparison_id, Comparison.ended_at.is_(None))
    db.execute(update(Comparison).where(*is_open).values(ended_at=now, plan=plan))
    db.execute(delete(Comparison).where(Comparison.asked_at < now - LIFE))


def get(db: Session, comparison_id: str) -> Comparison:
    """Raises NotFound."""
    row = db.get(Comparison, comparison_id)
    if row is None:
        raise NotFound("There is no such comparison.")
    return row


def running(db: Session, now: datetime) -> Comparison | None:
    """The comparison that is under way, if any."""
    mine = select(Comparison).where(Comparison.ended_at.is_(None), Comparison.asked_at > now - BROKEN)
    return db.scalars(mine.order_by(Comparison.asked_at.desc(), Comparison.id.desc()).limit(1)).first()


def newest(db: Session) -> Comparison | None:
    """The newest that has ended with a result."""
    done = select(Comparison).where(Comparison.plan.is_not(None))
    return db.scalars(done.order_by(Comparison.ended_at.desc(), Comparison.id.desc()).limit(1)).first()


def found_by(row: Comparison) -> list[dict[str, Any]]:
    """What a comparison found, as `finish` was given it."""
    found: list[dict[str, Any]] = json.loads(row.plan or "[]")
    return found
