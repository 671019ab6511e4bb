"""Backups of assistants: by schedule and by hand, sealed on their way to the vault, and out again as a plain archive.

A running gateway is not stopped for it: the runtime holds it still while its files are read (a second for 25 MB), so
that they are those of one instant, as after a power failure, which its databases are made for. OpenClaw's own
`backup create` takes 4 seconds of a CPU and a second Node in the assistant's memory, and leaves the keys in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import Conflict, IllegalMove, Unavailable
from clawhaven.core.logs import get_logger
from clawhaven.core.sealing import open_pieces, seal_pieces
from clawhaven.core.secrets import SealBroken
from clawhaven.instances import backups, operations, portable, states
from clawhaven.instances.backups import BackupState, MadeFor
from clawhaven.instances.models import Backup, Instance, Operation
from clawhaven.instances.states import State
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import engine, files, letters, lifecycle, progress
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

log = get_logger("clawhaven.backup")

AN_HOUR = 10
"""Backups by hand, restores and removals of one assistant within an hour, each."""

DOWNLOADS_AN_HOUR = 20

GIVEN_UP = timedelta(hours=24)
"""A backup that was begun so long ago and is not there was lost."""

OF_THE_HOUSE = frozenset({"disk_full", "io_error", "docker_down"})
"""Failures that one alert a day tells of for all assistants together."""

NOTE = "READ-ME-FIRST.txt"
CONFIG_IN_ARCHIVE = ".openclaw/openclaw.json"


def ask_backup(db: Session, ctx: Context, instance_id: str, actor: str) -> Operation:
    """Make a backup by hand. Raises IllegalMove, Conflict `too_many_backups`, RateLimited."""
    check_kept(lifecycle.locked(db, instance_id))
    waiting = next((one for one in operations.queued(db, instance_id) if one.kind == "backup"), None)
    if waiting is not None:
        return waiting
    now = ctx.clock.now()
    ratelimit.hit(db, f"backup:{instance_id}", AN_HOUR, 3600, now)
    return begin(db, ctx, instance_id, MadeFor.OWNER, actor)


def ask_remove(db: Session, ctx: Context, instance_id: str, backup_id: str, actor: str) -> None:
    """Remove a backup that was made by hand, or one that failed. Raises NotFound, IllegalMove, RateLimited."""
    instance = lifecycle.locked(db, instance_id)
    backup = backups.find(db, instance_id, backup_id)
    if backup.state == BackupState.MAKING:
        raise IllegalMove("This backup is still being made.", state=backup.state)
    if not backups.is_removable(backup):
        raise IllegalMove("Only backups made by hand are removed by hand; the others go by themselves.")
    if backup_id in backups.held(db, instance_id):
        raise IllegalMove("This backup is needed for what is under way. Please try again when that is over.")
    now = ctx.clock.now()
    ratelimit.hit(db, f"backup-remove:{instance_id}", AN_HOUR, 3600, now)
    if backups.begin_removing(db, backup_id):
        audit.record(db, now, actor, "backup.remove", instance_id, instance.account_id, backup=backup_id)
        _enqueue_removal(db, ctx, instance_id, backup_id)


def begin(db: Session, ctx: Context, instance_id: str, made_for: MadeFor, actor: str) -> Operation:
    """Row, operation and workflow of a backup, in the caller's transaction."""
    now = ctx.clock.now()
    instance = db.get_one(Instance, instance_id)
    made = backups.open_backup(db, instance_id, made_for, now)
    audit.record(db, now, actor, "backup.make", instance_id, instance.account_id, backup=made.id, made_for=made_for)
    operation = operations.open_operation(db, instance_id, "backup", now)
    enqueue(
        db,
        ctx,
        "backup",
        f"backup:{operation.id}",
        instance_id,
        operation.id,
        made.id,
        queue=engine.INSTANCES,
        partition=instance_id,
    )
    return operation


def check_kept(instance: Instance) -> None:
    """Raises IllegalMove for an assistant that has nothing to copy, or is going."""
    if instance.deletion_asked_at is not None and instance.state != State.DELETED:
        raise IllegalMove("The assistant is being deleted.", state=instance.state)
    if instance.state not in (State.ACTIVE, State.SUSPENDED) or instance.placement is None:
        raise IllegalMove(
            f"The assistant is {states.CALLED[instance.state]} and keeps nothing to back up.", state=instance.state
        )


def download(ctx: Context, instance: Instance, backup_id: str, actor: str) -> tuple[str, Iterator[bytes]]:
    """A backup as a plain archive: its file's name, and its pieces. Our keys and the bots' tokens are not in it.

    Raises NotFound, IllegalMove, RateLimited; Conflict `backup_broken` when it cannot be opened, Unavailable when the
    vault does not answer. Damage further on breaks the stream off.
    """
    with ctx.db.tx() as db:
        backup = backups.find_ready(db, instance.id, backup_id)
        now = ctx.clock.now()
        ratelimit.hit(db, f"backup-download:{instance.id}", DOWNLOADS_AN_HOUR, 3600, now)
        audit.record(db, now, actor, "backup.download", instance.id, instance.account_id, backup=backup_id)
    try:
        pieces = opened(ctx, instance.id, backup_id)
        first = next(pieces)
    except ProviderError as error:
        log.error("a backup cannot be read", backup=backup_id, code=error.code, error=error.message)
        if error.permanent:
            raise Conflict(progress.sentence(error.code), code=error.code) from error
        raise Unavailable("The place where backups are kept does not answer. Please try again.") from error
    name = f"{portable.file_name(instance.name)}-{backup.created_at:%Y-%m-%d-%H%M}.tar.gz"
    return name, chain((first,), pieces)


def opened(ctx: Context, instance_id: str, backup_id: str) -> Iterator[bytes]:
    """The archive's pieces. Raises ProviderError `no_file`, and `backup_broken` where the seal does not hold."""
    try:
        yield from open_pieces(ctx.keys, _purpose(instance_id, backup_id), ctx.vault.get(instance_id, backup_id))
    except SealBroken as error:
        raise ProviderError(f"{backup_id}: {error}", permanent=True, code="backup_broken") from error


def copy(ctx: Context, backup_id: str) -> None:
    """Pack, seal and keep one backup; ready already is success.

    Raises ProviderError, `lost` (permanent) when it was given up or removed meanwhile; AppError.
    """
    with ctx.db.read() as db:
        backup = db.get(Backup, backup_id)
        if backup is None or backup.state not in (BackupState.MAKING, BackupState.READY):
            raise ProviderError(f"{backup_id} was given up or removed", permanent=True, code="lost")
        instance = db.get_one(Instance, backup.instance_id)
    if backup.state == BackupState.READY:
        return
    if instance.placement is None:
        raise ProviderError("the assistant has no place", permanent=True, code="not_placed")
    runtime, version = ctx.runtime(instance.runtime), instance.openclaw_version or ctx.settings.openclaw_version
    instead = {
        CONFIG_IN_ARCHIVE: portable.portable_config(runtime.read(instance.placement, files.CONFIG) or "{}"),
        NOTE: portable.write_note(instance.name, ctx.settings.brand_name, version, backup.created_at),
    }
    # The archive is closed here and now, whatever happens: it holds the gateway still.
    most = ctx.settings.backup_max_mb * 1_000_000
    packed = runtime.pack(instance.placement, instead, most)
    with closing(packed):
        sealed = seal_pieces(ctx.keys, _purpose(instance.id, backup_id), _while_wanted(packed))
        stored = ctx.vault.put(instance.id, backup_id, sealed)
    with ctx.db.tx() as db:
        now = ctx.clock.now()
        backups.mark_ready(
            db,
            backup_id,
            now,
            size_bytes=stored.size_bytes,
            digest=stored.digest,
            version=version,
            most_bytes=most,
        )


def demand_safety(ctx: Context, safety_id: str, *, is_whole: bool = False) -> None:
    """Before anything of an assistant is changed: the copy put aside is ready, and its file can be opened; or read to
    its end (`is_whole`), as it is once, when it was made.

    Raises ProviderError: `no_safety` (permanent) when it is not there or damaged, or that the vault does not answer.
    """
    with ctx.db.read() as db:
        safety = db.get(Backup, safety_id)
    if safety is None or safety.state != BackupState.READY:
        raise ProviderError(f"the copy {safety_id} was not kept", permanent=True, code="no_safety")
    try:
        pieces = opened(ctx, safety.instance_id, safety_id)
        with closing(pieces):  # type: ignore[type-var]
            for _ in _while_wanted(pieces):
                if not is_whole:
                    break
    except ProviderError as error:
        if not error.permanent:
            raise
        raise ProviderError(f"{safety_id}: {error.message}", permanent=True, code="no_safety") from error


def tell_operator(db: Session, ctx: Context, instance_id: str, code: str, what: str) -> None:
    """One alert a day for an assistant, or for all of them where it is the house that fails."""
    day = ctx.clock.now().date().isoformat()
    about = code if code in OF_THE_HOUSE else instance_id
    text = (
        f"{what} of the assistant {instance_id} failed ({code}): {progress.sentence(code)}\n\nSee the log for details."
    )
    letter = kinds.alert(f"{what} failed: {about}", text)
    letters.post_to(db, ctx, f"backup-failed:{about}:{day}", letter, ctx.settings.support_address)


@workflow("backup")
def backup(instance_id: str, operation_id: str, backup_id: str) -> str:
    """Copy, then remove what is superfluous by now."""
    try:
        copy_state(operation_id, backup_id)
    except StepFailed as failure:
        give_up_backup(instance_id, operation_id, backup_id, failure.code)
        return failure.code
    close_backup(operation_id)
    try:
        prune(instance_id)
    except StepFailed as failure:
        return failure.code
    return "done"


@workflow("remove_backup")
def remove_backup(instance_id: str) -> str:
    """The file, then the row."""
    try:
        prune(instance_id)
    except StepFailed as failure:
        return failure.code
    return "done"


@workflow("sweep_backups")
def sweep_backups(scheduled_at: datetime, context: Any) -> None:
    """Ask for the daily backups that are due, a few at a time."""
    ask_due()


@step("copy_state", attempts=3, wait_seconds=5)
def copy_state(operation_id: str, backup_id: str) -> None:
    """Read, seal, keep."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "copy_state"):
        copy(ctx, backup_id)


@step("close_backup")
def close_backup(operation_id: str) -> None:
    """The operation is over."""
    progress.finish(engine.context(), operation_id)


@step("give_up_backup")
def give_up_backup(instance_id: str, operation_id: str, backup_id: str, code: str) -> None:
    """Say so: to the owner on the page, to the operator once."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        if backups.mark_failed(db, backup_id, code):
            tell_operator(db, ctx, instance_id, code, "The backup")
    progress.finish(ctx, operation_id, code)


@step("prune", attempts=5, wait_seconds=2)
def prune(instance_id: str) -> int:
    """Remove what is beyond what is kept, and what was asked to be removed. Returns how many are gone."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        for one in backups.superfluous(db, instance_id, ctx.settings.backups_kept):
            backups.begin_removing(db, one)
        going = backups.removing(db, instance_id)
    for one in going:
        ctx.vault.remove(instance_id, one)
        with ctx.db.tx() as db:
            backups.drop(db, one)
    return len(going)


@step("ask_due", attempts=1)
def ask_due() -> int:
    """Begin as many of the daily ones as may run at a time; returns how many.

    Removals that failed are asked for again, once an hour.
    """
    ctx = engine.context()
    now = ctx.clock.now()
    since = backups.last_boundary(now, ctx.settings.backup_hour)
    with ctx.db.tx() as db:
        for one in backups.lost(db, now - GIVEN_UP):
            backups.mark_failed(db, one, "lost")
        free = ctx.settings.backups_at_once - backups.under_way(db, now - GIVEN_UP)
        due = backups.due(db, since, free) if free > 0 else []
        for instance_id in due:
            try:
                check_kept(lifecycle.locked(db, instance_id))
            except IllegalMove:
                continue
            begin(db, ctx, instance_id, MadeFor.DAILY, "workflow:sweep_backups")
        for instance_id in backups.with_removals(db):
            _enqueue_removal(db, ctx, instance_id, f"{instance_id}:{now:%Y-%m-%dT%H}")
    return len(due)


def _enqueue_removal(db: Session, ctx: Context, instance_id: str, name: str) -> None:
    enqueue(
        db,
        ctx,
        "remove_backup",
        f"remove-backup:{name}",
        instance_id,
        queue=engine.INSTANCES,
        partition=instance_id,
    )


def _while_wanted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        if engine.is_stopping():
            raise engine.Interrupted
        yield piece


def _purpose(instance_id: str, backup_id: str) -> str:
    return f"instance.backup:{instance_id}:{backup_id}"
