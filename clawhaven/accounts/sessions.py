"""Browser sessions: a 32-byte random token in a cookie, its SHA-256 in the database."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from clawhaven.accounts.models import Account, LoginSession, User
from clawhaven.accounts.signup import Owner
from clawhaven.core.errors import NotFound
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token, same

COOKIE = "clawhaven_session"


def cookie_name(base_url: str) -> str:
    """The session cookie's name at this address, the same behind every door.

    Behind https it has the prefix `__Host-`, and browsers let no other host set it (RFC 6265bis section 4.1.3.2):
    not an assistant's host name below ours, not anybody on a plain connection. Only that name is read there.
    """
    return f"__Host-{COOKIE}" if base_url.startswith("https://") else COOKIE


def open_session(db: Session, user_id: str, now: datetime, *, days: int, user_agent: str = "") -> str:
    """Sign the user in; returns the cookie's value, which is never stored."""
    token = new_token()
    db.add(
        LoginSession(
            id=new_id("ses"),
            token_hash=hash_token(token),
            user_id=user_id,
            created_at=now,
            expires_at=now + timedelta(days=days),
            user_agent=user_agent[:300],
        )
    )
    return token


def find_session(db: Session, token: str, now: datetime) -> Owner | None:
    """Who this cookie belongs to, or None when it is unknown or expired."""
    row = db.execute(
        select(User, Account)
        .join(LoginSession, LoginSession.user_id == User.id)
        .join(Account, Account.owner_id == User.id)
        .where(LoginSession.token_hash == hash_token(token), LoginSession.expires_at > now, User.deleted_at.is_(None))
    ).first()
    return Owner(row[0], row[1]) if row else None


def close_session(db: Session, token: str) -> None:
    """Sign out; an unknown token is already signed out."""
    db.execute(delete(LoginSession).where(LoginSession.token_hash == hash_token(token)))


def list_sessions(db: Session, user_id: str, now: datetime) -> list[LoginSession]:
    """Where a user is signed in, newest first."""
    return list(
        db.scalars(
            select(LoginSession)
            .where(LoginSession.user_id == user_id, LoginSession.expires_at > now)
            .order_by(LoginSession.created_at.desc(), LoginSession.id)
        )
    )


def is_of(session: LoginSession, token: str) -> bool:
    """True when the cookie with this value belongs to the session."""
    return same(session.token_hash, hash_token(token))


def end_session(db: Session, user_id: str, session_id: str) -> None:
    """End one of a user's sessions. Raises NotFound for one that has ended or is not theirs."""
    found = db.execute(delete(LoginSession).where(LoginSession.id == session_id, LoginSession.user_id == user_id))
    if not getattr(found, "rowcount", 0):
        raise NotFound("There is no such session.")


def close_all(db: Session, user_id: str, but: str = "") -> int:
    """Sign a user out everywhere, but in the browser with this cookie; returns how many sessions ended."""
    found = db.execute(
        delete(LoginSession).where(LoginSession.user_id == user_id, LoginSession.token_hash != hash_token(but))
    )
    return int(getattr(found, "rowcount", 0))


def sweep(db: Session, now: datetime) -> None:
    """Forget expired sessions."""
    db.execute(delete(LoginSession).where(LoginSession.expires_at <= now))
