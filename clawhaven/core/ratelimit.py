"""Fixed-window limits counted in the database, exact over several processes (one UPSERT per hit)."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from clawhaven.core.db import Base
from clawhaven.core.errors import RateLimited


class RateWindow(Base):
    """How often `key` was used in the window that began at `started` (Unix seconds)."""

    __tablename__ = "rate_window"

    key: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    started: Mapped[int] = mapped_column(primary_key=True)
    hits: Mapped[int]


def hit(db: Session, key: str, limit: int, seconds: int, now: datetime) -> None:
    """Count one use of `key`; raises RateLimited from use `limit + 1` in the same window on."""
    moment = int(now.timestamp())
    started = moment - moment % seconds
    dialect = db.get_bind().dialect.name
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = insert(RateWindow).values(key=key[:200], started=started, hits=1)
    upsert = statement.on_conflict_do_update(
        index_elements=[RateWindow.key, RateWindow.started], set_={"hits": RateWindow.hits + 1}
    ).returning(RateWindow.hits)
    hits = db.execute(upsert).scalar_one()
    if hits > limit:
        wait = started + seconds - moment
        raise RateLimited(f"Too many tries. Please wait {wait} seconds.", retry_after=wait)


def sweep(db: Session, now: datetime) -> None:
    """Forget windows older than a day."""
    db.execute(sa.delete(RateWindow).where(RateWindow.started < int(now.timestamp()) - 86_400))
