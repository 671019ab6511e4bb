"""The outbox: notices are written with the change they tell of, and sent by a workflow afterwards."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.core.ids import new_id
from clawhaven.core.secrets import KeyRing, hash_token
from clawhaven.notices.kinds import Letter
from clawhaven.notices.models import Notice
from clawhaven.ports.notifier import Message

PURPOSE = "notice.text"
KEY_LENGTH = 200
"""What the column holds; a longer key (one with a long address in it) is kept as its beginning and its hash."""


def write(
    db: Session, key: str, letter: Letter, recipient: str, keys: KeyRing, now: datetime, account_id: str | None = None
) -> str | None:
    """Put a letter in the outbox; returns its id, or None when the key was used before."""
    row = Notice(
        id=new_id("not"),
        key=key if len(key) <= KEY_LENGTH else f"{key[:100]}:{hash_token(key)}",
        kind=letter.kind,
        account_id=account_id,
        recipient=recipient,
        subject=letter.subject,
        sealed_text=keys.seal(letter.text, PURPOSE),
        state="pending",
        created_at=now,
    )
    try:
        with db.begin_nested():
            db.add(row)
            db.flush()
    except IntegrityError:
        return None
    return row.id


def known(db: Session, keys: Collection[str]) -> set[str]:
    """Those of these keys under which a letter was written already."""
    asked, found = sorted(keys), set[str]()
    for start in range(0, len(asked), 500):
        found |= set(db.scalars(select(Notice.key).where(Notice.key.in_(asked[start : start + 500]))))
    return found


def count(db: Session, account_id: str, prefix: str) -> int:
    """How many letters were written to an account under keys that begin so."""
    counted = select(func.count()).where(
        Notice.account_id == account_id, Notice.key.startswith(prefix, autoescape=True)
    )
    return int(db.scalar(counted) or 0)


def message(db: Session, notice_id: str, keys: KeyRing) -> Message | None:
    """What to send, or None when it is sent or given up already."""
    row = db.get_one(Notice, notice_id)
    if row.state != "pending":
        return None
    return Message(key=row.id, to=row.recipient, subject=row.subject, text=keys.open(row.sealed_text, PURPOSE))


def mark_sent(db: Session, notice_id: str, now: datetime) -> None:
    """Delivered; its text, which may carry a link, is forgotten."""
    db.execute(
        update(Notice)
        .where(Notice.id == notice_id)
        .values(state="sent", sent_at=now, sealed_text="", tries=Notice.tries + 1)
    )


def mark_failed(db: Session, notice_id: str, error: str) -> None:
    """Given up; the operator sees why."""
    db.execute(
        update(Notice)
        .where(Notice.id == notice_id)
        .values(state="failed", last_error=error[:500], tries=Notice.tries + 1)
    )


def unsent(db: Session, before: datetime) -> list[str]:
    """Notices written before then that are still pending."""
    return list(db.scalars(select(Notice.id).where(Notice.state == "pending", Notice.created_at < before).limit(200)))
