"""Where a person is signed in, and ending it from afar."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from clawhaven.accounts import devices, sessions
from clawhaven.api.deps import Ctx, Signed, refuse_without_keys, session_token
from clawhaven.core import audit

router = APIRouter(prefix="/auth/sessions", tags=["accounts"])


@router.get("")
def list_sessions(request: Request, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Browsers that are signed in, newest first; `is_current` marks the asking one."""
    token = session_token(request, ctx)
    with ctx.db.read() as db:
        found = sessions.list_sessions(db, who.owner.user.id, ctx.clock.now())
    return {
        "items": [
            {
                "id": one.id,
                "device": devices.name_device(one.user_agent) or None,
                "user_agent": one.user_agent,
                "is_current": sessions.is_of(one, token),
                "created_at": one.created_at.isoformat(),
                "last_used_at": (one.seen_at or one.created_at).isoformat(),
                "expires_at": one.expires_at.isoformat(),
            }
            for one in found
        ],
        "next_cursor": None,
    }


@router.delete("/{session_id}", status_code=204)
def end_session(session_id: str, who: Signed, ctx: Ctx) -> None:
    """Sign one browser out at once. An API key needs the scope `keys`."""
    refuse_without_keys(who)
    with ctx.db.tx() as db:
        sessions.end_session(db, who.owner.user.id, session_id)
        audit.record(db, ctx.clock.now(), who.actor, "session.end", session_id, who.account_id)


@router.delete("")
def end_others(request: Request, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Sign out everywhere but in the asking browser; says how many sessions ended. An API key needs the scope
    `keys`."""
    refuse_without_keys(who)
    with ctx.db.tx() as db:
        ended = sessions.close_all(db, who.owner.user.id, but=session_token(request, ctx))
        audit.record(
            db, ctx.clock.now(), who.actor, "session.end_others", who.owner.user.id, who.account_id, ended=ended
        )
    return {"ended": ended}
