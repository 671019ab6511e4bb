"""One-time sign-in links sent by mail: 15 minutes, one use, only the hash stored."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import update
from sqlalchemy.orm import Session

from clawhaven.accounts import apikeys, sessions
from clawhaven.accounts.models import SignInLink, User
from clawhaven.core import audit
from clawhaven.core.errors import Unauthorized
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token

LIFE = timedelta(minutes=15)


def issue(db: Session, user_id: str, now: datetime) -> str:
    """A fresh token for this user's link."""
    token = new_token()
    db.add(
        SignInLink(
            id=new_id("lnk"), token_hash=hash_token(token), user_id=user_id, created_at=now, expires_at=now + LIFE
        )
    )
    return token


def redeem(db: Session, token: str, now: datetime) -> str:
    """Use the link up; returns the user's id. Raises Unauthorized when used, expired or unknown."""
    user_id = db.execute(
        update(SignInLink)
        .where(SignInLink.token_hash == hash_token(token), SignInLink.used_at.is_(None), SignInLink.expires_at > now)
        .values(used_at=now)
        .returning(SignInLink.user_id)
    ).scalar_one_or_none()
    if user_id is None:
        raise Unauthorized("This sign-in link was used already or has expired. Ask for a new one.")
    return user_id


def sign_in(db: Session, token: str, now: datetime, *, days: int, user_agent: str = "", replaces: str = "") -> str:
    """Use the link up and open a session of `days`; returns the cookie's value. Raises Unauthorized as `redeem`.

    The session in the cookie so far (`replaces`) ends. A user's first link proves the address: see `verify`.
    """
    return enter(db, redeem(db, token, now), now, days=days, user_agent=user_agent, replaces=replaces)


def enter(db: Session, user_id: str, now: datetime, *, days: int, user_agent: str = "", replaces: str = "") -> str:
    """What `sign_in` does for the user whose link was used up."""
    verify(db, user_id, now)
    if replaces:
        sessions.close_session(db, replaces)
    session = sessions.open_session(db, user_id, now, days=days, user_agent=user_agent)
    audit.record(db, now, f"user:{user_id}", "session.open", user_id)
    return session


def verify(db: Session, user_id: str, now: datetime) -> bool:
    """Record that the address is this user's. True the first time, which also ends every session and API key.

    Whoever typed the address at sign-up got a session without proof; they may have been somebody else.
    """
    first = db.execute(
        update(User).where(User.id == user_id, User.verified_at.is_(None)).values(verified_at=now).returning(User.id)
    ).scalar_one_or_none()
    if first is None:
        return False
    ended, revoked = sessions.close_all(db, user_id), apikeys.revoke_all(db, user_id, now)
    audit.record(db, now, f"user:{user_id}", "user.verify", user_id, sessions_ended=ended, keys_revoked=len(revoked))
    return True
