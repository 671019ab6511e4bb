"""Backups of an assistant, and the version of OpenClaw it runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from clawhaven.accounts.ownership import owned
from clawhaven.api.deps import Ctx, Signed
from clawhaven.core.errors import Forbidden
from clawhaven.instances import backups, operations, releases
from clawhaven.instances.backups import BackupState
from clawhaven.instances.models import Backup, Instance
from clawhaven.workflows import backup as making
from clawhaven.workflows import restore, upgrade

router = APIRouter(prefix="/instances/{instance_id}", tags=["instances"])


@router.get("/backups")
def list_backups(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The assistant's backups, newest first: those by schedule, by hand, and those made before a restore or upgrade."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        return {"items": [_as_json(one) for one in backups.list_backups(db, instance_id)], "next_cursor": None}


@router.post("/backups", status_code=202)
def make_backup(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Make a backup now. The assistant is held still for a moment, not stopped."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        operation = making.ask_backup(db, ctx, instance_id, who.actor)
        return {"operation": operations.as_json(db, operation)}


@router.get("/backups/{backup_id}")
def get_backup(instance_id: str, backup_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """One backup."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        return _as_json(backups.find(db, instance_id, backup_id))


@router.get("/backups/{backup_id}/download", response_class=StreamingResponse)
def download_backup(instance_id: str, backup_id: str, who: Signed, ctx: Ctx) -> StreamingResponse:
    """The backup as a plain `.tar.gz` of an OpenClaw home, for use anywhere; also while the assistant is paused.

    It holds conversations and the sign-ins of channels that have their own, so an API key needs the scope `write`.
    Our keys and the bots' tokens are not in it.
    """
    if "write" not in who.scopes:
        raise Forbidden("This API key has no write scope.", scope="write")
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
    name, pieces = making.download(ctx, instance, backup_id, who.actor)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type="application/gzip", headers=headers)


@router.post("/backups/{backup_id}/restore", status_code=202)
def restore_backup(instance_id: str, backup_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Bring a backup back: what the assistant knows becomes what it was; settings, channels and keys stay those of now.

    A copy of now is made first. When the assistant does not start with the old state, everything is put back.
    """
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        operation = restore.ask_restore(db, ctx, instance_id, backup_id, who.actor)
        return {"operation": operations.as_json(db, operation)}


@router.delete("/backups/{backup_id}", status_code=202)
def remove_backup(instance_id: str, backup_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Remove a backup that was made by hand, or one that could not be made."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        making.ask_remove(db, ctx, instance_id, backup_id, who.actor)
    return {"id": backup_id, "status": str(BackupState.REMOVING)}


@router.get("/version")
def get_version(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The OpenClaw that the assistant runs, since when, and the one that new assistants get here."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
    pinned = ctx.settings.openclaw_version
    return {
        "version": instance.openclaw_version,
        "since": instance.openclaw_since_at.isoformat() if instance.openclaw_since_at else None,
        "newest": pinned,
        "is_older": releases.is_older(instance.openclaw_version, pinned),
    }


@router.post("/upgrade", status_code=202)
def upgrade_instance(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Change to the newest version here: a copy first, then stop, start and see it answer; else everything back."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        operation = upgrade.ask_upgrade(db, ctx, instance_id, who.actor)
        return {"operation": operations.as_json(db, operation)}


def _as_json(backup: Backup) -> dict[str, Any]:
    return {
        "id": backup.id,
        "status": backup.state,
        "made_for": backup.made_for,
        "at": backup.created_at.isoformat(),
        "ready_at": backup.ready_at.isoformat() if backup.ready_at else None,
        "size_bytes": backup.size_bytes,
        "openclaw_version": backup.openclaw_version or None,
        "problem": backup.problem,
        "is_removable": backups.is_removable(backup),
    }
