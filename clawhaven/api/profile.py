"""One's own account: a new address, everything to take along, and the end."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from clawhaven.accounts import addresses, farewells
from clawhaven.api.bodies import Body, EmailBody, Line, TokenBody
from clawhaven.api.deps import Ctx, Signed, limit, refuse_foreign_origin, refuse_keys
from clawhaven.core import audit, ratelimit
from clawhaven.workflows import addresses as moves
from clawhaven.workflows import deletion, export, prepared

router = APIRouter(prefix="/auth", tags=["accounts"])

EXPORTS_PER_HOUR = 10
CLOSED = "The account is closed, and what belongs to it is being removed."
IN_BROWSER = [Depends(refuse_keys)]


class DeletionBody(Body):
    """`confirm` is the account's own address."""

    confirm: Line


@router.get("/me")
def me(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The signed-in user and account; `pending_email` is a new address that waits for its proof,
    `is_deletion_pending`: a link that confirms the end of the account does."""
    user, account = who.owner.user, who.owner.account
    with ctx.db.read() as db:
        waiting = addresses.pending(db, user.id, ctx.clock.now())
        is_ending = farewells.is_waiting(db, user.id, ctx.clock.now())
    return {
        "user": {
            "id": user.id,
            "email": user.email,
            "is_verified": user.verified_at is not None,
            "pending_email": waiting,
            "is_deletion_pending": is_ending,
        },
        "account": {"id": account.id, "slug": account.slug, "created_at": account.created_at.isoformat()},
    }


@router.post("/email", status_code=202, dependencies=IN_BROWSER)
def ask_for_address(body: EmailBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Mail the link that proves a new address. The answer is the same for one that has an account of its own. With a
    session only; an API key is answered 403 `browser_only`."""
    with ctx.db.tx() as db:
        email = moves.ask_change(db, ctx, who.owner, body.email)
    return {"message": f"Open the link that we mail to {email}; until then nothing changes.", "pending_email": email}


@router.post("/email/redeem", dependencies=IN_BROWSER)
def prove_address(body: TokenBody, request: Request, ctx: Ctx) -> dict[str, Any]:
    """Use such a link's token up: from now on the account has the new address. Refused with an API key."""
    refuse_foreign_origin(request, ctx)
    limit(ctx, request, "email-link", ctx.settings.sign_in_per_minute)
    with ctx.db.tx() as db:
        moved = moves.prove(db, ctx, body.token)
        return {"message": "The new address is in use.", "email": moved.owner.user.email}


@router.delete("/email", status_code=204)
def take_address_back(who: Signed, ctx: Ctx) -> None:
    """Forget the new address that waits for its proof."""
    with ctx.db.tx() as db:
        addresses.take_back(db, who.owner, ctx.clock.now())


@router.get("/export", response_class=StreamingResponse)
def export_everything(who: Signed, ctx: Ctx) -> Response:
    """Everything of the account as one JSON document: profile, assistants with their texts, usage by day, ledger,
    payments, invoices, letters, history. No secrets. At most ten an hour."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        ratelimit.hit(db, f"export:{who.account_id}", EXPORTS_PER_HOUR, 3600, now)
        audit.record(db, now, who.actor, "account.export", who.account_id, who.account_id)
    return StreamingResponse(export.export(ctx, who.owner), media_type="application/json")


@router.delete("/me", status_code=202)
def delete_account(body: DeletionBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Delete the account: sessions and keys end at once, plans are cancelled, assistants removed, everything that names
    its owner erased. The books stay. `left_micros`: what was left of the balance; the last letter says how to get it.

    `state` is `closed` with a session that a mailed link opened within the last 30 minutes. With an older one, or an
    API key, it is `confirmation_mailed`: nothing happens until the link in that mail is opened, within an hour.
    """
    with ctx.db.tx() as db:
        is_closed = deletion.ask(db, ctx, who.owner, body.confirm, who.actor, who.session_at)
        left = deletion.left_micros(db, who.account_id)
    mailed = f"Open the link that we mail to {who.owner.user.email}; until then nothing is deleted."
    state, said = ("closed", CLOSED) if is_closed else ("confirmation_mailed", mailed)
    return {"state": state, "message": said, "left_micros": left}


@router.post("/deletion/redeem", status_code=202)
def confirm_deletion(body: TokenBody, request: Request, ctx: Ctx) -> dict[str, Any]:
    """Use the token of such a mailed link up: the account is closed. No sign-in is needed."""
    refuse_foreign_origin(request, ctx)
    limit(ctx, request, "deletion-link", ctx.settings.sign_in_per_minute)
    with ctx.db.tx() as db:
        owner = deletion.confirm(db, ctx, body.token)
        left = deletion.left_micros(db, owner.account.id)
    return {"state": "closed", "message": CLOSED, "left_micros": left}


@router.delete("/deletion", status_code=204)
def keep_account(who: Signed, ctx: Ctx) -> None:
    """Forget the mailed link that would delete the account."""
    with ctx.db.tx() as db:
        deletion.take_back(db, ctx, who.owner, who.actor)


class PreparedBody(Body):
    """`keep`: true keeps what was made before the address was proved, false discards it."""

    keep: bool


@router.get("/prepared")
def show_prepared(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """What was made under the address before its owner proved it from another browser, and waits for their word.
    `begun`: an order that was not sent; both empty: nothing waits."""
    with ctx.db.read() as db:
        found = prepared.find(db, who.owner)
    if found is None:
        return {"begun": None, "assistants": []}
    begun = {"name": found.begun[0], "instructions": found.begun[1]} if found.begun else None
    return {"begun": begun, "assistants": [asdict(one) for one in found.assistants]}


@router.post("/prepared", status_code=204)
def decide_prepared(body: PreparedBody, who: Signed, ctx: Ctx) -> None:
    """Keep it, or discard it: what is not paid for goes, an assistant that is paid for begins anew without
    instructions."""
    if not body.keep:
        prepared.discard(ctx, who.owner, who.actor)
        return
    with ctx.db.tx() as db:
        prepared.keep(db, ctx, who.owner, who.actor)
