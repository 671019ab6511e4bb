"""Who is asking: the session cookie, forms that can only come from our own pages, addresses and their limits."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request, Response
from fastapi.datastructures import FormData
from starlette.formparsers import MultiPartException

from clawhaven.accounts import directory, operators, sessions
from clawhaven.accounts.models import AccountView
from clawhaven.accounts.sessions import Entry
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import ratelimit
from clawhaven.core.errors import Forbidden, Invalid, NotFound, Unauthorized
from clawhaven.core.ids import new_token
from clawhaven.core.secrets import SealBroken, same
from clawhaven.web import viewing
from clawhaven.web.guards import origin_of

FORM_COOKIE = "clawhaven_form"
FORM_PURPOSE = "web.form"
FORM_SECONDS = 86_400
DRAWINGS = 60
"""Texts that are drawn as Markdown or compared for one account in a minute: each keeps a processor busy."""

STALE = "This page was open for a long time or in another sign-in. Nothing was changed; please send it once more."


class Visitor:
    """Whoever asked for a page, signed in or not, and the token that makes their forms genuine."""

    def __init__(self, ctx: Context, entry: Entry | None, session: str, form_cookie: str) -> None:
        self._ctx = ctx
        self.entry = entry
        self.owner = entry.owner if entry else None
        self.session = session
        self.view: AccountView | None = None
        """Set while an operator looks at the pages of the account that `owner` then is."""
        self._form_cookie = form_cookie
        self.fresh_form_cookie: str | None = None

    @property
    def csrf(self) -> str:
        """The hidden field of this visitor's forms; a visitor without a session gets a cookie to match it."""
        if self.owner is not None:
            return _token_of(self.session)
        if not self._is_form_cookie_ours():
            self._form_cookie = self.fresh_form_cookie = self._ctx.keys.seal(new_token(), FORM_PURPOSE)
        return _token_of(self._form_cookie)

    def look_at(self, owner: Owner, view: AccountView) -> None:
        """From now on this request sees the pages of the account that is looked at."""
        self.owner, self.view = owner, view

    @property
    def is_operator(self) -> bool:
        """True for somebody who runs the platform."""
        return self.owner is not None and operators.is_operator(self.owner.user, self._ctx.settings.operators)

    def has_sent(self, token: str) -> bool:
        """True when a form with this token came from one of our pages."""
        if self.owner is None and not self._is_form_cookie_ours():
            return False
        return same(self.csrf, token)

    def _is_form_cookie_ours(self) -> bool:
        try:
            self._ctx.keys.open(self._form_cookie, FORM_PURPOSE)
        except SealBroken:
            return False
        return True


def _token_of(secret: str) -> str:
    return hmac.new(secret.encode(), b"clawhaven form", "sha256").hexdigest()


def context(request: Request) -> Context:
    """The Context this app was made with."""
    ctx: Context = request.app.state.ctx
    return ctx


def visit(request: Request) -> Visitor:
    """Look the session cookie up. The visitor stays on the request, for the page's header and for error pages.

    Raises Conflict when an operator who looks at a customer's pages asks for more than looking.
    """
    ctx, now = context(request), context(request).clock.now()
    session = request.cookies.get(sessions.cookie_name(ctx.settings.base_url), "")
    entry, viewed = None, None
    if session:
        with ctx.db.read() as db:
            entry = sessions.look_up(db, session, now)
            if entry is not None and entry.view is not None and not viewing.is_own(request.url.path):
                viewed = directory.get(db, entry.view.account_id)
    visitor = Visitor(ctx, entry, session, request.cookies.get(own_cookie(ctx, FORM_COOKIE), ""))
    request.state.visitor = visitor
    if entry is not None and entry.is_worn(now):
        with ctx.db.tx() as db:
            sessions.touch(db, entry.session.id, now)
    if entry is not None and entry.view is not None and viewed is not None and visitor.is_operator:
        visitor.look_at(viewed, entry.view)
        viewing.refuse_beyond(request.method, request.url.path)
    return visitor


def may_still_look(request: Request) -> bool:
    """True while the session that asked is in force and, for an operator, the look at the account it shows.

    For answers that go on after `visit`: streams.
    """
    ctx, visitor = context(request), request.state.visitor
    with ctx.db.read() as db:
        entry = sessions.look_up(db, visitor.session, ctx.clock.now())
    if entry is None or visitor.view is None:
        return entry is not None
    return entry.view is not None and entry.view.id == visitor.view.id


def require_owner(visitor: Annotated[Visitor, Depends(visit)]) -> Owner:
    """The signed-in owner. Raises Unauthorized, which leads a person to the sign-in page."""
    if visitor.owner is None:
        raise Unauthorized("Please sign in to go on.")
    return visitor.owner


def require_operator(visitor: Annotated[Visitor, Depends(visit)]) -> Owner:
    """Somebody who runs the platform. Raises Unauthorized for nobody, NotFound for everybody else."""
    owner = require_owner(visitor)
    if not visitor.is_operator:
        raise NotFound("This address leads nowhere. It may have been mistyped, or the page is gone.")
    return owner


@dataclass(frozen=True, slots=True)
class Submission:
    """A posted form. `is_genuine`: it carries the visitor's own token."""

    values: Mapping[str, str]
    is_genuine: bool

    def get(self, name: str, default: str = "") -> str:
        """A field's value."""
        return self.values.get(name, default)


async def read_form(request: Request) -> dict[str, str]:
    """The posted fields, files left out. Raises Invalid for a body that is no form and for a NUL character, which
    PostgreSQL keeps in no text; TooLarge for a long one."""
    try:
        form: FormData = await request.form(max_files=0, max_fields=100)
    except MultiPartException as error:
        raise Invalid("This form could not be read.", reason=error.message) from None
    values = {name: value for name, value in form.items() if isinstance(value, str)}
    for name, value in values.items():
        if "\0" in value:
            raise Invalid("This form has an invisible character that no text may have.", field=name[:100], reason="NUL")
    return values


async def submission(request: Request, visitor: Annotated[Visitor, Depends(visit)]) -> Submission:
    """The form as it came. Raises Forbidden when another site's page sent it."""
    refuse_other_sites(request)
    values = await read_form(request)
    return Submission(values, visitor.has_sent(values.get("csrf", "")))


def genuine(form: Annotated[Submission, Depends(submission)]) -> Submission:
    """The form, if it is from one of our pages. Raises Forbidden otherwise."""
    if not form.is_genuine:
        raise Forbidden(STALE, code="stale_form")
    return form


def refuse_other_sites(request: Request) -> None:
    """Raises Forbidden for a request that another origin's page caused, an assistant's own host name included.

    A page with `Referrer-Policy: no-referrer` posts with `Origin: null`, so Fetch Metadata is asked first.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        origin = request.headers.get("origin", "null")
        own = {origin_of(context(request).settings.base_url), f"{request.url.scheme}://{request.headers.get('host')}"}
        is_ours = origin == "null" or origin in own
    if not is_ours:
        raise Forbidden("This form was sent from another site.", code="foreign_form")


def client_address(request: Request) -> str:
    """The asking machine: the direct peer, or what our own reverse proxies (TRUSTED_PROXY_COUNT) saw. IPv6: its /64."""
    peer = request.client.host if request.client else "unknown"
    lines = request.headers.getlist("x-forwarded-for")
    return ratelimit.client_key(peer, lines, context(request).settings.trusted_proxy_count)


def limit(ctx: Context, key: str, uses: int, seconds: int = 60) -> None:
    """Count one use of `key`. Raises RateLimited beyond `uses` in a window of `seconds`."""
    with ctx.db.tx() as db:
        ratelimit.hit(db, key, uses, seconds, ctx.clock.now())


def limit_drawing(ctx: Context, owner: Owner) -> None:
    """Count one text that is drawn or compared for an account. Raises RateLimited beyond DRAWINGS in a minute."""
    limit(ctx, f"drawing:{owner.account.id}", DRAWINGS)


def keep_session(ctx: Context, response: Response, session: str) -> None:
    """Give the browser its session cookie."""
    response.set_cookie(
        sessions.cookie_name(ctx.settings.base_url),
        session,
        max_age=ctx.settings.session_days * 86_400,
        httponly=True,
        samesite="lax",
        secure=is_secure(ctx),
    )


def drop_session(ctx: Context, response: Response) -> None:
    """Take the session cookie back."""
    name = sessions.cookie_name(ctx.settings.base_url)
    response.delete_cookie(name, httponly=True, samesite="lax", secure=is_secure(ctx))


def own_cookie(ctx: Context, name: str) -> str:
    """The name of a cookie of ours at this address; behind https no other host can set one of that name."""
    return f"__Host-{name}" if is_secure(ctx) else name


def is_secure(ctx: Context) -> bool:
    """True where cookies travel over https only."""
    return ctx.settings.base_url.startswith("https://")


def is_local(path: str) -> bool:
    """True for a path of this site that is safe to send a browser to; `//host` and `/\\host` are other sites."""
    return path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() and len(path) <= 300


def actor(owner: Owner) -> str:
    """The owner's name in the audit log."""
    return f"user:{owner.user.id}"


Ctx = Annotated[Context, Depends(context)]
Anyone = Annotated[Visitor, Depends(visit)]
SignedIn = Annotated[Owner, Depends(require_owner)]
Operator = Annotated[Owner, Depends(require_operator)]
AnyForm = Annotated[Submission, Depends(submission)]
OwnForm = Annotated[Submission, Depends(genuine)]
RowId = Annotated[str, Path(pattern=r"^[a-z0-9_]{1,40}$")]
