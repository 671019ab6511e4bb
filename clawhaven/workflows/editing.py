"""A person's change to a workspace file: kept in our books first, then written where the assistant reads it.

The assistant writes in the same files. Whoever changes one says which text they had before them; when another one is
there by now the change is refused, and whatever is written over is kept as a version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, NotFound, RateLimited, Unavailable
from clawhaven.instances import states, versions, workspace
from clawhaven.instances.models import Instance, WorkspaceVersion
from clawhaven.instances.states import State
from clawhaven.instances.versions import Author
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File
from clawhaven.workflows import engine, files
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

FOLDER = "state/workspace/"

KEPT = "One of its files was changed meanwhile and stays as it is."

Anew = bool | dict[str, str]
"""Files to be made anew: all that the settings own (True), none, or these, with the digest of what is in each now, or
WHATEVER."""

WHATEVER = "*"
"""For a digest: the file is made anew whatever stands in it by then."""

MAX_WAITING = 5


@dataclass(frozen=True, slots=True)
class Text:
    """A workspace file as it is, or as it will be in a moment."""

    file: str
    text: str
    digest: str
    is_waiting: bool
    """True while a change of it is still being written."""
    problem: str = ""
    """Why the newest change could not be written."""


def read(ctx: Context, instance: Instance, file: str) -> Text:
    """The file now. Raises NotFound for another name, IllegalMove while there are no files, Unavailable."""
    check_name(file)
    found = read_all(ctx, instance, (file,))[file]
    with ctx.db.read() as db:
        last = versions.newest(db, instance.id, file)
        if last is not None and versions.is_waiting(last):
            text = versions.text_of(last, ctx.keys)
            return Text(file, text, last.digest, True)
    return Text(file, found, versions.digest(found), False, last.problem or "" if last else "")


def read_all(ctx: Context, instance: Instance, names: tuple[str, ...] = workspace.FILES) -> Mapping[str, str]:
    """What stands in the files; an absent one is empty. Raises IllegalMove while there are none, Unavailable."""
    if instance.placement is None or instance.state == State.DELETED:
        raise IllegalMove("Its files are there once the assistant is built.", state=instance.state)
    try:
        runtime = ctx.runtime(instance.runtime)
        return {name: runtime.read(instance.placement, FOLDER + name) or "" for name in names}
    except ProviderError as error:
        raise Unavailable("The assistant's files cannot be read at the moment. Please try again.") from error


def save(ctx: Context, instance_id: str, account_id: str, file: str, text: str, base: str | None, actor: str) -> bool:
    """Change a file; False when it says that already. `base`: the digest of the text that was changed; None: any.

    Raises Invalid (too long, not text), NotFound, IllegalMove, RateLimited, Unavailable, and Conflict `file_changed`
    when another text is there by now, `file_too_long` when what is there is too long to be kept.
    """
    return _save(ctx, instance_id, account_id, file, check_text(file, text), base, actor, Author.OWNER)


def restore(ctx: Context, instance_id: str, account_id: str, file: str, number: int, actor: str) -> bool:
    """Make a file what it was in that version; what it is now stays as a version. Raises like `save`."""
    check_name(file)
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, account_id)
        text = versions.text_of(versions.find(db, instance_id, file, number), ctx.keys)
    return _save(ctx, instance_id, account_id, file, text, None, actor, Author.RESTORED)


def write_anew(ctx: Context, instance: Instance, which: Anew) -> None:
    """Make files of persona, name and instructions again; what stood in them stays as a version.

    A file that somebody has changed since it was decided, or that is too long to be kept, is left alone, and its owner
    is told; but with WHATEVER nothing is left alone, and of one too long its beginning is kept.
    """
    if instance.placement is None:
        return
    runtime = ctx.runtime(instance.runtime)
    for file in files.render_workspace(ctx, instance):
        name = file.path.removeprefix(FOLDER)
        found = runtime.read(instance.placement, file.path)
        is_kept = found is not None and len(found) > versions.LONGEST  # no version could hold it
        if which is True:
            if file.keep and found is not None:
                continue
        elif not which or name not in which:
            continue
        elif which[name] == WHATEVER:
            if found == file.content:
                continue
            is_kept, found = False, found and found[: versions.LONGEST]
        elif found and versions.digest(found) not in (which[name], versions.digest(file.content)):
            is_kept = True
        if is_kept:
            with ctx.db.tx() as db:
                states.note(db, instance.id, ctx.clock.now(), "file_kept", KEPT)
            continue
        _keep_both(ctx, instance.id, name, found, file.content)
        runtime.apply(instance.placement, [File(file.path, file.content)])


def check_name(file: str) -> None:
    """Raises NotFound for what is no workspace file."""
    if file not in workspace.FILES:
        raise NotFound(f"The assistant's files are {', '.join(workspace.FILES)}.")


def check_text(file: str, text: str) -> str:
    """The text with plain line ends and one at its end. Raises NotFound and Invalid."""
    check_name(file)
    cleaned = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    cleaned = "".join(
        sign for sign in cleaned if sign in "\n\t" or (ord(sign) >= 32 and not 0xD800 <= ord(sign) < 0xE000)
    )
    most = workspace.LIMITS[file]
    if len(cleaned) > most:
        message = f"{file} has at most {most} characters; this has {len(cleaned)}. The assistant would not read more."
        raise Invalid(message, field="content", reason="too long")
    return f"{cleaned}\n" if cleaned else ""


def _keep_both(ctx: Context, instance_id: str, file: str, found: str | None, text: str) -> None:
    """What was there and what comes now, unless a change is waiting: whoever writes that one keeps what they find."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if versions.is_waiting(versions.newest(db, instance_id, file)):
            return
        if _is_known(db, instance_id, file, found, text):
            return
        if found:
            versions.note_found(db, ctx.keys, instance_id, file, found, now)
        last = versions.newest(db, instance_id, file)
        if last is None or last.digest != versions.digest(text):
            versions.add(db, ctx.keys, instance_id, file, text, Author.SETTINGS, now)


def _is_known(db: Session, instance_id: str, file: str, found: str | None, text: str) -> bool:
    """True when this very change was noted already, and whoever was to write it was killed."""
    last = [(one.author, one.digest) for one in versions.list_versions(db, instance_id, file)[:2]]
    is_noted = last[:1] == [(Author.SETTINGS, versions.digest(text))]
    return is_noted and (not found or [digest for _, digest in last[1:]] == [versions.digest(found)])


@workflow("write_file")
def write_file(instance_id: str, version_id: str) -> str:
    """Put a version where the assistant reads it; it does so with the next message."""
    try:
        return write_version(version_id)
    except StepFailed as failure:
        note_failure(version_id, failure.message)
        return failure.code


@step("write_version", attempts=5, wait_seconds=2)
def write_version(version_id: str) -> str:
    """Write it; `gone` when the assistant is, or the version: many newer ones have come meanwhile."""
    ctx = engine.context()
    with ctx.db.read() as db:
        version = db.get(WorkspaceVersion, version_id)
        if version is None:
            return "gone"
        instance = db.get_one(Instance, version.instance_id)
        text = versions.text_of(version, ctx.keys)
    if instance.placement is None or instance.deletion_asked_at is not None:
        return "gone"
    runtime = ctx.runtime(instance.runtime)
    found = runtime.read(instance.placement, FOLDER + version.file) or ""
    with ctx.db.tx() as db:  # before it is written over: a crash in between loses nothing
        kept = db.get(WorkspaceVersion, version_id, with_for_update=True)
        if kept is None:
            return "gone"
        versions.keep_found(db, kept, ctx.keys, found, ctx.clock.now())
    runtime.apply(instance.placement, [File(FOLDER + version.file, text)])
    with ctx.db.tx() as db:
        kept = db.get(WorkspaceVersion, version_id)
        if kept is not None:
            versions.mark_written(kept, ctx.clock.now())
    return "written"


@step("note_failure")
def note_failure(version_id: str, problem: str) -> None:
    """Tell on the file's page that it could not be written."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        versions.mark_failed(db, version_id, problem)


def _save(
    ctx: Context, instance_id: str, account_id: str, file: str, text: str, base: str | None, actor: str, author: Author
) -> bool:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, account_id)
    found = read_all(ctx, instance, (file,))[file]
    with ctx.db.tx() as db:
        return _ask_write(db, ctx, instance_id, file, text, base, actor, author, found)


def _ask_write(
    db: Session,
    ctx: Context,
    instance_id: str,
    file: str,
    text: str,
    base: str | None,
    actor: str,
    author: Author,
    found: str,
) -> bool:
    instance = db.get_one(Instance, instance_id, with_for_update=True, populate_existing=True)
    if instance.deletion_asked_at is not None:
        raise IllegalMove("The assistant is being deleted.", state=instance.state)
    now = ctx.clock.now()
    last = versions.newest(db, instance_id, file)
    present = last.digest if last is not None and versions.is_waiting(last) else versions.digest(found)
    if base is not None and base != present:
        raise Conflict(f"{file} has changed since you opened it.", code="file_changed", file=file, digest=present)
    if present == versions.digest(text):
        return False
    if versions.count_waiting(db, instance_id) >= MAX_WAITING:
        raise RateLimited("Too many changes are still being written. Please try again.", retry_after=10)
    versions.note_found(db, ctx.keys, instance_id, file, found, now)
    made = versions.add(db, ctx.keys, instance_id, file, text, author, now, base=present, is_written=False)
    audit.record(db, now, actor, "instance.file", instance_id, instance.account_id, file=file, version=made.number)
    enqueue(
        db, ctx, "write_file", f"file:{made.id}", instance_id, made.id, queue=engine.INSTANCES, partition=instance_id
    )
    return True
