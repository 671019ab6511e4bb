"""How long something is left alone after it was asked about in vain, so that what always fails starves nothing else.

A row with `asks` and `ask_at` was asked about so often without an answer, and is not asked about again before then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")

FIRST = timedelta(minutes=10)
LONGEST = timedelta(hours=6)


class Asked(Protocol):
    """A row that is asked about until there is an answer."""

    ask_at: Any
    asks: Any


def wait_after(asks: int) -> timedelta:
    """So long after the `asks`-th time in vain: 10, 20, 40 minutes …, at most six hours. Pure."""
    return min(LONGEST, FIRST * (1 << min(max(asks, 1) - 1, 10)))


def note_asked(db: Session, row: Asked, now: datetime) -> None:
    """It is asked about now; without an answer it is not asked about again for a while, longer each time."""
    row.asks += 1
    row.ask_at = now + wait_after(row.asks)
    db.flush()


def note_answered(row: Asked) -> None:
    """There was an answer: the next time is as ever."""
    row.asks, row.ask_at = 0, None


def is_due(ask_at: InstrumentedAttribute[datetime | None], now: datetime) -> sa.ColumnElement[bool]:
    """Rows that may be asked about now."""
    return sa.or_(ask_at.is_(None), ask_at <= now)


def take_turns(groups: Collection[Sequence[Row]], limit: int) -> list[Row]:
    """The first of each group, then the second of each …, at most `limit` in all. Pure."""
    rounds = zip_longest(*groups)
    return [one for group in rounds for one in group if one is not None][:limit]
