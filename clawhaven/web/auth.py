"""Signing in by mailed link, and out again. Whether an address has an account is never told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts import sessions, signup
from clawhaven.context import Context
from clawhaven.core.errors import Invalid, Unauthorized
from clawhaven.web import deps, languages
from clawhaven.web.deps import Anyone, Ctx, OwnForm
from clawhaven.web.render import page
from clawhaven.workflows import sign_in

router = APIRouter()

NEXT_COOKIE = "clawhaven_next"

Token = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{20,100}$")]


@router.get("/sign-in")
def show_sign_in(request: Request, visitor: Anyone, next: str = "") -> Response:
    """Where to leave the address the link goes to."""
    if visitor.owner is not None:
        return RedirectResponse(next if deps.is_local(next) else "/dashboard", 303)
    return page(request, "sign_in.html", next_path=next if deps.is_local(next) else "", email="", error="")


@router.post("/sign-in")
def send_link(request: Request, ctx: Ctx, form: OwnForm) -> Response:
    """Mail a link to a known address; the answer is the same for every other one."""
    deps.limit(ctx, f"sign-in:{deps.client_address(request)}", ctx.settings.sign_in_per_minute)
    given, next_path = form.get("email").strip()[:320], form.get("next")
    try:
        email = signup.normalise_email(given)
    except Invalid as error:
        return page(request, "sign_in.html", 400, next_path=next_path, email=given, error=error.message)
    with ctx.db.tx() as db:
        sign_in.mail_link(db, ctx, email)
    response = page(request, "sign_in_sent.html", email=email)
    if deps.is_local(next_path):
        response.set_cookie(
            deps.own_cookie(ctx, NEXT_COOKIE),
            next_path,
            max_age=900,
            httponly=True,
            samesite="lax",
            secure=deps.is_secure(ctx),
        )
    return response


@router.get("/sign-in/{token}")
def show_link(request: Request, _visitor: Anyone, token: Token) -> Response:
    """A button: programs that read mail open links, but press nothing, so the link is still good for its person."""
    return page(request, "sign_in_link.html", token=token)


@router.post("/sign-in/{token}")
def use_link(request: Request, ctx: Ctx, visitor: Anyone, _form: OwnForm, token: Token) -> Response:
    """Use the link up and open a session."""
    deps.limit(ctx, f"sign-in-link:{deps.client_address(request)}", ctx.settings.sign_in_per_minute * 4)
    agent = request.headers.get("user-agent", "")
    try:
        with ctx.db.tx() as db:
            session = sign_in.use_link(db, ctx, token, user_agent=agent, replaces=visitor.session)
            found = sessions.find_session(db, session, ctx.clock.now())
            if found is not None:
                signup.remember_language(db, found.user.id, languages.current())
    except Unauthorized as error:
        return page(request, "sign_in.html", error.status, next_path="", email="", error=error.message)
    if found is not None and found.user.review_asked_at is not None:
        response: Response = RedirectResponse("/prepared", 303)
    else:
        response = go_on(request, ctx)
    deps.keep_session(ctx, response, session)
    return response


def go_on(request: Request, ctx: Context) -> Response:
    """Where somebody wanted to go before they were asked to sign in, else the dashboard."""
    next_cookie = deps.own_cookie(ctx, NEXT_COOKIE)
    wanted = request.cookies.get(next_cookie, "")
    response = RedirectResponse(wanted if deps.is_local(wanted) else "/dashboard", 303)
    response.delete_cookie(next_cookie, httponly=True, samesite="lax", secure=deps.is_secure(ctx))
    return response


@router.post("/sign-out")
def sign_out(ctx: Ctx, visitor: Anyone, _form: OwnForm) -> Response:
    """End this browser's session; other browsers stay signed in."""
    with ctx.db.tx() as db:
        sessions.close_session(db, visitor.session)
    response = RedirectResponse("/?done=signed-out", 303)
    deps.drop_session(ctx, response)
    return response
