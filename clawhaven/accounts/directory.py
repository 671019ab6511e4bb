"""All accounts, newest first, for the operator: by page, or searched by address."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clawhaven.accounts.models import Account, User
from clawhaven.accounts.signup import Owner, find_owner, normalise_email
from clawhaven.core import cursors
from clawhaven.core.errors import NotFound

MANY = 1000
"""So many ids a query takes comfortably; for more, everybody is read."""


@dataclass(frozen=True, slots=True)
class Page:
    """Accounts with their owners, and the cursor of the next page (None: this was the last)."""

    owners: list[Owner]
    next_cursor: str | None


def list_accounts(db: Session, search: str = "", cursor: str | None = None, limit: int = 50) -> Page:
    """Accounts whose owner's address contains `search` (any case), newest first. Raises Invalid for a bad cursor."""
    query = select(User, Account).join(Account, Account.owner_id == User.id)
    if search.strip():
        query = query.where(User.email.contains(search.strip().lower(), autoescape=True))
    if cursor is not None:
        query = query.where(cursors.is_after(cursor, Account.created_at, Account.id))
    found = db.execute(query.order_by(Account.created_at.desc(), Account.id.desc()).limit(limit + 1)).all()
    owners = [Owner(user, account) for user, account in found[:limit]]
    last = owners[-1].account if len(found) > limit else None
    return Page(owners, cursors.write(last.created_at, last.id) if last is not None else None)


def get(db: Session, account_id: str) -> Owner:
    """An account with its owner. Raises NotFound."""
    found = db.execute(
        select(User, Account).join(Account, Account.owner_id == User.id).where(Account.id == account_id)
    ).first()
    if found is None:
        raise NotFound("There is no such account.")
    return Owner(found[0], found[1])


def find(db: Session, account: str) -> Owner:
    """An account by its id or its owner's address (any case). Raises NotFound, Invalid for what is no address."""
    if "@" not in account:
        return get(db, account.strip())
    owner = find_owner(db, normalise_email(account.strip()))
    if owner is None:
        raise NotFound("Nobody here has this address.")
    return owner


def count(db: Session) -> int:
    """How many accounts there are, deleted ones left out."""
    return int(db.scalar(select(func.count()).select_from(Account).where(Account.deleted_at.is_(None))) or 0)


def emails_of(db: Session, account_ids: set[str]) -> dict[str, str]:
    """Account -> its owner's address, in one query."""
    query = select(Account.id, User.email).join(User, User.id == Account.owner_id)
    if len(account_ids) <= MANY:
        query = query.where(Account.id.in_(account_ids))
    return dict(db.execute(query).tuples().all())


def actor_of(db: Session, text: str) -> str:
    """What the audit log calls somebody: an address becomes `user:<id>`; anything else stays. Raises NotFound, Invalid
    for an address that nobody here has, or that is none."""
    word = text.strip()
    return f"user:{find(db, word).user.id}" if "@" in word else word


def names_of_actors(db: Session, actors: set[str]) -> dict[str, str]:
    """Actor (`user:<id>`) -> that user's address, in one query; others are left out."""
    ids = [one.removeprefix("user:") for one in actors if one.startswith("user:")]
    found = db.execute(select(User.id, User.email).where(User.id.in_(ids))) if ids else ()
    return {f"user:{user_id}": email for user_id, email in found}
