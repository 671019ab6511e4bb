"""The files an assistant reads at the beginning of every conversation: edited, previewed, compared, undone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.errors import (
    AppError,
    Conflict,
    Forbidden,
    IllegalMove,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
)
from clawhaven.instances import versions, workspace
from clawhaven.instances.models import Instance
from clawhaven.web import deps, diffs, errors, languages, preview, words
from clawhaven.web.deps import AnyForm, Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.languages import _
from clawhaven.web.render import page
from clawhaven.workflows import editing

router = APIRouter(prefix="/instances/{instance_id}/files")

PAGES = {"soul": "SOUL.md", "user": "USER.md", "agents": "AGENTS.md", "identity": "IDENTITY.md"}
"""The word in an address, and the file."""

Number = Annotated[int, Path(ge=1, le=1_000_000_000)]


@router.get("")
def show_first(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """Who the assistant is: the file people want first."""
    return show_file(request, ctx, owner, instance_id, "soul")


@router.get("/{name}")
def show_file(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId, name: RowId) -> Response:
    """A file with its preview and its history; the page's script, which waits until it is written, draws nothing."""
    is_drawn = "hx-request" not in request.headers
    if is_drawn:
        deps.limit_drawing(ctx, owner)
    return _show(request, ctx, owner, instance_id, name, is_drawn=is_drawn)


@router.post("/{name}")
def save_file(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm, instance_id: RowId, name: RowId) -> Response:
    """Save, or (`action=preview`) show how it would look. A form that is stale, or one too many, keeps its text."""
    file, text, base = _file(name), form.get("text"), form.get("base")
    try:
        deps.limit_drawing(ctx, owner)
    except RateLimited as error:
        return _show(request, ctx, owner, instance_id, name, draft=text, base=base, error=error, is_drawn=False)
    if not form.is_genuine:
        stale = Forbidden(deps.STALE, code="stale_form")
        return _show(request, ctx, owner, instance_id, name, draft=text, base=base, error=stale)
    if form.get("action") == "preview":
        return _show(request, ctx, owner, instance_id, name, draft=text, base=base)
    try:
        is_new = editing.save(ctx, instance_id, owner.account.id, file, text, base or None, deps.actor(owner))
    except (Invalid, Conflict, RateLimited, Unavailable) as error:
        if isinstance(error, IllegalMove):
            raise
        base = str(error.details.get("digest") or base)
        return _show(request, ctx, owner, instance_id, name, draft=text, base=base, error=error)
    return RedirectResponse(
        f"/instances/{instance_id}/files/{name}?done={'file-saved' if is_new else 'unchanged'}", 303
    )


@router.post("/{name}/preview")
def show_preview(ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId, name: RowId) -> Response:
    """The preview alone, for the page's script."""
    file = _file(name)
    deps.limit_drawing(ctx, owner)
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, owner.account.id)
    return HTMLResponse(str(preview.draw(form.get("text")[: workspace.LIMITS[file]])))


@router.get("/{name}/versions/{number}")
def show_version(
    request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId, name: RowId, number: Number, against: str = "now"
) -> Response:
    """An earlier text, and what has changed since, or (`against=before`) what it changed itself."""
    file = _file(name)
    deps.limit_drawing(ctx, owner)
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        version = versions.find(db, instance_id, file, number)
        text = versions.text_of(version, ctx.keys)
        listed = [one.number for one in versions.list_versions(db, instance_id, file)]
        before = next((one for one in listed if one < number), None)
        earlier = versions.text_of(versions.find(db, instance_id, file, before), ctx.keys) if before else None
    try:
        now = editing.read(ctx, instance, file).text
    except (IllegalMove, Unavailable):
        now = None
    is_before = against == "before" and earlier is not None
    old, new = (earlier, text) if is_before else (text, now and now[: versions.LONGEST])
    return page(
        request,
        "instance_version.html",
        tab="files",
        instance=instance,
        name=name,
        file=file,
        version=version,
        author=words.AUTHORS.get(version.author, version.author),
        text=text,
        has_before=earlier is not None,
        is_before=is_before,
        diff=None if old is None or new is None else diffs.compare(old, new),
        is_present=now == text,
        is_too_long=now is not None and len(now) > versions.LONGEST,
        is_changeable=now is not None and _is_changeable(instance),
    )


@router.post("/{name}/versions/{number}/restore")
def restore_version(
    ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, name: RowId, number: Number
) -> Response:
    """Make the file what it was; what it is now stays in the history."""
    is_new = editing.restore(ctx, instance_id, owner.account.id, _file(name), number, deps.actor(owner))
    done = "file-restored" if is_new else "unchanged"
    return RedirectResponse(f"/instances/{instance_id}/files/{name}?done={done}", 303)


def _file(name: str) -> str:
    if name not in PAGES:
        raise NotFound("This address leads nowhere. It may have been mistyped, or the page is gone.")
    return PAGES[name]


def _said(error: AppError, file: str, text: str) -> str:
    """The refusal in the reader's language."""
    if error.details.get("field") == "content":
        given, most = languages.count(len(text)), languages.count(workspace.LIMITS[file])
        return _(
            "The assistant reads %(most)s characters of this file at most; these are %(given)s.", most=most, given=given
        )
    if error.error_code == "file_changed":
        return _("This file has changed since you opened it.")
    return errors.said(error)


def _is_changeable(instance: Instance) -> bool:
    return instance.deletion_asked_at is None and instance.placement is not None


def _show(
    request: Request,
    ctx: Context,
    owner: Owner,
    instance_id: str,
    name: str,
    *,
    draft: str | None = None,
    base: str = "",
    error: AppError | None = None,
    is_drawn: bool = True,
) -> Response:
    """The editor, as the file is or with a text that was sent and what is wrong with it."""
    file = _file(name)
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        listed = versions.list_versions(db, instance_id, file)
    found: editing.Text | None = None
    trouble = ""
    try:
        found = editing.read(ctx, instance, file)
    except Unavailable as problem:
        trouble = problem.message
    except IllegalMove:
        pass  # the page says so
    present = found.text[: versions.LONGEST] if found is not None else ""
    text = draft if draft is not None else present
    is_stale = error is not None and error.error_code == "file_changed"
    problems = (
        {"text" if error.details.get("field") == "content" else "form": _said(error, file, text)} if error else {}
    )
    return page(
        request,
        "instance_files.html",
        error.status if error else 200,
        tab="files",
        instance=instance,
        name=name,
        file=file,
        pages=[(word, words.FILES[one]) for word, one in PAGES.items()],
        about=words.FILES_ARE[file],
        found=found,
        text=text,
        is_unsaved=draft is not None,
        base=base or (found.digest if found is not None else ""),
        errors=problems,
        diff=diffs.compare(present, text) if is_stale and found is not None else None,
        trouble=trouble,
        most=workspace.LIMITS[file],
        is_too_long=found is not None and len(found.text) > versions.LONGEST,
        drawn=preview.draw(text[: workspace.LIMITS[file]]) if is_drawn else "",
        listed=listed,
        authors=words.AUTHORS,
        is_changeable=_is_changeable(instance),
    )
