"""What was chosen of the skills: by an assistant's owner, or in an open draft; keys of vendors sealed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import String, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from clawhaven.core.db import Base
from clawhaven.core.secrets import KeyRing

PURPOSE = "skill.key"
HINT_LENGTH = 4


class Choice(Base):
    """One skill of one holder: an assistant by its id, or an account's open draft by the account's. Without a row the
    skill is as the catalogue has it."""

    __tablename__ = "skill_choice"

    holder_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    skill: Mapped[str] = mapped_column(String(40), primary_key=True)
    is_on: Mapped[bool]
    sealed: Mapped[str | None] = mapped_column(Text)
    hint: Mapped[str | None] = mapped_column(String(10))
    """The end of the key, by which its owner knows it again."""
    checked_at: Mapped[datetime | None]
    """When its vendor took the key."""
    updated_at: Mapped[datetime]


def choices_of(db: Session, holder_id: str) -> dict[str, Choice]:
    """Skill -> what was chosen."""
    mine = sa.select(Choice).where(Choice.holder_id == holder_id).execution_options(populate_existing=True)
    return {row.skill: row for row in db.scalars(mine)}


def switch(db: Session, holder_id: str, skill: str, is_on: bool, now: datetime) -> None:
    """On or off; a key that is kept stays."""
    _put(db, {"holder_id": holder_id, "skill": skill, "is_on": is_on, "updated_at": now})


def keep_key(db: Session, holder_id: str, skill: str, api_key: str, keys: KeyRing, now: datetime) -> None:
    """Seal a key that its vendor has just taken, in place of the one before, and turn the skill on."""
    values = {"sealed": keys.seal(api_key, PURPOSE), "hint": api_key[-HINT_LENGTH:], "checked_at": now}
    _put(db, {"holder_id": holder_id, "skill": skill, "is_on": True, "updated_at": now, **values})


def open_key(choice: Choice, keys: KeyRing) -> str:
    """The key; for providers only. Empty where there is none."""
    return keys.open(choice.sealed, PURPOSE) if choice.sealed else ""


def forget_key(db: Session, holder_id: str, skill: str, now: datetime) -> bool:
    """Without the key. False when there was none."""
    return _forget_keys(db, now, Choice.holder_id == holder_id, Choice.skill == skill)


def forget_keys(db: Session, holder_ids: Collection[str], now: datetime) -> bool:
    """Without any key of these holders. False when there was none."""
    return _forget_keys(db, now, Choice.holder_id.in_(holder_ids))


def hand_over(db: Session, account_id: str, instance_id: str) -> None:
    """The draft's choices become the new assistant's."""
    db.execute(sa.update(Choice).where(Choice.holder_id == account_id).values(holder_id=instance_id))


def drop(db: Session, holder_ids: Collection[str]) -> None:
    """Forget everything that was chosen, keys included."""
    db.execute(sa.delete(Choice).where(Choice.holder_id.in_(holder_ids)))


def _forget_keys(db: Session, now: datetime, *which: sa.ColumnElement[bool]) -> bool:
    nothing = {"sealed": None, "hint": None, "checked_at": None, "updated_at": now}
    gone = sa.update(Choice).where(Choice.sealed.is_not(None), *which).values(**nothing).returning(Choice.skill)
    return bool(db.execute(gone).all())


def _put(db: Session, values: dict[str, object]) -> None:
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    changed = {name: value for name, value in values.items() if name not in ("holder_id", "skill")}
    db.execute(
        insert(Choice).values(**values).on_conflict_do_update(index_elements=["holder_id", "skill"], set_=changed)
    )
