"""What the health sweep saw. Observations are kept beside the lifecycle, never in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.instances.models import Instance, Observed
from clawhaven.instances.states import State

MAX_RESTARTS = 3
FORGIVE_AFTER = timedelta(hours=1)
ALERT_AFTER = timedelta(minutes=15)
GONE = frozenset({"exited", "stopped", "absent"})
"""A runtime's words for a gateway that does not run."""


class Outlook(StrEnum):
    """What comes of an assistant that did not answer."""

    RESTARTED = "restarted"
    """It had stopped, and is started again by the sweep."""
    GIVEN_UP = "given_up"
    """It stops again and again, and the operator is told."""
    SILENT = "silent"
    """It runs and does not answer. Never restarted by the sweep: it may be working on a turn."""
    UNKNOWN = "unknown"
    """Its runtime could not be asked, so nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about an observation."""

    should_restart: bool
    should_alert: bool


def due(db: Session) -> list[Instance]:
    """Every instance that should be running."""
    return list(
        db.scalars(
            select(Instance)
            .where(
                Instance.state == State.ACTIVE,
                Instance.placement.is_not(None),
                Instance.deletion_asked_at.is_(None),
            )
            .order_by(Instance.id)
        )
    )


def record(
    db: Session,
    instance_id: str,
    now: datetime,
    *,
    status: str,
    is_healthy: bool,
    detail: str,
    is_startup: bool = False,
) -> Verdict:
    """Store what was seen and say what to do about it.

    A gateway that is gone is started again, at most three times until it has held for an hour; then the operator is
    told. At our own start-up (`is_startup`) it was probably us who stopped it: started, and not counted.
    """
    row = db.get(Observed, instance_id)
    if row is None:
        row = Observed(instance_id=instance_id, at=now, status=status, is_healthy=is_healthy, restarts=0)
        db.add(row)
    row.at, row.status, row.is_healthy, row.detail = now, status, is_healthy, detail[:500]
    if row.restarted_at is not None and now - row.restarted_at > FORGIVE_AFTER:
        row.restarts, row.restarted_at = 0, None
    if is_healthy:
        row.unhealthy_since = None
        return Verdict(False, False)
    row.unhealthy_since = row.unhealthy_since or now
    is_gone = status in GONE
    if is_gone and is_startup:
        return Verdict(True, False)
    should_restart = is_gone and row.restarts < MAX_RESTARTS
    if should_restart:
        row.restarts, row.restarted_at = row.restarts + 1, now
    is_long = now - row.unhealthy_since >= ALERT_AFTER
    return Verdict(should_restart, is_long or (is_gone and not should_restart))


def outlook(seen: Observed) -> Outlook:
    """What comes of an assistant that was seen like this and is not healthy."""
    if seen.status in GONE:
        is_tried = seen.restarts < MAX_RESTARTS or seen.restarted_at == seen.at
        return Outlook.RESTARTED if is_tried else Outlook.GIVEN_UP
    return Outlook.SILENT if seen.status == "running" else Outlook.UNKNOWN


def observed(db: Session, instance_id: str) -> Observed | None:
    """The last observation of an instance."""
    return db.get(Observed, instance_id)
