"""Which OpenClaw an assistant runs, since when, and whether that is older than another."""

from __future__ import annotations

import re
from datetime import datetime

from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from clawhaven.instances.models import Instance


def note_seen(db: Session, instance_id: str, version: str | None, now: datetime) -> None:
    """What its gateway said of itself when it became ready; the time is that of the change."""
    if not version:
        return
    is_other = or_(Instance.openclaw_version.is_(None), Instance.openclaw_version != version[:40])
    db.execute(
        update(Instance)
        .where(Instance.id == instance_id, is_other)
        .values(openclaw_version=version[:40], openclaw_since_at=now)
    )


def is_older(version: str | None, than: str) -> bool:
    """True where both are numbers with dots (`2026.9.6`, `v2026.9.6-1`) and the first one is smaller."""
    mine, theirs = _numbers(version or ""), _numbers(than)
    return bool(mine) and bool(theirs) and mine < theirs


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d{1,6}(?:\.\d{1,6})*)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()
