"""Keys with which customers' own programs call the models of an assistant's plan: `chp_…`, shown once, stored hashed.

A call with one is a call of that assistant: the same limits, prices and wallet; its source is `program`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.db import lock, table_of
from clawhaven.core.errors import Conflict, Invalid, NotFound, Unauthorized
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token
from clawhaven.core.statements import Lookup
from clawhaven.metering.models import Grant, ProgramKey

PREFIX = "chp_"
MOST = 50
"""Keys of one assistant."""

NAME_LENGTH = 100
TOUCH_EVERY = timedelta(minutes=1)
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whoever holds a key for models: an assistant itself, or a program of its customer's. `key_hash` is what came."""

    grant: Grant
    key_hash: str
    program: ProgramKey | None = None


def make(
    db: Session, instance_id: str, account_id: str, name: str, now: datetime, made_by: str | None = None
) -> tuple[ProgramKey, str]:
    """A new key and its only showing. `made_by`: the API key that asks for it; None: a signed-in person.

    Raises Invalid for a name that is none, Conflict `too_many` beyond MOST.
    """
    name = name.strip()
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise Invalid("Say what the key is for, in at most 100 characters.", field="name", reason="wrong length")
    lock(db, f"program-keys:{instance_id}")
    mine = sa.select(sa.func.count()).select_from(ProgramKey).where(ProgramKey.instance_id == instance_id)
    if db.execute(mine).scalar_one() >= MOST:
        raise Conflict("This assistant has as many keys as it may. Revoke one first.", code="too_many", limit=MOST)
    secret = new_token(PREFIX)
    key = ProgramKey(
        id=new_id("prg"),
        instance_id=instance_id,
        account_id=account_id,
        name=name,
        prefix=secret[:_SHOWN],
        key_hash=hash_token(secret),
        made_by=made_by,
        created_at=now,
    )
    db.add(key)
    db.flush()
    return key, secret


def list_keys(db: Session, instance_id: str) -> list[ProgramKey]:
    """An assistant's keys, oldest first."""
    mine = sa.select(ProgramKey).where(ProgramKey.instance_id == instance_id)
    return list(db.scalars(mine.order_by(ProgramKey.created_at, ProgramKey.id)))


def list_of_account(db: Session, account_id: str) -> list[ProgramKey]:
    """The keys of all assistants of an account, oldest first."""
    theirs = sa.select(ProgramKey).where(ProgramKey.account_id == account_id)
    return list(db.scalars(theirs.order_by(ProgramKey.created_at, ProgramKey.id)))


def revoke(db: Session, instance_id: str, key_id: str) -> None:
    """End a key with its next call. Raises NotFound for one that this assistant has not (any more)."""
    if not _delete(db, ProgramKey.id == key_id, ProgramKey.instance_id == instance_id):
        raise NotFound("There is no such key.")


def revoke_made_by(db: Session, account_id: str, api_key_id: str) -> list[str]:
    """End the keys that an API key had made; their ids."""
    return _delete(db, ProgramKey.made_by == api_key_id, ProgramKey.account_id == account_id)


def forget(db: Session, instance_id: str) -> None:
    """End every key of an assistant; none is success."""
    _delete(db, ProgramKey.instance_id == instance_id)


def find_bearer(db: Session, key_hash: str) -> Bearer:
    """Who holds the key with this hash (core.secrets.hash_token). Raises Unauthorized."""
    is_its_own = sa.or_(Grant.key_hash == key_hash, Grant.replaced_key_hash == key_hash)
    grant = db.execute(sa.select(Grant).where(is_its_own)).scalar_one_or_none()
    if grant is not None:
        return Bearer(grant, key_hash)
    found = db.execute(
        sa.select(Grant, ProgramKey)
        .join(ProgramKey, ProgramKey.instance_id == Grant.instance_id)
        .where(ProgramKey.key_hash == key_hash)
    ).one_or_none()
    if found is None:
        raise Unauthorized("This model key is not valid.")
    return Bearer(found[0], key_hash, found[1])


def is_due(key: ProgramKey, now: datetime) -> bool:
    """True when its last use was written down so long ago that this one is worth it."""
    return key.last_used_at is None or now - key.last_used_at >= TOUCH_EVERY


def touch(db: Session, key_id: str, now: datetime) -> None:
    """Write down that a key is used; gone is success."""
    used = sa.update(ProgramKey).where(ProgramKey.id == key_id).values(last_used_at=now)
    db.execute(used.execution_options(synchronize_session=False))


def grant_hashes(db: Session, key_hashes: Collection[str]) -> dict[str, str]:
    """For programs' keys in force: the hash of the key that the grant of their assistant has itself."""
    return dict(_GRANT_HASHES.fetch(db, key_hashes))


_KEY, _GRANT = table_of(ProgramKey), table_of(Grant)
_GRANT_HASHES = Lookup(
    _KEY.c.key_hash,
    sa.select(_KEY.c.key_hash, _GRANT.c.key_hash.label("grant_hash")).join_from(
        _KEY, _GRANT, _GRANT.c.instance_id == _KEY.c.instance_id
    ),
)


def _delete(db: Session, *which: sa.ColumnElement[bool]) -> list[str]:
    gone = sa.delete(ProgramKey).where(*which).returning(ProgramKey.id)
    return list(db.scalars(gone.execution_options(synchronize_session="fetch")))
