"""New settings for an assistant: what they would change, field by field and file by file, and changing it.

A workspace file that still says what the settings made of it follows them. One that its owner or the assistant has
changed since is theirs: it is left as it is, unless the owner asks for it to be made anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.context import Context
from clawhaven.core.errors import Conflict, Invalid
from clawhaven.instances import versions, workspace
from clawhaven.instances.drafts import Draft
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import State
from clawhaven.workflows import editing, lifecycle, model

FIELDS = ("name", "persona", "instructions", "model")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One of FIELDS, before and after."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """A workspace file that the new settings would make anew."""

    name: str
    before: str
    after: str
    is_own: bool
    """Its owner or the assistant has changed it since the settings made it."""


@dataclass(frozen=True, slots=True)
class Review:
    """What new settings would change. `base` stands for what is there now: see `change`."""

    fields: tuple[FieldChange, ...]
    files: tuple[FileChange, ...]
    base: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What was changed: names of FIELDS, what is under way for it, and the files that stay as somebody made them."""

    fields: tuple[str, ...]
    operation: Operation | None
    kept_files: tuple[str, ...]


def review(ctx: Context, instance_id: str, account_id: str, draft: Draft, chosen: str = "") -> Review:
    """What would change. `chosen`: a model; empty: the one it has.

    Raises NotFound, Invalid (a model that is not on offer), Unavailable while the files cannot be read.
    """
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, account_id)
        wanted = chosen.strip() or instance.model
        offered = [one.model for one in model.list_offers(db, ctx, instance)] if wanted != instance.model else []
    if wanted != instance.model and wanted not in offered:
        raise Invalid(f"{wanted} is not on offer here.", field="model", reason="unknown model", models=offered)
    return _compare(ctx, instance, draft, wanted)


def change(
    ctx: Context,
    instance_id: str,
    account_id: str,
    draft: Draft,
    actor: str,
    *,
    chosen: str = "",
    base: str | None = None,
    anew: Collection[str] = (),
) -> Changed:
    """Take the new settings over; the gateway follows, without a restart.

    `base`: what the owner has seen (`Review.base`); `anew`: their own files that are to be made anew. Raises like
    `review`, IllegalMove for a deleted assistant, and Conflict `settings_changed` when something is different by now.
    """
    seen = review(ctx, instance_id, account_id, draft, chosen)
    if base is not None and base != seen.base:
        raise _changed_meanwhile()
    written = {file.name: versions.digest(file.before) for file in seen.files if not file.is_own or file.name in anew}
    kept = tuple(file.name for file in seen.files if file.name not in written)
    names = tuple(field.name for field in seen.fields)
    with ctx.db.tx() as db:
        instance = lifecycle.locked(db, instance_id)
        if any(getattr(instance, field.name) != field.before for field in seen.fields):
            raise _changed_meanwhile()
        if not seen.fields and not written:
            return Changed((), None, kept)
        if chosen.strip():
            model.choose(db, ctx, instance, chosen)
        instance.name, instance.persona, instance.instructions = draft.name, draft.persona, draft.instructions
        db.flush()
        files = written if _has_files(instance) else None
        operation = lifecycle.ask_configure(db, ctx, instance_id, actor, list(names or written), files=files)
    return Changed(names, operation, kept)


def begin_anew(db: Session, ctx: Context, instance_id: str, actor: str) -> None:
    """No instructions any more, and files as the settings then make them: every other text goes, whoever wrote it and
    however long it is, and stays in the file's history. Raises IllegalMove for a deleted assistant, RateLimited."""
    row = lifecycle.locked(db, instance_id)
    row.instructions = ""
    if row.persona not in workspace.list_personas(ctx.settings.templates_dir):
        row.persona = workspace.BUILT_IN[0]
    db.flush()
    files = dict.fromkeys(workspace.FILES, editing.WHATEVER)
    lifecycle.ask_configure(db, ctx, instance_id, actor, ["instructions", *files], files=files)


def _changed_meanwhile() -> Conflict:
    return Conflict(
        "The settings or a file have changed meanwhile. Look at the changes once more.", code="settings_changed"
    )


def _compare(ctx: Context, instance: Instance, draft: Draft, chosen: str) -> Review:
    after = {"name": draft.name, "persona": draft.persona, "instructions": draft.instructions, "model": chosen}
    fields = tuple(
        FieldChange(name, getattr(instance, name), after[name])
        for name in FIELDS
        if getattr(instance, name) != after[name]
    )
    found = _files_now(ctx, instance)
    made, wanted = _make(ctx, _draft_of(instance)), _make(ctx, draft)
    files = tuple(
        FileChange(name, found[name], wanted[name], found[name] != made.get(name))
        for name in found
        if wanted[name] not in (found[name], made.get(name))
    )
    seen = [getattr(instance, name) for name in FIELDS] + [versions.digest(text) for text in found.values()]
    return Review(fields, files, versions.digest(json.dumps(seen)))


def _has_files(instance: Instance) -> bool:
    return instance.state in (State.ACTIVE, State.SUSPENDED) and instance.placement is not None


def _files_now(ctx: Context, instance: Instance) -> dict[str, str]:
    if not _has_files(instance):
        return {}
    found = dict(editing.read_all(ctx, instance))
    with ctx.db.read() as db:
        for name in found:
            last = versions.newest(db, instance.id, name)
            if last is not None and versions.is_waiting(last):
                found[name] = versions.text_of(last, ctx.keys)
    return found


def _draft_of(instance: Instance) -> Draft:
    return Draft(instance.name, instance.persona, instance.instructions)


def _make(ctx: Context, draft: Draft) -> dict[str, str]:
    """The files these settings make; none for a persona that is gone."""
    if draft.persona not in workspace.list_personas(ctx.settings.templates_dir):
        return {}
    return workspace.render(draft.persona, draft.name, draft.instructions, ctx.settings.templates_dir)
