"""Customers' own vendor keys, one per assistant: sealed, replaced, forgotten, never shown."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven.core.secrets import KeyRing
from clawhaven.metering.grants import OWN_KEY_PURPOSE
from clawhaven.metering.models import OwnKey

HINT_LENGTH = 4


def hint(api_key: str) -> str:
    """The end of a key, by which its owner knows it again."""
    return api_key[-HINT_LENGTH:]


def put(db: Session, instance_id: str, upstream: str, api_key: str, keys: KeyRing, now: datetime) -> OwnKey:
    """Seal a key that its vendor has just taken, in place of the one before."""
    values = {
        "instance_id": instance_id,
        "upstream": upstream,
        "sealed": keys.seal(api_key, OWN_KEY_PURPOSE),
        "hint": hint(api_key),
        "checked_at": now,
    }
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    changed = {name: value for name, value in values.items() if name != "instance_id"}
    statement = insert(OwnKey).values(**values).on_conflict_do_update(index_elements=["instance_id"], set_=changed)
    db.execute(statement)
    return db.get_one(OwnKey, instance_id, populate_existing=True)


def find(db: Session, instance_id: str) -> OwnKey | None:
    """The key of an assistant, sealed; None when it has none."""
    return db.get(OwnKey, instance_id, populate_existing=True)


def which_have(db: Session, instance_ids: Collection[str]) -> set[str]:
    """Those of these assistants that have a key."""
    return set(db.scalars(sa.select(OwnKey.instance_id).where(OwnKey.instance_id.in_(instance_ids))))


def remove(db: Session, instance_id: str) -> bool:
    """Forget the key. False when there was none."""
    gone = db.execute(
        sa.delete(OwnKey)
        .where(OwnKey.instance_id == instance_id)
        .returning(OwnKey.instance_id)
        .execution_options(synchronize_session="fetch")
    )
    return gone.first() is not None
