"""Links that confirm the end of an account: mailed to its address, one hour, one use, only the hash stored."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from clawhaven.accounts.models import Account, DeletionLink, User
from clawhaven.accounts.signup import Owner
from clawhaven.core.errors import Unauthorized
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token

LIFE = timedelta(hours=1)

FRESH = timedelta(minutes=30)
"""A session opened by a mailed link proves for so long that whoever has the browser reads the mail, too."""


def is_proof(owner: Owner, session_at: datetime | None, now: datetime) -> bool:
    """True for a session that a mailed link opened at most FRESH ago; None: an API key, which never proves it.

    Only the session of a sign-up is opened without a link, and the first link ends it: see links.verify.
    """
    return owner.user.verified_at is not None and session_at is not None and now - FRESH <= session_at <= now


def issue(db: Session, user_id: str, now: datetime) -> str:
    """A fresh token for this user's link; links before it are worth nothing."""
    forget(db, user_id)
    token = new_token()
    db.add(
        DeletionLink(
            id=new_id("del"), token_hash=hash_token(token), user_id=user_id, created_at=now, expires_at=now + LIFE
        )
    )
    db.flush()
    return token


def redeem(db: Session, token: str, now: datetime) -> Owner:
    """Use the link up; returns whose account ends. Raises Unauthorized when used, expired, taken back or unknown."""
    user_id = db.execute(
        delete(DeletionLink)
        .where(DeletionLink.token_hash == hash_token(token), DeletionLink.expires_at > now)
        .returning(DeletionLink.user_id)
    ).scalar_one_or_none()
    mine = select(User, Account).join(Account, Account.owner_id == User.id)
    row = db.execute(mine.where(User.id == user_id, User.deleted_at.is_(None))).first() if user_id else None
    if row is None:
        raise Unauthorized("This link was used already, was taken back, or has expired. The account is as it was.")
    return Owner(row[0], row[1])


def is_waiting(db: Session, user_id: str, now: datetime) -> bool:
    """True while a mailed link waits to be opened."""
    waiting = select(DeletionLink.id).where(DeletionLink.user_id == user_id, DeletionLink.expires_at > now)
    return db.scalar(waiting.limit(1)) is not None


def forget(db: Session, user_id: str) -> None:
    """The link that waits is worth nothing any more; none is success. Ending access ends with this: who asked may be
    who is shut out."""
    db.execute(delete(DeletionLink).where(DeletionLink.user_id == user_id))


def sweep(db: Session, now: datetime) -> None:
    """Forget links that nobody opened in time."""
    db.execute(delete(DeletionLink).where(DeletionLink.expires_at <= now))
