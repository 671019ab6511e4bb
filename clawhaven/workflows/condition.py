"""What works and what does not, for everybody to read: a word for each part, and since when. No names, no numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from clawhaven.billing.models import InboxEvent
from clawhaven.context import Context
from clawhaven.core.logs import get_logger
from clawhaven.instances.models import Instance, Observed
from clawhaven.instances.states import State
from clawhaven.notices.models import Notice
from clawhaven.workflows import engine

log = get_logger("clawhaven.condition")

LATE = timedelta(minutes=15)
"""Letters and payments that wait longer are late."""


class Word(StrEnum):
    """How a part is."""

    FINE = "fine"
    DISTURBED = "disturbed"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the installation: `web`, `database`, `work`, `model`, `assistants`, `letters` or `payments`.

    `since`: when the trouble began, where that is known; of `web`: when it was started.
    """

    name: str
    word: Word
    since: datetime | None = None


def look(ctx: Context, started_at: datetime | None = None) -> list[Part]:
    """Every part, now. Never raises: what cannot be asked is down."""
    parts = [Part("web", Word.FINE, started_at)]
    try:
        with ctx.db.read() as db:
            db.execute(sa.text("SELECT 1"))
            parts += [Part("database", Word.FINE), *_parts_in_books(db, ctx.clock.now())]
    except SQLAlchemyError as error:
        log.warning("the database does not answer", reason=type(error).__name__)
        parts.append(Part("database", Word.DOWN))
    parts.insert(3, Part("model", Word.FINE if ctx.model.answers() else Word.DOWN))
    return parts


def worst(parts: list[Part]) -> Word:
    """The word for all of them: down when the database is, else disturbed when anything is."""
    if any(part.word is Word.DOWN for part in parts):
        return Word.DOWN
    return Word.DISTURBED if any(part.word is Word.DISTURBED for part in parts) else Word.FINE


def _parts_in_books(db: Session, now: datetime) -> list[Part]:
    work = Part("work", Word.FINE if engine.count_workers(db) else Word.DOWN)
    return [work, _assistants(db), _letters(db, now), _payments(db, now)]


def _assistants(db: Session) -> Part:
    """Down when none of several answers: that is hardly their own doing."""
    running = sa.select(sa.func.count()).select_from(Instance).where(Instance.state == State.ACTIVE)
    silent = (
        sa.select(sa.func.count(), sa.func.min(Observed.unhealthy_since))
        .join(Instance, Instance.id == Observed.instance_id)
        .where(Instance.state == State.ACTIVE, Observed.is_healthy.is_(False))
    )
    of, (number, since) = int(db.scalar(running) or 0), db.execute(silent).one()
    if not number:
        return Part("assistants", Word.FINE)
    return Part("assistants", Word.DOWN if of > 1 and number >= of else Word.DISTURBED, since)


def _letters(db: Session, now: datetime) -> Part:
    oldest = db.scalar(sa.select(sa.func.min(Notice.created_at)).where(Notice.state == "pending"))
    return Part("letters", Word.DISTURBED, oldest) if oldest and now - oldest > LATE else Part("letters", Word.FINE)


def _payments(db: Session, now: datetime) -> Part:
    event = InboxEvent
    oldest = db.scalar(sa.select(sa.func.min(event.received_at)).where(event.state == "received"))
    return Part("payments", Word.DISTURBED, oldest) if oldest and now - oldest > LATE else Part("payments", Word.FINE)
