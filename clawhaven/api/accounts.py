"""Sign-up, sign-in, sessions and API keys."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from clawhaven.accounts import apikeys, sessions, signup
from clawhaven.accounts.models import ApiKey
from clawhaven.api.bodies import EmailBody, KeyBody, SignUpBody, TokenBody
from clawhaven.api.deps import (
    Ctx,
    Signed,
    client_address,
    limit,
    refuse_foreign_origin,
    refuse_without_keys,
    session_token,
    spoken,
)
from clawhaven.api.deps import is_operator as operating
from clawhaven.api.instances import begun_json
from clawhaven.api.repeats import Keep, RepeatKey, fingerprint, once_within
from clawhaven.billing import waitlist
from clawhaven.context import Context
from clawhaven.core import audit, idempotency
from clawhaven.core.errors import Conflict, Forbidden
from clawhaven.core.idempotency import Answer
from clawhaven.workflows import checkout, keys, sign_in

router = APIRouter(tags=["accounts"])


def set_cookie(response: Response, ctx: Context, token: str) -> None:
    """The session cookie: httpOnly, SameSite=Lax; behind https Secure and of this host alone."""
    response.set_cookie(
        sessions.cookie_name(ctx.settings.base_url),
        token,
        max_age=ctx.settings.session_days * 86_400,
        httponly=True,
        samesite="lax",
        secure=ctx.settings.base_url.startswith("https://"),
        path="/",
    )


@router.post("/signup", status_code=201)
def sign_up(
    body: SignUpBody, request: Request, response: Response, ctx: Ctx, repeat_key: RepeatKey = None
) -> dict[str, Any]:
    """A new customer with a first assistant. Answers with the payment page's address and signs in; a repeat
    with the same Idempotency-Key answers the same and does not sign in. Letters are written in the best language of
    Accept-Language."""
    refuse_foreign_origin(request, ctx)
    limit(ctx, request, "sign-up", ctx.settings.sign_up_per_minute)

    def make(keep: Keep) -> dict[str, Any]:
        agent = request.headers.get("user-agent", "")
        with spoken(request):
            begun = checkout.sign_up(
                ctx, body.email, body.form(), agent, keep=lambda db, begun: keep(db, begun_json(ctx, begun))
            )
        if begun.session is not None:
            set_cookie(response, ctx, begun.session)
        return begun_json(ctx, begun)

    scope = f"address:{client_address(request, ctx)}"
    return once_within(ctx, request, response, scope, repeat_key, body, make)


@router.post("/waitlist", status_code=201)
def join_waitlist(body: EmailBody, request: Request, ctx: Ctx) -> dict[str, Any]:
    """Queue for a place; answers with the position. The invitation is written in the best language of
    Accept-Language."""
    limit(ctx, request, "sign-up", ctx.settings.sign_up_per_minute)
    email = signup.normalise_email(body.email)
    with spoken(request), ctx.db.tx() as db:
        return {"email": email, "position": waitlist.join(db, email, ctx.clock.now())}


@router.post("/auth/link", status_code=202)
def ask_for_link(body: EmailBody, request: Request, ctx: Ctx) -> dict[str, Any]:
    """Mail a sign-in link. The answer is the same whether or not there is such an account."""
    limit(ctx, request, "sign-in", ctx.settings.sign_in_per_minute)
    email = signup.normalise_email(body.email)
    with spoken(request), ctx.db.tx() as db:
        sign_in.mail_link(db, ctx, email)
    return {"message": "If there is an account with this email, a sign-in link is on its way."}


@router.post("/auth/link/redeem")
def redeem_link(body: TokenBody, request: Request, response: Response, ctx: Ctx) -> dict[str, Any]:
    """Use a sign-in link's token up: sets the session cookie. The first one ends every session and key before it,
    and disconnects bots that were connected from another browser."""
    refuse_foreign_origin(request, ctx)
    limit(ctx, request, "sign-in", ctx.settings.sign_in_per_minute)
    agent, old = request.headers.get("user-agent", ""), session_token(request, ctx)
    with ctx.db.tx() as db:
        token = sign_in.use_link(db, ctx, body.token, user_agent=agent, replaces=old)
    set_cookie(response, ctx, token)
    return {"message": "Signed in."}


@router.post("/auth/sign-out", status_code=204)
def sign_out(request: Request, response: Response, ctx: Ctx) -> None:
    """End this browser's session."""
    refuse_foreign_origin(request, ctx)
    token = session_token(request, ctx)
    if token:
        with ctx.db.tx() as db:
            sessions.close_session(db, token)
    # Without Secure a browser would not touch a cookie whose name begins with __Host-.
    is_secure = ctx.settings.base_url.startswith("https://")
    name = sessions.cookie_name(ctx.settings.base_url)
    response.delete_cookie(name, path="/", secure=is_secure, httponly=True, samesite="lax")


@router.get("/auth/keys")
def list_keys(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """API keys in force; their secrets are never shown again."""
    with ctx.db.read() as db:
        return {"items": [_key(key) for key in apikeys.list_keys(db, who.account_id)]}


@router.post("/auth/keys", status_code=201)
def make_key(body: KeyBody, request: Request, who: Signed, ctx: Ctx, repeat_key: RepeatKey = None) -> dict[str, Any]:
    """A new API key; `key` is shown this once. Needs an address that a mailed link has proved; an API key needs the
    scope `keys`, and what it made ends with it. A repeat with the same Idempotency-Key makes no second one and is
    answered 409 `already_used`."""
    refuse_without_keys(who)
    is_operator = operating(who, ctx)
    grantable = {*apikeys.SCOPES, apikeys.ADMIN} if is_operator else {*apikeys.SCOPES}
    beyond = sorted(set(body.scopes) & grantable - who.scopes)
    if beyond:
        raise Forbidden("An API key cannot make one that may do more than itself.", scope=beyond[0])
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if repeat_key is not None:
            known = idempotency.begin(db, who.account_id, repeat_key, fingerprint(request, body), now)
            if known is not None:
                raise Conflict(
                    "The API key of this request was made before and shown that once. Revoke it if it was lost.",
                    code="already_used",
                    key_id=known.body["id"],
                )
        key, secret = apikeys.issue(
            db, who.owner, body.name, body.scopes, now, is_operator=is_operator, made_by=who.key_id
        )
        audit.record(db, now, who.actor, "key.issue", key.id, who.account_id)
        if repeat_key is not None:
            idempotency.finish(db, who.account_id, repeat_key, Answer(201, {"id": key.id}))
        return {**_key(key), "key": secret}


@router.delete("/auth/keys/{key_id}", status_code=204)
def revoke_key(key_id: str, who: Signed, ctx: Ctx) -> None:
    """End an API key at once, with the keys that it made. An API key may always end itself; others with the scope
    `keys`."""
    if who.key_id != key_id:
        refuse_without_keys(who)
    with ctx.db.tx() as db:
        keys.revoke_api_key(db, ctx, who.account_id, key_id, who.actor)


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes.split(),
        "created_at": key.created_at.isoformat(),
        "last_used_at": key.last_used_at.isoformat() if key.last_used_at else None,
    }
