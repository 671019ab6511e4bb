"""Requests that may be sent twice and are done once: the client names them, we keep the answer for a day."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from clawhaven.core.db import Base
from clawhaven.core.errors import Conflict

LIFE = timedelta(hours=24)


class IdempotencyKey(Base):
    """A request by the name its client gave it. Without a `status` it is under way, or was cut short by a crash."""

    __tablename__ = "idempotency_key"

    scope: Mapped[str] = mapped_column(sa.String(120), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(128), primary_key=True)
    request_hash: Mapped[str] = mapped_column(sa.String(64))
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(index=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first request was answered with."""

    status: int
    body: dict[str, Any]


def fingerprint(*parts: str) -> str:
    """What tells one request from another. The parts themselves, which may hold secrets, are not kept."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def begin(db: Session, scope: str, key: str, request_hash: str, now: datetime) -> Answer | None:
    """Claim `key` among the requests of `scope`. None: do it, then `finish`; an Answer: it was done before.

    Raises Conflict: another request has this key, or the first one has no answer yet. A request that a crash cut
    short stays so for LIFE: whether it was done is not known, so it is never done again.
    """
    row = sa.and_(IdempotencyKey.scope == scope, IdempotencyKey.key == key)
    db.execute(sa.delete(IdempotencyKey).where(row, IdempotencyKey.created_at <= now - LIFE))
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    claim = insert(IdempotencyKey).values(scope=scope, key=key, request_hash=request_hash, created_at=now)
    if db.execute(claim.on_conflict_do_nothing().returning(IdempotencyKey.key)).first():
        return None
    known = db.execute(
        sa.select(IdempotencyKey.request_hash, IdempotencyKey.status, IdempotencyKey.body).where(row)
    ).first()
    if known is not None and known.request_hash != request_hash:
        raise Conflict("This Idempotency-Key was sent with another request. Use a new one.", code="key_of_another")
    if known is None or known.status is None:
        raise Conflict(
            "The first request with this Idempotency-Key is under way, or was cut short. Ask again in a moment;"
            " if this goes on, look whether it was done before you send it with a new key.",
            code="in_progress",
        )
    return Answer(known.status, known.body or {})


def finish(db: Session, scope: str, key: str, answer: Answer) -> None:
    """Keep the answer for whoever repeats the request. It must hold no secret."""
    db.execute(
        sa.update(IdempotencyKey)
        .where(IdempotencyKey.scope == scope, IdempotencyKey.key == key)
        .values(status=answer.status, body=answer.body)
    )


def release(db: Session, scope: str, key: str) -> None:
    """Give up a claim whose request was refused with nothing done, so that it may be sent again."""
    db.execute(
        sa.delete(IdempotencyKey).where(
            IdempotencyKey.scope == scope, IdempotencyKey.key == key, IdempotencyKey.status.is_(None)
        )
    )


def forget(db: Session, word: str) -> None:
    """Forget requests of this scope, and those whose kept answer holds the word (an account's id)."""
    is_told = sa.cast(IdempotencyKey.body, sa.Text).contains(word, autoescape=True)
    db.execute(sa.delete(IdempotencyKey).where(sa.or_(IdempotencyKey.scope == word, is_told)))


def forget_address(db: Session, email: str, before: datetime) -> None:
    """Forget requests before then whose kept answer has this address as one of its values."""
    is_told = sa.cast(IdempotencyKey.body, sa.Text).contains(json.dumps(email), autoescape=True)
    db.execute(sa.delete(IdempotencyKey).where(IdempotencyKey.created_at < before, is_told))


def sweep(db: Session, now: datetime) -> None:
    """Forget requests older than LIFE."""
    db.execute(sa.delete(IdempotencyKey).where(IdempotencyKey.created_at <= now - LIFE))
