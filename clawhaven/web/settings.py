"""A person's own settings: address, where they are signed in, API keys, everything of theirs, and the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from clawhaven.accounts import addresses, apikeys, devices, farewells, sessions
from clawhaven.accounts.models import ApiKey, LoginSession
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import audit, idempotency
from clawhaven.core.errors import AppError, Conflict, Invalid, Unauthorized
from clawhaven.core.idempotency import Answer
from clawhaven.core.ids import new_id
from clawhaven.web import deps
from clawhaven.web.dashboard import list_instances
from clawhaven.web.deps import Anyone, Ctx, OwnForm, RowId, SignedIn, Visitor
from clawhaven.web.render import page
from clawhaven.workflows import addresses as moves
from clawhaven.workflows import deletion, export, keys

router = APIRouter(prefix="/settings")

Token = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{20,100}$")]
EXPORTS_PER_HOUR = 10
MAX_KEY_NAME = 100


@dataclass(frozen=True, slots=True)
class Browser:
    """One browser that is signed in. `device`: `Firefox on Linux`, or empty."""

    row: LoginSession
    device: str
    is_this: bool


@router.get("")
def show_profile(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Address, look and language."""
    return _profile(request, ctx, owner)


@router.post("/email")
def ask_for_address(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm) -> Response:
    """Mail the link that proves a new address."""
    try:
        with ctx.db.tx() as db:
            moves.ask_change(db, ctx, owner, form.get("email"))
    except AppError as error:
        return _profile(request, ctx, owner, error, form.get("email")[:320])
    return RedirectResponse("/settings?done=email-asked", 303)


@router.post("/email/take-back")
def take_address_back(ctx: Ctx, owner: SignedIn, _form: OwnForm) -> Response:
    """The present address stays."""
    with ctx.db.tx() as db:
        addresses.take_back(db, owner, ctx.clock.now())
    return RedirectResponse("/settings?done=email-kept", 303)


@router.get("/email/{token}")
def show_address_link(request: Request, _visitor: Anyone, token: Token) -> Response:
    """A button: programs that read mail open links, but press nothing."""
    return page(request, "settings_email.html", token=token, error="")


@router.post("/email/{token}")
def use_address_link(request: Request, ctx: Ctx, visitor: Anyone, _form: OwnForm, token: Token) -> Response:
    """From now on the account has the new address. Whoever opens the link need not be signed in."""
    deps.limit(ctx, f"email-link:{deps.client_address(request)}", ctx.settings.sign_in_per_minute * 4)
    try:
        with ctx.db.tx() as db:
            moves.prove(db, ctx, token)
    except (Unauthorized, Conflict) as error:
        return page(request, "settings_email.html", error.status, token="", error=error.message)
    return RedirectResponse("/settings?done=email-changed" if visitor.owner else "/sign-in", 303)


@router.get("/sessions")
def show_sessions(request: Request, ctx: Ctx, owner: SignedIn, visitor: Anyone) -> Response:
    """Where the account is signed in, this browser first."""
    with ctx.db.read() as db:
        found = sessions.list_sessions(db, owner.user.id, ctx.clock.now())
    browsers = [_browser(one, visitor) for one in found]
    browsers.sort(key=lambda one: (not one.is_this, -(one.row.seen_at or one.row.created_at).timestamp()))
    return page(request, "settings_sessions.html", tab="/settings/sessions", browsers=browsers)


@router.post("/sessions/end-others")
def end_others(ctx: Ctx, owner: SignedIn, visitor: Anyone, _form: OwnForm) -> Response:
    """Sign out everywhere but here."""
    with ctx.db.tx() as db:
        ended = sessions.close_all(db, owner.user.id, but=visitor.session)
        now, who = ctx.clock.now(), deps.actor(owner)
        audit.record(db, now, who, "session.end_others", owner.user.id, owner.account.id, ended=ended)
    return RedirectResponse("/settings/sessions?done=others-ended", 303)


@router.post("/sessions/{session_id}/end")
def end_session(ctx: Ctx, owner: SignedIn, _form: OwnForm, session_id: RowId) -> Response:
    """Sign one browser out."""
    with ctx.db.tx() as db:
        sessions.end_session(db, owner.user.id, session_id)
        audit.record(db, ctx.clock.now(), deps.actor(owner), "session.end", session_id, owner.account.id)
    return RedirectResponse("/settings/sessions?done=session-ended", 303)


@router.get("/keys")
def show_keys(request: Request, ctx: Ctx, owner: SignedIn, visitor: Anyone) -> Response:
    """The account's API keys."""
    return _keys(request, ctx, owner, visitor)


@router.post("/keys")
def make_key(request: Request, ctx: Ctx, owner: SignedIn, visitor: Anyone, form: OwnForm) -> Response:
    """A new key, shown on the answer and never again; the same form sent twice makes one."""
    name, chosen = form.get("name").strip(), form.get("may")
    repeat = f"form:{form.get('key')[:100] or new_id('frm')}"
    try:
        with ctx.db.tx() as db:
            now = ctx.clock.now()
            if idempotency.begin(db, owner.account.id, repeat, idempotency.fingerprint(name, chosen), now):
                raise Conflict("This key was made already, and it is shown only once. Revoke it if it was lost.")
            key, secret = apikeys.issue(
                db, owner, _checked_name(name), _scopes(chosen, visitor), now, is_operator=visitor.is_operator
            )
            audit.record(db, now, deps.actor(owner), "key.issue", key.id, owner.account.id)
            idempotency.finish(db, owner.account.id, repeat, Answer(201, {"id": key.id}))
    except AppError as error:
        return _keys(request, ctx, owner, visitor, error, {"name": name[:MAX_KEY_NAME], "may": chosen})
    return _keys(request, ctx, owner, visitor, made=key, secret=secret)


@router.post("/keys/{key_id}/revoke")
def revoke_key(ctx: Ctx, owner: SignedIn, _form: OwnForm, key_id: RowId) -> Response:
    """End a key at once, with the keys that it made."""
    with ctx.db.tx() as db:
        keys.revoke_api_key(db, ctx, owner.account.id, key_id, deps.actor(owner))
    return RedirectResponse("/settings/keys?done=key-revoked", 303)


@router.get("/data")
def show_data(request: Request, ctx: Ctx, owner: SignedIn, visitor: Anyone) -> Response:
    """Take everything along, or delete it."""
    return _data(request, ctx, owner, visitor)


@router.get("/export")
def export_everything(ctx: Ctx, owner: SignedIn) -> Response:
    """Everything of the account as one JSON file."""
    deps.limit(ctx, f"export:{owner.account.id}", EXPORTS_PER_HOUR, 3600)
    with ctx.db.tx() as db:
        audit.record(db, ctx.clock.now(), deps.actor(owner), "account.export", owner.account.id, owner.account.id)
    name = f"{owner.account.slug}-{ctx.clock.now():%Y-%m-%d}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(export.export(ctx, owner), media_type="application/json", headers=headers)


@router.post("/delete")
def delete_account(request: Request, ctx: Ctx, owner: SignedIn, visitor: Anyone, form: OwnForm) -> Response:
    """Close the account, with its address typed, or mail the link that confirms it."""
    try:
        with ctx.db.tx() as db:
            is_closed = deletion.ask(db, ctx, owner, form.get("confirm"), deps.actor(owner), _opened_at(visitor))
    except AppError as error:
        return _data(request, ctx, owner, visitor, error)
    return _closed(ctx) if is_closed else RedirectResponse("/settings/data?done=deletion-mailed#delete", 303)


@router.post("/delete/take-back")
def keep_account(ctx: Ctx, owner: SignedIn, _form: OwnForm) -> Response:
    """The mailed link is worth nothing any more."""
    with ctx.db.tx() as db:
        deletion.take_back(db, ctx, owner, deps.actor(owner))
    return RedirectResponse("/settings/data?done=account-kept", 303)


@router.get("/delete/{token}")
def show_deletion_link(request: Request, _visitor: Anyone, token: Token) -> Response:
    """A button: programs that read mail open links, but press nothing."""
    return page(request, "settings_delete.html", token=token, error="")


@router.post("/delete/{token}")
def use_deletion_link(request: Request, ctx: Ctx, visitor: Anyone, _form: OwnForm, token: Token) -> Response:
    """The account is closed. Whoever opens the link need not be signed in."""
    deps.limit(ctx, f"deletion-link:{deps.client_address(request)}", ctx.settings.sign_in_per_minute * 4)
    try:
        with ctx.db.tx() as db:
            gone = deletion.confirm(db, ctx, token)
    except (Unauthorized, Conflict) as error:
        return page(request, "settings_delete.html", error.status, token="", error=error.message)
    if visitor.owner is None or visitor.owner.user.id == gone.user.id:
        return _closed(ctx)
    return RedirectResponse("/?done=account-deleted", 303)


def _closed(ctx: Context) -> Response:
    response = RedirectResponse("/?done=account-deleted", 303)
    deps.drop_session(ctx, response)
    return response


def _opened_at(visitor: Visitor) -> datetime | None:
    return visitor.entry.session.created_at if visitor.entry is not None and visitor.view is None else None


def _profile(request: Request, ctx: Context, owner: Owner, error: AppError | None = None, typed: str = "") -> Response:
    with ctx.db.read() as db:
        waiting = addresses.pending(db, owner.user.id, ctx.clock.now())
    errors = {"email" if isinstance(error, Invalid) else "form": error.message} if error else {}
    status = error.status if error else 200
    return page(request, "settings.html", status, tab="/settings", waiting=waiting, errors=errors, typed=typed)


def _keys(
    request: Request,
    ctx: Context,
    owner: Owner,
    visitor: Visitor,
    error: AppError | None = None,
    typed: dict[str, str] | None = None,
    made: ApiKey | None = None,
    secret: str = "",
) -> Response:
    with ctx.db.read() as db:
        found = apikeys.list_keys(db, owner.account.id)
    field = str(error.details.get("field")) if error else ""
    field = {"scopes": "may", "name": "name"}.get(field, "form")
    return page(
        request,
        "settings_keys.html",
        error.status if error else 200,
        tab="/settings/keys",
        keys=found,
        made=made,
        secret=secret,
        errors={field: error.message} if error else {},
        typed=typed or {},
        key=new_id("frm"),
        can_administer=visitor.is_operator,
    )


def _data(request: Request, ctx: Context, owner: Owner, visitor: Visitor, error: AppError | None = None) -> Response:
    now = ctx.clock.now()
    with ctx.db.read() as db:
        is_waiting = farewells.is_waiting(db, owner.user.id, now)
        assistants = list_instances(db, owner.account.id)
        left = deletion.left_micros(db, owner.account.id)
    field = "confirm" if isinstance(error, Invalid) else "form"
    return page(
        request,
        "settings_data.html",
        error.status if error else 200,
        tab="/settings/data",
        assistants=assistants,
        left_micros=left,
        is_waiting=is_waiting,
        is_proved=farewells.is_proof(owner, _opened_at(visitor), now),
        errors={field: error.message} if error else {},
    )


def _browser(row: LoginSession, visitor: Visitor) -> Browser:
    is_this = visitor.entry is not None and visitor.entry.session.id == row.id and visitor.view is None
    return Browser(row, devices.name_device(row.user_agent), is_this)


def _checked_name(name: str) -> str:
    if not name or len(name) > MAX_KEY_NAME or not name.isprintable():
        raise Invalid(f"A name has 1 to {MAX_KEY_NAME} characters.", field="name", reason="wrong length")
    return name


def _scopes(chosen: str, visitor: Visitor) -> list[str]:
    known = {"read": ["read"], "write": ["read", "write"], "keys": ["read", "write", apikeys.KEYS]}
    if visitor.is_operator:
        known |= {"admin-read": ["read", apikeys.ADMIN], "admin": ["read", "write", apikeys.ADMIN]}
    if chosen not in known:
        raise Invalid("Choose what the key may do.", field="scopes", reason="unknown")
    return known[chosen]
