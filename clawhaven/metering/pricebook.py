"""Every price that a call may have been admitted at, kept in the database; and the markup that plans set on them.

Files change while calls are open and while other processes still have the file of yesterday. So each process writes
down the rows it starts with, and learns those that others have written.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from clawhaven.core.db import Base
from clawhaven.metering.models import Grant
from clawhaven.metering.pricefile import describe, restore
from clawhaven.metering.rates import Price

_AT_ONCE = 1_000
"""Ids in one statement; engines limit its parameters."""


class PriceRow(Base):
    """One price, as it was when a process first started with it. Rows are added and never changed."""

    __tablename__ = "model_price"

    id: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    model: Mapped[str] = mapped_column(sa.String(100))
    is_own: Mapped[bool]
    says: Mapped[dict[str, Any]]
    """Rates and bounds: metering.pricefile.describe."""

    recorded_at: Mapped[datetime]


def record(db: Session, prices: Iterable[Price], *, now: datetime) -> int:
    """Write down the rows that are not there yet; how many. Another process may write the same at the same time."""
    rows = [
        {
            "id": price.id,
            "model": price.model,
            "is_own": price.is_own,
            "says": describe(price),
            "recorded_at": now,
        }
        for price in prices
    ]
    if not rows:
        return 0
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(PriceRow).on_conflict_do_nothing().returning(PriceRow.id)
    return len(db.execute(statement, rows).all())


def recall(db: Session) -> list[Price]:
    """Every price that was ever written down here."""
    rows = db.execute(sa.select(PriceRow).order_by(PriceRow.recorded_at, PriceRow.id)).scalars()
    return [restore(row.id, row.says, is_own=row.is_own) for row in rows]


def set_markup(db: Session, instance_ids: Iterable[str], markup_percent: int, *, now: datetime) -> int:
    """Let the next calls of these instances cost `markup_percent` of the list price; how many that changed.

    Calls under way keep the markup they were admitted with.
    """
    changed, ids = 0, sorted(instance_ids)
    for start in range(0, len(ids), _AT_ONCE):
        some = Grant.instance_id.in_(ids[start : start + _AT_ONCE])
        differs = Grant.markup_percent != markup_percent
        # An UPDATE of many rows locks them as it finds them; everybody else does in the order of their ids.
        locked = sa.select(Grant.instance_id).where(some, differs).order_by(Grant.instance_id)
        mine = list(db.scalars(locked.with_for_update(key_share=True)))
        found = db.execute(
            sa.update(Grant)
            .where(Grant.instance_id.in_(mine))
            .values(markup_percent=markup_percent, updated_at=now)
            .returning(Grant.instance_id)
            .execution_options(synchronize_session=False)
        )
        changed += len(found.all())
    return changed
