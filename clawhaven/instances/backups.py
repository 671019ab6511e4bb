"""Copies of assistants: which there are, why they were made, how many are kept. Their files are the vault's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from clawhaven.core.errors import Conflict, IllegalMove, NotFound
from clawhaven.core.ids import new_id
from clawhaven.core.states import Machine
from clawhaven.instances.models import Backup, Instance, InstanceEvent, Operation
from clawhaven.instances.states import State

MOST_OWN = 10
"""Backups by hand that an assistant may have at a time; the owner removes one to make another."""

KEPT_SAFETY = 2
"""Copies made before a restore or an upgrade that are kept; the newest."""


class BackupState(StrEnum):
    """Where a backup is in its life."""

    MAKING = "making"
    READY = "ready"
    FAILED = "failed"
    REMOVING = "removing"


class MadeFor(StrEnum):
    """Why a backup was made."""

    DAILY = "daily"
    OWNER = "owner"
    RESTORE = "restore"
    """Just before another one was brought back."""
    UPGRADE = "upgrade"
    """Just before another version of OpenClaw took over."""


BY_ITSELF = (MadeFor.RESTORE, MadeFor.UPGRADE)

OPEN = ("queued", "running")
"""States of an operation that is alive."""

MACHINE: Machine[BackupState] = Machine(
    "backup",
    Backup,
    "state",
    {
        BackupState.MAKING: frozenset({BackupState.READY, BackupState.FAILED, BackupState.REMOVING}),
        BackupState.READY: frozenset({BackupState.REMOVING}),
        BackupState.FAILED: frozenset({BackupState.REMOVING}),
        BackupState.REMOVING: frozenset(),
    },
)


def open_backup(db: Session, instance_id: str, made_for: MadeFor, now: datetime) -> Backup:
    """A backup that is to be made. Raises Conflict `too_many_backups` for one by hand beyond MOST_OWN."""
    if made_for == MadeFor.OWNER and count_own(db, instance_id) >= MOST_OWN:
        raise Conflict(
            f"There are {MOST_OWN} backups made by hand already. Remove one of them first.",
            code="too_many_backups",
            most=MOST_OWN,
        )
    backup = Backup(
        id=new_id("bak"), instance_id=instance_id, made_for=made_for, state=BackupState.MAKING, created_at=now
    )
    db.add(backup)
    db.flush()
    return backup


def mark_ready(
    db: Session,
    backup_id: str,
    now: datetime,
    *,
    size_bytes: int,
    digest: str,
    version: str,
    most_bytes: int | None = None,
) -> bool:
    """The file is there, whole; its content was bound by `most_bytes`. False when that was known."""
    values = {"size_bytes": size_bytes, "digest": digest, "openclaw_version": version, "ready_at": now}
    return MACHINE.move(db, backup_id, BackupState.READY, most_bytes=most_bytes, **values)


def mark_failed(db: Session, backup_id: str, problem: str) -> bool:
    """It could not be made, for this reason (a code). False when that was known, when it is ready all the same, or
    gone."""
    found = db.get(Backup, backup_id)
    if found is None or found.state in (BackupState.READY, BackupState.REMOVING):
        return False
    return MACHINE.move(db, backup_id, BackupState.FAILED, problem=problem[:60])


def begin_removing(db: Session, backup_id: str) -> bool:
    """From now on nobody sees it; its file goes next, then the row. False when that was under way."""
    return MACHINE.move(db, backup_id, BackupState.REMOVING)


def drop(db: Session, backup_id: str) -> None:
    """The file is gone, the row goes too; gone is success."""
    db.execute(delete(Backup).where(Backup.id == backup_id, Backup.state == BackupState.REMOVING))


def find(db: Session, instance_id: str, backup_id: str) -> Backup:
    """One backup of an assistant. Raises NotFound."""
    found = db.scalars(select(Backup).where(Backup.id == backup_id, Backup.instance_id == instance_id)).one_or_none()
    if found is None or found.state == BackupState.REMOVING:
        raise NotFound("There is no such backup.")
    return found


def find_ready(db: Session, instance_id: str, backup_id: str) -> Backup:
    """One whose file is there. Raises NotFound, IllegalMove while it is being made or when that failed."""
    found = find(db, instance_id, backup_id)
    if found.state != BackupState.READY:
        word = "still being made" if found.state == BackupState.MAKING else "one that could not be made"
        raise IllegalMove(f"This backup is {word}.", state=found.state)
    return found


def is_removable(backup: Backup) -> bool:
    """True for one that its owner may remove: made by hand, or not made at all."""
    is_own = backup.made_for == MadeFor.OWNER and backup.state == BackupState.READY
    return is_own or backup.state == BackupState.FAILED


def held(db: Session, instance_id: str) -> set[str]:
    """Ids that nothing may remove now: what a restore that is not over brings back, and, until no restore and no
    upgrade is under way, the copies that were put aside for one."""
    mine = (Operation.instance_id == instance_id, Operation.state.in_(OPEN))
    begun = db.execute(select(Operation.backup_id).where(*mine, Operation.kind.in_(BY_ITSELF))).all()
    if not begun:
        return set()
    aside = select(Backup.id).where(Backup.instance_id == instance_id, Backup.made_for.in_(BY_ITSELF))
    return {row[0] for row in begun if row[0] is not None} | set(db.scalars(aside))


def list_backups(db: Session, instance_id: str) -> Sequence[Backup]:
    """Those that are there or being made or could not be made, newest first."""
    mine = select(Backup).where(Backup.instance_id == instance_id, Backup.state != BackupState.REMOVING)
    return db.scalars(mine.order_by(Backup.created_at.desc(), Backup.id.desc())).all()


def every_id(db: Session, instance_id: str) -> list[str]:
    """All that may have a file, in whatever state."""
    return list(db.scalars(select(Backup.id).where(Backup.instance_id == instance_id).order_by(Backup.id)))


def removing(db: Session, instance_id: str) -> list[str]:
    """Those whose files are to be removed."""
    going = select(Backup.id).where(Backup.instance_id == instance_id, Backup.state == BackupState.REMOVING)
    return list(db.scalars(going.order_by(Backup.id)))


def with_removals(db: Session) -> list[str]:
    """Assistants that have backups whose files are to be removed."""
    return list(db.scalars(select(Backup.instance_id).where(Backup.state == BackupState.REMOVING).distinct()))


def forget(db: Session, instance_id: str) -> None:
    """The rows of an assistant that is deleted; its files are gone by then."""
    db.execute(delete(Backup).where(Backup.instance_id == instance_id))


def count_own(db: Session, instance_id: str) -> int:
    """How many there are, or are being made, by hand."""
    counted = select(func.count()).where(
        Backup.instance_id == instance_id,
        Backup.made_for == MadeFor.OWNER,
        Backup.state.in_([BackupState.MAKING, BackupState.READY]),
    )
    return int(db.scalar(counted) or 0)


def count_states(db: Session) -> dict[str, int]:
    """How many backups there are in each state, the fleet over."""
    found = dict.fromkeys((str(state) for state in BackupState), 0)
    counted = select(Backup.state, func.count()).group_by(Backup.state)
    found.update({str(row[0]): int(row[1]) for row in db.execute(counted)})
    return found


def sum_bytes(db: Session) -> int:
    """What all files together take."""
    return int(db.scalar(select(func.sum(Backup.size_bytes))) or 0)


def superfluous(db: Session, instance_id: str, kept_daily: int) -> list[str]:
    """Ids that may go: daily ones and safety copies beyond what is kept, and failures once a later one was made.

    Those by hand stay until their owner removes them, and those that are held until they are not.
    """
    rows = list_backups(db, instance_id)
    ready = [row for row in rows if row.state == BackupState.READY]
    daily = [row.id for row in ready if row.made_for == MadeFor.DAILY]
    safety = [row.id for row in ready if row.made_for in BY_ITSELF]
    newest = ready[0].created_at if ready else None
    failed = [
        row.id for row in rows if row.state == BackupState.FAILED and newest is not None and row.created_at < newest
    ]
    kept = held(db, instance_id)
    return [one for one in daily[kept_daily:] + safety[KEPT_SAFETY:] + failed if one not in kept]


def due(db: Session, since: datetime, most: int) -> list[str]:
    """Assistants that lived then and have had no daily backup asked for since, oldest first, at most so many.

    One that is paused is left alone when it was backed up after it was paused: nothing has changed since.
    """
    asked = exists().where(
        Backup.instance_id == Instance.id, Backup.made_for == MadeFor.DAILY, Backup.created_at >= since
    )
    paused_at = (
        select(func.max(InstanceEvent.at))
        .where(InstanceEvent.instance_id == Instance.id, InstanceEvent.kind == "suspended")
        .scalar_subquery()
    )
    kept = exists().where(
        Backup.instance_id == Instance.id,
        Backup.state == BackupState.READY,
        Backup.created_at > func.coalesce(paused_at, since),
    )
    query = select(Instance.id).where(
        Instance.deletion_asked_at.is_(None),
        Instance.placement.is_not(None),
        Instance.active_at < since,
        ~asked,
        or_(Instance.state == State.ACTIVE, and_(Instance.state == State.SUSPENDED, ~kept)),
    )
    return list(db.scalars(query.order_by(Instance.created_at, Instance.id).limit(most)))


def under_way(db: Session, since: datetime) -> int:
    """How many that were begun since then are being made, the fleet over."""
    return int(
        db.scalar(select(func.count()).where(Backup.state == BackupState.MAKING, Backup.created_at >= since)) or 0
    )


def lost(db: Session, before: datetime) -> list[str]:
    """Those that were begun before then and that nobody makes any more: no operation that would is queued or runs."""
    makes = or_(
        Operation.kind == Backup.made_for,
        and_(Operation.kind == "backup", Backup.made_for.in_([MadeFor.DAILY, MadeFor.OWNER])),
    )
    alive = exists().where(Operation.instance_id == Backup.instance_id, Operation.state.in_(OPEN), makes)
    stuck = select(Backup.id).where(Backup.state == BackupState.MAKING, Backup.created_at < before, ~alive)
    return list(db.scalars(stuck.limit(100)))


def last_boundary(now: datetime, hour: int) -> datetime:
    """When the daily backups last became due: the newest `hour` o'clock (UTC) that is not in the future."""
    boundary = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    return boundary if boundary <= now else boundary - timedelta(days=1)
