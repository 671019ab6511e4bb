"""Fixed-window limits counted in the database, exact over several processes (one UPSERT per hit)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

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


def client_key(peer: str, forwarded_lines: Sequence[str], hops: int) -> str:
    """The asking machine's address, as its limits count it: one IPv4 address, or the /64 of an IPv6 address.

    `hops` of our own reverse proxies stand in front; each adds the address it saw at the end of X-Forwarded-For,
    whose lines are one list (RFC 9110 section 5.3). What stands before theirs is the client's own claim.
    """
    chain = [part.strip() for line in forwarded_lines for part in line.split(",") if part.strip()]
    seen = chain[-hops] if 0 < hops <= len(chain) else peer
    try:
        address = ipaddress.ip_address(_without_port(seen))
    except ValueError:
        return seen[:64]
    if isinstance(address, ipaddress.IPv6Address):
        # Everybody with an IPv6 line has 2**64 addresses at least.
        return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)


def _without_port(text: str) -> str:
    """`1.2.3.4:5678` and `[2001:db8::1]:5678`, as some proxies write them, without the port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, _, _ = text.partition(":")
    return host if text.count(":") == 1 else text


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


def is_used_up(db: Session, key: str, limit: int, seconds: int, now: datetime) -> bool:
    """True when the next `hit` of the same would be refused; counts nothing."""
    moment = int(now.timestamp())
    found = db.get(RateWindow, (key[:200], moment - moment % seconds))
    return found is not None and found.hits >= limit


def note(db: Session, key: str, at: datetime) -> None:
    """Remember for a day that `key` was there at this second."""
    with suppress(RateLimited):
        hit(db, key, 1, 1, at)


def last_noted(db: Session, key: str) -> datetime | None:
    """The newest second that was noted for `key`, as long as it is remembered."""
    found = db.scalar(sa.select(sa.func.max(RateWindow.started)).where(RateWindow.key == key[:200]))
    return None if found is None else datetime.fromtimestamp(found, UTC)


def first_noted(db: Session, key: str, after: datetime | None) -> datetime | None:
    """The oldest second that was noted for `key`, later than `after` if that is given."""
    query = sa.select(sa.func.min(RateWindow.started)).where(RateWindow.key == key[:200])
    if after is not None:
        query = query.where(RateWindow.started > int(after.timestamp()))
    found = db.scalar(query)
    return None if found is None else datetime.fromtimestamp(found, UTC)


def sweep(db: Session, now: datetime) -> None:
    """Forget windows older than a day."""
    db.execute(sa.delete(RateWindow).where(RateWindow.started < int(now.timestamp()) - 86_400))
