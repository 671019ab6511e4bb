"""Browser sessions: a 32-byte random token in a cookie, its SHA-256 in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.orm import Session

from clawhaven.accounts import addresses, farewells
from clawhaven.accounts.models import Account, AccountView, LoginSession, User
from clawhaven.accounts.signup import Owner
from clawhaven.core.errors import NotFound
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token, same

COOKIE = "clawhaven_session"

TOUCH_EVERY = timedelta(minutes=10)
"""The last use of a session or an API key is written down this often at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A session that is in force: whose it is, and the account its owner, an operator, looks at just now."""

    owner: Owner
    session: LoginSession
    view: AccountView | None

    def is_worn(self, now: datetime) -> bool:
        """True when its last use is worth writing down again."""
        return is_due(self.session.seen_at or self.session.created_at, now)


def is_due(last: datetime | None, now: datetime) -> bool:
    """True when a last use as old as this is worth writing down again."""
    return last is None or now - last >= TOUCH_EVERY


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


def look_up(db: Session, token: str, now: datetime) -> Entry | None:
    """The session this cookie belongs to with all that a door needs of it, in one query; None as `find_session`."""
    is_open = and_(
        AccountView.session_id == LoginSession.id, AccountView.ended_at.is_(None), AccountView.until_at > now
    )
    row = db.execute(
        select(User, Account, LoginSession, AccountView)
        .join(LoginSession, LoginSession.user_id == User.id)
        .join(Account, Account.owner_id == User.id)
        .outerjoin(AccountView, is_open)
        .where(LoginSession.token_hash == hash_token(token), LoginSession.expires_at > now, User.deleted_at.is_(None))
    ).first()
    return Entry(Owner(row[0], row[1]), row[2], row[3]) if row else None


def touch(db: Session, session_id: str, now: datetime) -> None:
    """Write down that a session is used; two at once are one."""
    is_old = or_(LoginSession.seen_at.is_(None), LoginSession.seen_at <= now - TOUCH_EVERY)
    db.execute(update(LoginSession).where(LoginSession.id == session_id, is_old).values(seen_at=now))


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
    """End one of a user's sessions, and forget a new address or an end of the account that waits for its proof. Raises
    NotFound for one that has ended or is not theirs."""
    found = db.execute(delete(LoginSession).where(LoginSession.id == session_id, LoginSession.user_id == user_id))
    if not getattr(found, "rowcount", 0):
        raise NotFound("There is no such session.")
    addresses.forget(db, user_id)
    farewells.forget(db, user_id)


def close_all(db: Session, user_id: str, but: str = "") -> int:
    """Sign a user out everywhere, but in the browser with this cookie; returns how many sessions ended.

    A new address or an end of the account that waits for its proof is forgotten with them.
    """
    addresses.forget(db, user_id)
    farewells.forget(db, user_id)
    found = db.execute(
        delete(LoginSession).where(LoginSession.user_id == user_id, LoginSession.token_hash != hash_token(but))
    )
    return int(getattr(found, "rowcount", 0))


def sweep(db: Session, now: datetime) -> None:
    """Forget expired sessions."""
    db.execute(delete(LoginSession).where(LoginSession.expires_at <= now))
