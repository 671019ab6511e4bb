"""Which assistant may read which integration. Its gateway shows a token that opens this one door and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.ids import new_token
from clawhaven.core.secrets import KeyRing, hash_token
from clawhaven.integrations.models import Integration, IntegrationAttachment

PURPOSE = "integration.attachment"
PREFIX = "chi_"


def attach(db: Session, keys: KeyRing, instance_id: str, integration: Integration, now: datetime) -> bool:
    """Let an assistant read an integration. False when it could before."""
    known = db.get(IntegrationAttachment, (instance_id, integration.vendor), populate_existing=True)
    if known is not None and known.integration_id == integration.id:
        return False
    detach(db, instance_id, integration.vendor)
    token = new_token(PREFIX)
    db.add(
        IntegrationAttachment(
            instance_id=instance_id,
            vendor=integration.vendor,
            integration_id=integration.id,
            token_hash=hash_token(token),
            sealed_token=keys.seal(token, PURPOSE),
            attached_at=now,
        )
    )
    db.flush()
    return True


def detach(db: Session, instance_id: str, vendor: str) -> bool:
    """Take it away: the token opens nothing from this transaction on. False when there was none."""
    return _remove(db, IntegrationAttachment.instance_id == instance_id, IntegrationAttachment.vendor == vendor) != []


def detach_all(db: Session, integration_id: str) -> list[str]:
    """Take an integration from every assistant; returns their ids."""
    return _remove(db, IntegrationAttachment.integration_id == integration_id)


def forget(db: Session, instance_id: str) -> None:
    """An assistant is gone."""
    _remove(db, IntegrationAttachment.instance_id == instance_id)


def list_of(db: Session, instance_id: str) -> list[IntegrationAttachment]:
    """What an assistant may read."""
    mine = sa.select(IntegrationAttachment).where(IntegrationAttachment.instance_id == instance_id)
    return list(db.scalars(mine.order_by(IntegrationAttachment.vendor)))


def readers(db: Session, integration_ids: Collection[str]) -> dict[str, list[str]]:
    """Integration id -> the assistants that may read it."""
    columns = (IntegrationAttachment.integration_id, IntegrationAttachment.instance_id)
    rows = db.execute(sa.select(*columns).where(columns[0].in_(integration_ids)).order_by("attached_at"))
    found: dict[str, list[str]] = {}
    for integration_id, instance_id in rows:
        found.setdefault(integration_id, []).append(instance_id)
    return found


def token_of(row: IntegrationAttachment, keys: KeyRing) -> str:
    """What its gateway shows."""
    return keys.open(row.sealed_token, PURPOSE)


def look_up(db: Session, token: str, vendor: str) -> tuple[IntegrationAttachment, Integration] | None:
    """Whose token this is, and what it opens; None when it opens nothing (any more)."""
    query = (
        sa.select(IntegrationAttachment, Integration)
        .join(Integration, Integration.id == IntegrationAttachment.integration_id)
        .where(IntegrationAttachment.token_hash == hash_token(token), IntegrationAttachment.vendor == vendor)
    )
    found = db.execute(query).first()
    return (found[0], found[1]) if found is not None else None


def _remove(db: Session, *where: sa.ColumnElement[bool]) -> list[str]:
    gone = sa.delete(IntegrationAttachment).where(*where).returning(IntegrationAttachment.instance_id)
    return list(db.scalars(gone.execution_options(synchronize_session="fetch")))
