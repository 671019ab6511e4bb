"""Deleting an account: closed at once, its owner's data erased when everything of theirs is gone.

The rows stay, under their ids, because the books name them; nothing in them tells who it was.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from clawhaven.accounts import sessions, views
from clawhaven.accounts.models import Account, ApiKey, Deletion, DeletionLink, EmailChange, SignInLink, User
from clawhaven.core import audit
from clawhaven.core.errors import Conflict
from clawhaven.core.secrets import KeyRing

PURPOSE = "account.last_address"


def close(db: Session, account_id: str, keys: KeyRing, now: datetime, actor: str) -> Deletion:
    """Nobody can sign in from now on, and the address is free for a new account. Raises Conflict when closed already.

    The address is kept sealed until the last letter is sent: see `last_address` and `finish`.
    """
    account = db.get_one(Account, account_id, with_for_update=True, populate_existing=True)
    if account.deleted_at is not None:
        raise Conflict("This account is deleted already.", code="illegal_move")
    user = db.get_one(User, account.owner_id, with_for_update=True, populate_existing=True)
    deletion = Deletion(account_id=account_id, sealed_email=keys.seal(user.email, PURPOSE), asked_at=now)
    db.add(deletion)
    user.email, user.is_operator, user.deleted_at = f"deleted:{user.id}", False, now
    account.slug, account.deleted_at = account.id.replace("_", "-"), now
    sessions.close_all(db, user.id)
    for model in (SignInLink, EmailChange, DeletionLink, ApiKey):
        db.execute(delete(model).where(model.user_id == user.id))
    views.end_all(db, account_id, user.id, now)
    audit.record(db, now, actor, "account.delete", account_id, account_id)
    db.flush()
    return deletion


def last_address(db: Session, account_id: str, keys: KeyRing) -> str | None:
    """Where the last letter goes; None once it was sent, or nothing is deleted."""
    sealed = db.scalar(select(Deletion.sealed_email).where(Deletion.account_id == account_id))
    return keys.open(sealed, PURPOSE) if sealed else None


def theirs_before(db: Session, account_id: str) -> datetime | None:
    """Until when its address was its owner's: when the deletion was asked for. None when no mailed link had proved it,
    or nothing is deleted."""
    asked = select(Deletion.asked_at).join(Account, Account.id == Deletion.account_id)
    asked = asked.join(User, User.id == Account.owner_id)
    return db.scalar(asked.where(Deletion.account_id == account_id, User.verified_at.is_not(None)))


def finish(db: Session, account_id: str, now: datetime) -> None:
    """Forget the address: the account is gone. Once more is success."""
    is_open = (Deletion.account_id == account_id, Deletion.ended_at.is_(None))
    ended = db.execute(update(Deletion).where(*is_open).values(sealed_email="", ended_at=now).returning(Deletion))
    if ended.first() is not None:
        audit.record(db, now, "workflow:delete_account", "account.deleted", account_id, account_id)


def is_under_way(db: Session, account_id: str) -> bool:
    """True between the wish and its end."""
    waiting = select(Deletion.account_id).where(Deletion.account_id == account_id, Deletion.ended_at.is_(None))
    return db.scalar(waiting) is not None


def unfinished(db: Session, before: datetime) -> list[str]:
    """Accounts whose deletion was asked for before then and has not ended."""
    waiting = select(Deletion.account_id).where(Deletion.ended_at.is_(None), Deletion.asked_at < before)
    return list(db.scalars(waiting.order_by(Deletion.asked_at, Deletion.account_id)))


def ended_since(db: Session, since: datetime) -> list[str]:
    """Accounts whose deletion ended since then, or is still under way."""
    recent = or_(Deletion.ended_at.is_(None), Deletion.ended_at >= since)
    return list(db.scalars(select(Deletion.account_id).where(recent).order_by(Deletion.asked_at, Deletion.account_id)))
