"""The one ownership check. A stranger's object and a missing one give the same answer."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.core.errors import NotFound

M = TypeVar("M")


def owned(db: Session, model: type[M], row_id: str, account_id: str) -> M:
    """The row of `model` with this id and `account_id`; raises NotFound otherwise."""
    table: Any = model
    row = db.scalars(select(model).where(table.id == row_id, table.account_id == account_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such thing, or it is not yours.")
    return row
