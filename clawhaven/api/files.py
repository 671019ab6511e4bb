"""The files an assistant reads at the beginning of every conversation, and every text they had."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from clawhaven.accounts.ownership import owned
from clawhaven.api.bodies import FileBody
from clawhaven.api.deps import Ctx, Signed
from clawhaven.instances import versions, workspace
from clawhaven.instances.models import Instance, WorkspaceVersion
from clawhaven.workflows import editing

router = APIRouter(prefix="/instances/{instance_id}/files", tags=["instances"])

Number = Annotated[int, Path(ge=1, le=10**9)]
"""A version's number; the bound is what the column of every database takes."""


@router.get("")
def list_files(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The files, without their texts: size and limit in characters, and the digest that a change names as `base`."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
    found = [editing.read(ctx, instance, name) for name in workspace.FILES]
    return {"items": [_file_json(one) for one in found], "next_cursor": None}


@router.get("/{name}")
def get_file(instance_id: str, name: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """One file with its text."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
    found = editing.read(ctx, instance, name)
    return {**_file_json(found), "content": found.text}


@router.put("/{name}", status_code=202)
def put_file(instance_id: str, name: str, body: FileBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Change a file; the assistant reads it with the next message, and what it said before stays as a version.

    With `base` (its digest when it was read) the change is refused with 409 `file_changed` once it says something else.
    """
    is_new = editing.save(ctx, instance_id, who.account_id, name, body.content, body.base, who.actor)
    return {"name": name, "is_changed": is_new}


@router.get("/{name}/versions")
def list_versions(instance_id: str, name: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The newest 50 texts of a file, newest first."""
    editing.check_name(name)
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        found = versions.list_versions(db, instance_id, name)
        return {"items": [_version_json(one) for one in found], "next_cursor": None}


@router.get("/{name}/versions/{number}")
def get_version(instance_id: str, name: str, number: Number, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """One of them with its text."""
    editing.check_name(name)
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        found = versions.find(db, instance_id, name, number)
        return {**_version_json(found), "content": versions.text_of(found, ctx.keys)}


@router.post("/{name}/versions/{number}/restore", status_code=202)
def restore_version(instance_id: str, name: str, number: Number, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Make a file what it was; what it says now becomes a version too."""
    is_new = editing.restore(ctx, instance_id, who.account_id, name, number, who.actor)
    return {"name": name, "is_changed": is_new}


def _file_json(found: editing.Text) -> dict[str, Any]:
    return {
        "name": found.file,
        "characters": len(found.text),
        "limit": workspace.LIMITS[found.file],
        "digest": found.digest,
        "status": "being_written" if found.is_waiting else "not_written" if found.problem else "written",
    }


def _version_json(version: WorkspaceVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        "author": version.author,
        "at": version.created_at.isoformat(),
        "written_at": version.written_at.isoformat() if version.written_at else None,
        "problem": version.problem,
        "digest": version.digest,
    }
