"""Changing a user's address: the new one has to be proved by a mailed link first. One hour, one use, hash stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.accounts.models import Account, DeletionLink, EmailChange, SignInLink, User
from clawhaven.accounts.signup import Owner
from clawhaven.core import audit
from clawhaven.core.errors import Conflict, Forbidden, Invalid, Unauthorized
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token

LIFE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Moved:
    """Whose address was changed, and what it was before."""

    owner: Owner
    before: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The token for the link to a new address. `is_taken`: another account has that address, so nobody is to get the
    token; the change waits all the same, or waiting would tell who has an account."""

    token: str
    is_taken: bool


def ask(db: Session, owner: Owner, email: str, now: datetime) -> Asked:
    """Let a change to this normalised address wait for its proof. The newest asked for counts.

    Raises Invalid for the address that is theirs already, and Forbidden for a user whose
    present address was never proved: it may belong to somebody else, who would lose the account.
    """
    if owner.user.verified_at is None:
        raise Forbidden(
            "Sign in once with the link that is mailed to you; from then on you can change the address.",
            code="email_not_verified",
        )
    if email == owner.user.email:
        raise Invalid("This is your address already.", field="email", reason="unchanged")
    forget(db, owner.user.id)
    is_taken = db.scalar(select(User.id).where(User.email == email)) is not None
    token = new_token()
    db.add(
        EmailChange(
            id=new_id("emc"),
            token_hash=hash_token(token),
            user_id=owner.user.id,
            email=email,
            created_at=now,
            expires_at=now + LIFE,
        )
    )
    audit.record(db, now, f"user:{owner.user.id}", "user.email_ask", owner.user.id, owner.account.id)
    return Asked(token, is_taken)


def pending(db: Session, user_id: str, now: datetime) -> str | None:
    """The new address that waits for its proof, if any."""
    waiting = select(EmailChange.email).where(EmailChange.user_id == user_id, EmailChange.expires_at > now)
    return db.scalar(waiting.order_by(EmailChange.created_at.desc()).limit(1))


def forget(db: Session, user_id: str) -> None:
    """The new address that waits is worth nothing any more; none is success. Ending access ends with this: who asked
    may be who is shut out."""
    db.execute(delete(EmailChange).where(EmailChange.user_id == user_id))


def take_back(db: Session, owner: Owner, now: datetime) -> None:
    """Forget the new address that waits, because its owner says so; none is success."""
    forget(db, owner.user.id)
    audit.record(db, now, f"user:{owner.user.id}", "user.email_take_back", owner.user.id, owner.account.id)


def prove(db: Session, token: str, now: datetime) -> Moved:
    """Use the link up: from now on the address is the user's, and links mailed to the old one are worth nothing.

    Raises Unauthorized when used, expired or unknown, Conflict when somebody else has taken the address meanwhile.
    """
    change = db.execute(
        delete(EmailChange)
        .where(EmailChange.token_hash == hash_token(token), EmailChange.expires_at > now)
        .returning(EmailChange.user_id, EmailChange.email)
    ).first()
    row = (
        change
        and db.execute(
            select(User, Account)
            .join(Account, Account.owner_id == User.id)
            .where(User.id == change.user_id, User.deleted_at.is_(None))
        ).first()
    )
    if not row or not change:
        raise Unauthorized("This link was used already or has expired. Ask for a new one in the settings.")
    owner = Owner(row[0], row[1])
    before = owner.user.email
    try:
        with db.begin_nested():
            owner.user.email = change.email
            db.flush()
    except IntegrityError:
        raise Conflict("This address belongs to another account by now.", field="email") from None
    for model in (SignInLink, DeletionLink):
        db.execute(delete(model).where(model.user_id == owner.user.id))
    audit.record(db, now, f"user:{owner.user.id}", "user.email_change", owner.user.id, owner.account.id)
    return Moved(owner, before)


def sweep(db: Session, now: datetime) -> None:
    """Forget addresses that nobody proved in time."""
    db.execute(delete(EmailChange).where(EmailChange.expires_at <= now))
