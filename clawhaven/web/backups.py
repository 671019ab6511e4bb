"""Backups of an assistant: made now, saved, brought back, removed; and the version it runs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.errors import AppError, Conflict, RateLimited
from clawhaven.instances import backups, operations, releases
from clawhaven.instances.backups import BackupState
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.web import deps, languages, progress, words
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.languages import _
from clawhaven.web.render import page
from clawhaven.workflows import backup as making
from clawhaven.workflows import restore, upgrade

router = APIRouter(prefix="/instances/{instance_id}")

WATCHED = ("backup", "restore", "upgrade")
"""Operations whose steps this page shows."""


@router.get("/backups")
def show_backups(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """The list, what is under way, and the version."""
    return _list(request, ctx, owner, instance_id)


@router.post("/backups")
def make_backup(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """Make one now."""
    try:
        with ctx.db.tx() as db:
            owned(db, Instance, instance_id, owner.account.id)
            making.ask_backup(db, ctx, instance_id, deps.actor(owner))
    except (Conflict, RateLimited) as error:
        return _list(request, ctx, owner, instance_id, error)
    return RedirectResponse(f"/instances/{instance_id}/backups?done=backup-making", 303)


@router.post("/upgrade")
def upgrade_assistant(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """Change to the newest version here."""
    try:
        with ctx.db.tx() as db:
            owned(db, Instance, instance_id, owner.account.id)
            upgrade.ask_upgrade(db, ctx, instance_id, deps.actor(owner))
    except (Conflict, RateLimited) as error:
        return _list(request, ctx, owner, instance_id, error)
    return RedirectResponse(f"/instances/{instance_id}/backups?done=upgrading", 303)


@router.get("/backups/{backup_id}")
def show_backup(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId, backup_id: RowId) -> Response:
    """One backup, and what can be done with it."""
    return _one(request, ctx, owner, instance_id, backup_id)


@router.get("/backups/{backup_id}/download")
def download_backup(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId, backup_id: RowId) -> Response:
    """The plain archive."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
    try:
        name, pieces = making.download(ctx, instance, backup_id, deps.actor(owner))
    except (Conflict, RateLimited) as error:
        return _one(request, ctx, owner, instance_id, backup_id, error)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type="application/gzip", headers=headers)


@router.post("/backups/{backup_id}/restore")
def restore_backup(
    request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, backup_id: RowId
) -> Response:
    """Bring it back; a copy of now is made first."""
    try:
        with ctx.db.tx() as db:
            owned(db, Instance, instance_id, owner.account.id)
            restore.ask_restore(db, ctx, instance_id, backup_id, deps.actor(owner))
    except (Conflict, RateLimited) as error:
        return _one(request, ctx, owner, instance_id, backup_id, error)
    return RedirectResponse(f"/instances/{instance_id}/backups?done=restoring", 303)


@router.post("/backups/{backup_id}/remove")
def remove_backup(
    request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, backup_id: RowId
) -> Response:
    """Remove one that was made by hand."""
    try:
        with ctx.db.tx() as db:
            owned(db, Instance, instance_id, owner.account.id)
            making.ask_remove(db, ctx, instance_id, backup_id, deps.actor(owner))
    except (Conflict, RateLimited) as error:
        return _one(request, ctx, owner, instance_id, backup_id, error)
    return RedirectResponse(f"/instances/{instance_id}/backups?done=backup-removed", 303)


def _list(request: Request, ctx: Context, owner: Owner, instance_id: str, error: AppError | None = None) -> Response:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        listed = backups.list_backups(db, instance_id)
        newest = operations.under_way(db, instance_id) or operations.latest(db, instance_id)
        is_ours = newest is not None and newest.kind in WATCHED
        view = progress.of_operation(db, instance) if is_ours else None
    pinned = ctx.settings.openclaw_version
    return page(
        request,
        "instance_backups.html",
        error.status if error else 200,
        tab="backups",
        instance=instance,
        listed=listed,
        reasons=words.MADE_FOR,
        problem=_said(error) if error else "",
        view=view,
        events=f"/instances/{instance_id}/events",
        is_kept=_is_kept(instance),
        kept=ctx.settings.backups_kept,
        hour=f"{ctx.settings.backup_hour:02}:00",
        most=backups.MOST_OWN,
        pinned=pinned,
        is_running=instance.state == State.ACTIVE,
        is_older=releases.is_older(instance.openclaw_version, pinned),
    )


def _one(
    request: Request, ctx: Context, owner: Owner, instance_id: str, backup_id: str, error: AppError | None = None
) -> Response:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        found = backups.find(db, instance_id, backup_id)
    return page(
        request,
        "instance_backup.html",
        error.status if error else 200,
        tab="backups",
        instance=instance,
        backup=found,
        reason=words.MADE_FOR.get(found.made_for, found.made_for),
        problem=_said(error) if error else "",
        is_ready=found.state == BackupState.READY,
        is_kept=_is_kept(instance),
        is_removable=backups.is_removable(found),
        is_running=instance.state == State.ACTIVE,
    )


def _said(error: AppError) -> str:
    """The refusal in the reader's language."""
    if error.error_code == "too_many_backups":
        most = languages.count(backups.MOST_OWN)
        return _("There are %(most)s backups made by hand already. Remove one of them first.", most=most)
    return _(error.message)


def _is_kept(instance: Instance) -> bool:
    """True where there is something to copy, and to bring a copy back to."""
    is_placed = instance.placement is not None and instance.deletion_asked_at is None
    return is_placed and instance.state in (State.ACTIVE, State.SUSPENDED)
