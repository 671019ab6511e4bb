"""API keys: `chk_…`, shown once, stored hashed, scoped, revocable."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clawhaven.accounts.models import Account, ApiKey, User
from clawhaven.accounts.signup import Owner
from clawhaven.core.errors import Forbidden, Invalid, NotFound
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token

PREFIX = "chk_"
SCOPES = ("read", "write")
ADMIN = "admin"
"""The scope of `/api/admin`, beside read or write; for operators only."""


def issue(
    db: Session, owner: Owner, name: str, scopes: list[str], now: datetime, *, is_operator: bool = False
) -> tuple[ApiKey, str]:
    """A new key and its only showing. Raises Invalid for an unknown scope, Forbidden for an unproven address.

    The scope `admin` exists for operators (`is_operator`: see operators.is_operator); others never hear of it.
    `owner` is as it was when the caller was let in: a session that a mailed link has ended since makes no key.
    """
    if owner.user.verified_at is None:
        raise Forbidden(
            "Sign in once with the link that is mailed to you; from then on you can make API keys.",
            code="email_not_verified",
        )
    known = (*SCOPES, ADMIN) if is_operator else SCOPES
    unknown = sorted(set(scopes) - set(known))
    if unknown or not scopes:
        raise Invalid(f"Scopes are {', '.join(known)}.", field="scopes", reason=f"unknown: {unknown}")
    secret = new_token(PREFIX)
    key = ApiKey(
        id=new_id("key"),
        account_id=owner.account.id,
        user_id=owner.user.id,
        name=name,
        prefix=secret[:10],
        key_hash=hash_token(secret),
        scopes=" ".join(sorted(set(scopes))),
        created_at=now,
    )
    db.add(key)
    db.flush()
    return key, secret


def find_key(db: Session, secret: str) -> tuple[Owner, ApiKey] | None:
    """Whose key this is, or None when unknown or revoked."""
    row = db.execute(
        select(User, Account, ApiKey)
        .join(Account, Account.owner_id == User.id)
        .join(ApiKey, ApiKey.account_id == Account.id)
        .where(ApiKey.key_hash == hash_token(secret), ApiKey.revoked_at.is_(None), User.deleted_at.is_(None))
    ).first()
    return (Owner(row[0], row[1]), row[2]) if row else None


def list_keys(db: Session, account_id: str) -> list[ApiKey]:
    """Keys in force, oldest first."""
    return list(
        db.scalars(
            select(ApiKey)
            .where(ApiKey.account_id == account_id, ApiKey.revoked_at.is_(None))
            .order_by(ApiKey.created_at, ApiKey.id)
        )
    )


def revoke(db: Session, account_id: str, key_id: str, now: datetime) -> None:
    """End a key. Raises NotFound for one that is not this account's; revoking twice is success."""
    found = db.execute(
        update(ApiKey).where(ApiKey.id == key_id, ApiKey.account_id == account_id).values(revoked_at=now)
    )
    if not getattr(found, "rowcount", 0):
        raise NotFound("There is no such API key.")


def revoke_all(db: Session, user_id: str, now: datetime) -> int:
    """End every key of a user; returns how many were in force."""
    found = db.execute(
        update(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None)).values(revoked_at=now)
    )
    return int(getattr(found, "rowcount", 0))
