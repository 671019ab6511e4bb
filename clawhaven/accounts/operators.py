"""Who runs the platform: people named in ADMIN_EMAILS, and those the server's own command line has named."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from clawhaven.accounts import apikeys, signup
from clawhaven.accounts.models import User
from clawhaven.accounts.signup import Owner
from clawhaven.core import audit
from clawhaven.core.errors import NotFound

SERVER = "server"
"""The actor of what was done on the server itself, by whoever may read its database."""


def is_operator(user: User, addresses: Collection[str]) -> bool:
    """True for a proven address that is one of `addresses` (ADMIN_EMAILS, lower case) or that the server has named.

    An address that somebody merely typed at sign-up proves nothing, whatever it says.
    """
    if user.verified_at is None or user.deleted_at is not None:
        return False
    return user.is_operator or user.email in addresses


def every(db: Session, addresses: Collection[str]) -> list[User]:
    """Everybody who is an operator, or will be once a mailed link has proved the address; oldest first."""
    named = or_(User.is_operator, User.email.in_(addresses))
    return list(db.scalars(select(User).where(named, User.deleted_at.is_(None)).order_by(User.created_at, User.id)))


def appoint(db: Session, email: str, now: datetime) -> Owner:
    """Make the person with this normalised address an operator, and a user if they are none. Once more is success."""
    owner = signup.find_owner(db, email) or signup.register(db, email, now)
    if not owner.user.is_operator:
        owner.user.is_operator = True
        db.flush()
        audit.record(db, now, SERVER, "operator.add", owner.user.id, owner.account.id)
    return owner


def dismiss(db: Session, email: str, now: datetime) -> list[str]:
    """Take that back; their API keys end with it. Raises NotFound for an address nobody here has.

    Returns the ids of those keys: what they made has to end too (workflows.keys.dismiss_operator).

    Somebody in ADMIN_EMAILS stays an operator until the setting changes.
    """
    owner = signup.find_owner(db, email)
    if owner is None:
        raise NotFound("Nobody here has this address.")
    if not owner.user.is_operator:
        return []
    owner.user.is_operator = False
    db.flush()
    ended = apikeys.revoke_all(db, owner.user.id, now)
    audit.record(db, now, SERVER, "operator.remove", owner.user.id, owner.account.id)
    return ended
