"""Cursors of lists that are read newest first: the moment and the id of the last line that was shown."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from clawhaven.core.errors import Invalid


def write(moment: datetime, row_id: str) -> str:
    """The cursor that goes on after this line."""
    text = f"{moment.astimezone(UTC).isoformat()}|{row_id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def read(cursor: str) -> tuple[datetime, str]:
    """What `write` was given. Raises Invalid for anything else."""
    try:
        moment, _, row_id = base64.b64decode(cursor.encode(), b"-_", validate=True).decode().partition("|")
        at = datetime.fromisoformat(moment)
    except (ValueError, binascii.Error):
        raise Invalid("This cursor is not one of ours.", field="cursor", reason="unreadable") from None
    if at.tzinfo is None or not (row_id.isascii() and row_id.isprintable()):
        raise Invalid("This cursor is not one of ours.", field="cursor", reason="unreadable")
    return at, row_id


def is_after(cursor: str, moment: Any, row_id: Any) -> sa.ColumnElement[bool]:
    """The condition for lines that come after it, given the columns by which they are ordered, both falling."""
    at, last = read(cursor)
    return sa.or_(moment < at, sa.and_(moment == at, row_id < last))
