"""Who is asking: session cookie or API key, the client's address, and the limits that go with them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from clawhaven.accounts import apikeys, operators, sessions
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import ratelimit
from clawhaven.core.errors import Forbidden, NotFound, Unauthorized
from clawhaven.core.languages import negotiate, speaking

COOKIE = sessions.COOKIE
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in caller. `actor` is what the audit log shows; `scopes` are a key's, or all in a browser; `session_at`
    is when the browser's session was opened, None for a key."""

    owner: Owner
    actor: str
    scopes: frozenset[str] = frozenset((*apikeys.SCOPES, apikeys.ADMIN))
    session_at: datetime | None = None

    @property
    def account_id(self) -> str:
        """The account whose things this caller may touch."""
        return self.owner.account.id

    @property
    def key_id(self) -> str | None:
        """The API key that asks; None in a browser."""
        kind, _, found = self.actor.partition(":")
        return found if kind == "key" else None


async def context(request: Request) -> Context:
    """The Context of this installation. Asynchronous, so that it costs no turn of a thread at every request."""
    ctx: Context = request.app.state.ctx
    return ctx


Ctx = Annotated[Context, Depends(context)]


def client_address(request: Request, ctx: Context) -> str:
    """The peer's address, or the one that our own reverse proxies report, as limits count it."""
    peer = request.client.host if request.client else "unknown"
    lines = request.headers.getlist("x-forwarded-for")
    return ratelimit.client_key(peer, lines, ctx.settings.trusted_proxy_count)


def session_token(request: Request, ctx: Context) -> str:
    """What the session cookie holds; empty without one."""
    return request.cookies.get(sessions.cookie_name(ctx.settings.base_url), "")


def spoken(request: Request) -> AbstractContextManager[None]:
    """Inside, letters are written in the best of our languages for the request's Accept-Language."""
    return speaking(negotiate(request.headers.get("accept-language", "")))


def limit(ctx: Context, request: Request, what: str, per_minute: int, who: str | None = None) -> None:
    """Raises RateLimited beyond `per_minute` uses of `what` by this address, or by `who`."""
    subject = who or client_address(request, ctx)
    with ctx.db.tx() as db:
        ratelimit.hit(db, f"{what}:{subject}", per_minute, 60, ctx.clock.now())


def caller(request: Request, ctx: Ctx) -> Caller:
    """Session cookie or `Authorization: Bearer chk_…`. Raises Unauthorized, Forbidden, RateLimited."""
    authorization = request.headers.get("authorization", "")
    found = _by_key(ctx, request, authorization) if authorization else _by_cookie(ctx, request)
    limit(ctx, request, "api", ctx.settings.api_per_minute, found.actor)
    return found


Signed = Annotated[Caller, Depends(caller)]


def refuse_keys(request: Request) -> None:
    """For what moves an account: whoever holds an API key must not come to own it. Raises Forbidden."""
    if "authorization" in request.headers:
        raise Forbidden(
            "This is done in the browser only: sign in and open the settings. An API key cannot do it.",
            code="browser_only",
        )


def refuse_without_keys(who: Caller) -> None:
    """For what lets others in or shuts them out. Raises Forbidden for an API key without the scope `keys`."""
    if apikeys.KEYS not in who.scopes:
        raise Forbidden(
            f"This API key has no {apikeys.KEYS} scope: it can neither make keys nor end others' access."
            " Do it in the browser, or with a key that was given this scope there or by `clawhaven auth login --keys`.",
            scope=apikeys.KEYS,
        )


def operator(who: Signed, ctx: Ctx) -> Caller:
    """A caller who runs the platform. Raises NotFound for everybody else: a stranger does not learn what is here;
    Forbidden for an operator's API key without the scope `admin`."""
    if not is_operator(who, ctx):
        raise NotFound("Not Found.")
    if apikeys.ADMIN not in who.scopes:
        raise Forbidden(f"This API key has no {apikeys.ADMIN} scope.", scope=apikeys.ADMIN)
    return who


def is_operator(who: Caller, ctx: Context) -> bool:
    """True when the caller runs the platform, whatever this API key of theirs may do."""
    return operators.is_operator(who.owner.user, ctx.settings.operators)


Operating = Annotated[Caller, Depends(operator)]


def _by_key(ctx: Context, request: Request, authorization: str) -> Caller:
    scheme, _, secret = authorization.partition(" ")
    with ctx.db.read() as db:
        found = apikeys.find_key(db, secret.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        limit(ctx, request, "api-anonymous", ctx.settings.api_per_minute)
        raise Unauthorized("This API key is not valid. Make one in the settings or with `clawhaven auth login`.")
    owner, key = found
    scopes = frozenset(key.scopes.split())
    needed = "read" if request.method in SAFE_METHODS else "write"
    if needed not in scopes:
        raise Forbidden(f"This API key has no {needed} scope.", scope=needed)
    now = ctx.clock.now()
    if sessions.is_due(key.last_used_at, now):
        with ctx.db.tx() as db:
            apikeys.touch(db, key.id, now)
    return Caller(owner, f"key:{key.id}", scopes)


def _by_cookie(ctx: Context, request: Request) -> Caller:
    token, now = session_token(request, ctx), ctx.clock.now()
    with ctx.db.read() as db:
        entry = sessions.look_up(db, token, now) if token else None
    if entry is None:
        limit(ctx, request, "api-anonymous", ctx.settings.api_per_minute)
        raise Unauthorized("Sign in first, or send an API key as `Authorization: Bearer …`.")
    if request.method not in SAFE_METHODS:
        refuse_foreign_origin(request, ctx)
    if entry.is_worn(now):
        with ctx.db.tx() as db:
            sessions.touch(db, entry.session.id, now)
    return Caller(entry.owner, f"user:{entry.owner.user.id}", session_at=entry.session.created_at)


def refuse_foreign_origin(request: Request, ctx: Context) -> None:
    """A browser says which page sent the request; only ours may. Programs send no Origin. Raises Forbidden."""
    origin = request.headers.get("origin")
    if origin is None:
        if request.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
        raise Forbidden("This request came from another site.")
    ours = {_origin(ctx.settings.base_url), f"{request.url.scheme}://{request.headers.get('host', '')}"}
    if origin not in ours:
        raise Forbidden("This request came from another site.", origin=origin)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
