"""API keys: `chk_…`, shown once, stored hashed, scoped, revocable."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clawhaven.accounts import addresses, farewells
from clawhaven.accounts.models import Account, ApiKey, User
from clawhaven.accounts.signup import Owner
from clawhaven.core.errors import Forbidden, Invalid, NotFound, Unauthorized
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token

PREFIX = "chk_"
KEYS = "keys"
"""The scope to make keys, to end others than itself, and to sign browsers out; no part of write."""

SCOPES = ("read", "write", KEYS)
ADMIN = "admin"
"""The scope of `/api/admin`, beside read or write; for operators only."""


def issue(
    db: Session,
    owner: Owner,
    name: str,
    scopes: list[str],
    now: datetime,
    *,
    is_operator: bool = False,
    made_by: str | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its only showing. Raises Invalid for an unknown scope, Forbidden for an unproven address.

    `made_by`: the API key that asks for it; the new one ends with it, and makes none itself.
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
    if made_by is not None:
        hold(db, made_by)
        if KEYS in scopes:
            raise Forbidden("Only a signed-in person makes a key that may make keys.", scope=KEYS)
    secret = new_token(PREFIX)
    key = ApiKey(
        id=new_id("key"),
        account_id=owner.account.id,
        user_id=owner.user.id,
        name=name,
        prefix=secret[:10],
        key_hash=hash_token(secret),
        scopes=" ".join(sorted(set(scopes))),
        made_by=made_by,
        created_at=now,
    )
    db.add(key)
    db.flush()
    return key, secret


def hold(db: Session, key_id: str) -> None:
    """Keep a key from being revoked until the transaction ends, so that what it makes cannot outlive it. Raises
    Unauthorized when it was revoked in the meantime."""
    mine = select(ApiKey.id).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).with_for_update()
    if db.scalar(mine) is None:
        raise Unauthorized("This API key was revoked.")


def find_key(db: Session, secret: str) -> tuple[Owner, ApiKey] | None:
    """Whose key this is, or None when unknown or revoked."""
    row = db.execute(
        select(User, Account, ApiKey)
        .join(Account, Account.owner_id == User.id)
        .join(ApiKey, ApiKey.account_id == Account.id)
        .where(ApiKey.key_hash == hash_token(secret), ApiKey.revoked_at.is_(None), User.deleted_at.is_(None))
    ).first()
    return (Owner(row[0], row[1]), row[2]) if row else None


def touch(db: Session, key_id: str, now: datetime) -> None:
    """Write down that a key is used."""
    db.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now))


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
    """End a key, and forget a new address or an end of the account that waits for its proof. Raises NotFound for one
    that is not this account's; revoking twice is success."""
    mine = (ApiKey.id == key_id, ApiKey.account_id == account_id)
    user_id = db.scalar(update(ApiKey).where(*mine).values(revoked_at=now).returning(ApiKey.user_id))
    if user_id is None:
        raise NotFound("There is no such API key.")
    # Those that it made end with it: whoever had a leaked key must not keep another one.
    made = (ApiKey.made_by == key_id, ApiKey.account_id == account_id, ApiKey.revoked_at.is_(None))
    db.execute(update(ApiKey).where(*made).values(revoked_at=now))
    addresses.forget(db, user_id)
    farewells.forget(db, user_id)


def revoke_all(db: Session, user_id: str, now: datetime) -> list[str]:
    """End every key of a user; the ids of those that were in force."""
    mine = (ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    return list(db.scalars(update(ApiKey).where(*mine).values(revoked_at=now).returning(ApiKey.id)))
