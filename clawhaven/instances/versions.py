"""Every text a workspace file had, so that nothing anybody wrote over is lost: the newest fifty of each file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from clawhaven.core.errors import Conflict, NotFound
from clawhaven.core.ids import new_id
from clawhaven.core.secrets import KeyRing
from clawhaven.instances.models import WorkspaceVersion

PURPOSE = "instance.workspace_version"
MOST = 50
"""Versions that are kept of one file."""

LONGEST = 60_000
"""Characters of a file that can be kept; OpenClaw loads no more of all files together. A longer one is never cut, and
so never written over."""


class Author(StrEnum):
    """Where a version comes from."""

    FOUND = "found"
    """It was there when we looked: written when the assistant was built, or by the assistant itself."""
    OWNER = "owner"
    RESTORED = "restored"
    SETTINGS = "settings"
    """Made anew of persona, name and instructions."""


def digest(text: str) -> str:
    """What tells two texts apart: SHA-256, hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def newest(db: Session, instance_id: str, file: str) -> WorkspaceVersion | None:
    """The version with the highest number."""
    return db.scalars(_of(instance_id, file).order_by(WorkspaceVersion.number.desc()).limit(1)).first()


def list_versions(db: Session, instance_id: str, file: str) -> Sequence[WorkspaceVersion]:
    """All that are kept, newest first, without their texts."""
    return db.scalars(_of(instance_id, file).order_by(WorkspaceVersion.number.desc())).all()


def count_waiting(db: Session, instance_id: str) -> int:
    """How many versions are still to be written."""
    waiting = select(WorkspaceVersion.id).where(
        WorkspaceVersion.instance_id == instance_id,
        WorkspaceVersion.written_at.is_(None),
        WorkspaceVersion.problem.is_(None),
    )
    return len(db.scalars(waiting).all())


def find(db: Session, instance_id: str, file: str, number: int) -> WorkspaceVersion:
    """One version. Raises NotFound when it never was, or is too old to be kept."""
    found = db.scalars(_of(instance_id, file).where(WorkspaceVersion.number == number)).one_or_none()
    if found is None:
        raise NotFound("This version is not kept any more.")
    return found


def text_of(version: WorkspaceVersion, keys: KeyRing) -> str:
    """What stands in it."""
    return keys.open(version.content, PURPOSE)


def is_waiting(version: WorkspaceVersion | None) -> bool:
    """True for one that is still to be written."""
    return version is not None and version.written_at is None and version.problem is None


def add(
    db: Session,
    keys: KeyRing,
    instance_id: str,
    file: str,
    text: str,
    author: Author,
    now: datetime,
    *,
    base: str | None = None,
    is_written: bool = True,
    number: int = 0,
) -> WorkspaceVersion:
    """A new version, the next one unless its number is told; the oldest go once there are more than MOST.

    Raises Conflict `file_too_long` for a text beyond LONGEST.
    """
    if len(text) > LONGEST:
        raise Conflict(
            "This file is too long to be kept, so it is not replaced. Ask the assistant to shorten it.",
            code="file_too_long",
            file=file,
        )
    last = newest(db, instance_id, file)
    following = last.number + 1 if last else 1
    version = WorkspaceVersion(
        id=new_id("ver"),
        instance_id=instance_id,
        file=file,
        number=number or following,
        content=keys.seal(text, PURPOSE),
        digest=digest(text),
        base=base,
        author=author,
        created_at=now,
        written_at=now if is_written else None,
    )
    db.add(version)
    db.flush()
    db.execute(
        delete(WorkspaceVersion).where(
            WorkspaceVersion.instance_id == instance_id,
            WorkspaceVersion.file == file,
            WorkspaceVersion.number <= (following - 1 if number else following) - MOST,
        )
    )
    return version


def note_found(db: Session, keys: KeyRing, instance_id: str, file: str, text: str, now: datetime) -> None:
    """Keep what is in the file now, unless the newest version says the same or is still to be written.

    Raises Conflict `file_too_long` as `add`.
    """
    last = newest(db, instance_id, file)
    if last is None or (not is_waiting(last) and last.digest != digest(text)):
        add(db, keys, instance_id, file, text, Author.FOUND, now)


def keep_found(db: Session, version: WorkspaceVersion, keys: KeyRing, found: str, now: datetime) -> None:
    """Before `version` is written: what is in the file becomes a version of its own when nobody knew of it.

    Raises Conflict `file_too_long` as `add`.
    """
    present = digest(found)
    if present in (version.digest, version.base):
        return
    number = version.number
    later = _of(version.instance_id, version.file).where(WorkspaceVersion.number >= number)
    for one in db.scalars(later.order_by(WorkspaceVersion.number.desc())).all():
        one.number += 1
        db.flush()
    kept = add(db, keys, version.instance_id, version.file, found, Author.FOUND, now, number=number)
    version.base = kept.digest
    db.flush()


def mark_written(version: WorkspaceVersion, now: datetime) -> None:
    """It is in the file."""
    version.written_at, version.problem = now, None


def mark_failed(db: Session, version_id: str, problem: str) -> None:
    """It could not be written, and nobody tries any more."""
    waiting = WorkspaceVersion.written_at.is_(None)
    db.execute(update(WorkspaceVersion).where(WorkspaceVersion.id == version_id, waiting).values(problem=problem[:200]))


def forget(db: Session, instance_id: str) -> None:
    """Every version of every file; for good."""
    db.execute(delete(WorkspaceVersion).where(WorkspaceVersion.instance_id == instance_id))


def _of(instance_id: str, file: str) -> Select[WorkspaceVersion]:
    return select(WorkspaceVersion).where(WorkspaceVersion.instance_id == instance_id, WorkspaceVersion.file == file)
