"""Who may call models: one row per instance, written by workflows, read at every call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven.core.errors import NotFound
from clawhaven.metering.models import Grant, PlanMode

OWN_KEY_PURPOSE = "grant.own_key"
"""What a customer's vendor key is sealed for (core.secrets.KeyRing.seal)."""


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """Everything a grant says. Limits of None mean unlimited; `models` None means every priced model."""

    instance_id: str
    account_id: str
    key_hash: str
    plan_mode: PlanMode
    ledger_account_id: str | None = None
    is_active: bool = False
    messages_per_hour: int | None = None
    tokens_per_day: int | None = None
    max_in_flight: int | None = 8
    models: Sequence[str] | None = None
    markup_percent: int = 150
    automatic_per_day_micros: int | None = None
    own_key_upstream: str | None = None
    own_key_sealed: str | None = None


def put_grant(db: Session, terms: GrantTerms, *, now: datetime) -> None:
    """Write the grant of an instance, or replace all of it but the limits that the customer has set.

    With an own-key plan and no key (yet), calls are refused with their own reason until `set_own_key`.
    Raises ValueError when the plan needs a ledger account (included, metered) and has none, or for half a key.
    """
    if bool(terms.own_key_upstream) != bool(terms.own_key_sealed):
        raise ValueError("the customer's own key and its vendor come together")
    if terms.plan_mode is not PlanMode.OWN_KEY and not terms.ledger_account_id:
        raise ValueError("this grant needs a ledger account")
    values = {
        "instance_id": terms.instance_id,
        "account_id": terms.account_id,
        "key_hash": terms.key_hash,
        "is_active": terms.is_active,
        "plan_mode": terms.plan_mode.value,
        "ledger_account_id": terms.ledger_account_id,
        "messages_per_hour": terms.messages_per_hour,
        "tokens_per_day": terms.tokens_per_day,
        "max_in_flight": terms.max_in_flight,
        "models": None if terms.models is None else list(terms.models),
        "markup_percent": terms.markup_percent,
        "automatic_per_day_micros": terms.automatic_per_day_micros,
        "own_key_upstream": terms.own_key_upstream,
        "own_key_sealed": terms.own_key_sealed,
        "updated_at": now,
    }
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(Grant).values(**values)
    changed = {name: value for name, value in values.items() if name != "instance_id"}
    db.execute(statement.on_conflict_do_update(index_elements=["instance_id"], set_=changed))


def activate(db: Session, instance_id: str, *, now: datetime) -> None:
    """Let the instance call models. Raises NotFound."""
    _set_active(db, instance_id, True, now)


def deactivate(db: Session, instance_id: str, *, now: datetime) -> None:
    """Stop the instance's calls (suspension). Calls under way end normally. Raises NotFound."""
    _set_active(db, instance_id, False, now)


def revoke(db: Session, instance_id: str) -> None:
    """Forget the grant, its secret's hash and the customer's key; usage rows stay. Gone is success."""
    db.execute(sa.delete(Grant).where(Grant.instance_id == instance_id).execution_options(synchronize_session=False))


def replace_key(db: Session, instance_id: str, key_hash: str, *, now: datetime) -> None:
    """Give the instance a new secret; the one before is accepted too until `drop_replaced_key`.

    Raises NotFound. A grant has one such secret at most: the caller looks (`Grant.replaced_key_hash`).
    """
    _change(db, instance_id, key_hash=key_hash, replaced_key_hash=Grant.key_hash, updated_at=now)


def drop_replaced_key(db: Session, instance_id: str, *, now: datetime) -> None:
    """From now on the secret before the present one is a stranger's; none is success. Raises NotFound."""
    _change(db, instance_id, replaced_key_hash=None, updated_at=now)


def set_own_key(db: Session, instance_id: str, upstream: str | None, sealed: str | None, *, now: datetime) -> None:
    """Give a grant the customer's key, or take it away (None); without a grant there is nothing to change."""
    if bool(upstream) != bool(sealed):
        raise ValueError("the customer's own key and its vendor come together")
    db.execute(
        sa.update(Grant)
        .where(Grant.instance_id == instance_id)
        .values(own_key_upstream=upstream, own_key_sealed=sealed, updated_at=now)
        .execution_options(synchronize_session="fetch")
    )


def grant_of(db: Session, instance_id: str) -> Grant | None:
    """The grant of an instance, or None."""
    return db.execute(sa.select(Grant).where(Grant.instance_id == instance_id)).scalar_one_or_none()


def _set_active(db: Session, instance_id: str, is_active: bool, now: datetime) -> None:
    _change(db, instance_id, is_active=is_active, updated_at=now)


def _change(db: Session, instance_id: str, **values: object) -> None:
    changed = db.execute(
        sa.update(Grant)
        .where(Grant.instance_id == instance_id)
        .values(**values)
        .returning(Grant.instance_id)
        .execution_options(synchronize_session="fetch")
    ).first()
    if changed is None:
        raise NotFound("This instance has no grant for models.", instance_id=instance_id)
