"""The operator's watch: fleet, durable work, the audit log, what is missing, alerts. Everybody else sees 404."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from clawhaven import wiring
from clawhaven.accounts import directory
from clawhaven.api.billing import as_utc
from clawhaven.api.deps import Ctx, Operating
from clawhaven.core import audit
from clawhaven.instances import states
from clawhaven.notices import alerts
from clawhaven.notices.models import Notice
from clawhaven.workflows import fleet, inspection, runs
from clawhaven.workflows.fleet import Ship
from clawhaven.workflows.runs import Run

router = APIRouter(prefix="/admin", tags=["admin"])

Many = Annotated[int, Query(ge=1, le=200)]
Word = Annotated[str, Query(max_length=320)]


@router.get("/instances")
def list_fleet(
    who: Operating, ctx: Ctx, state: Word = "", search: Word = "", cursor: str | None = None, limit: Many = 50
) -> dict[str, Any]:
    """Every assistant, newest first. `state`: a state, or `trouble`; default: all but deleted ones. `search`: a part of
    its name or its owner's address, or its id."""
    with ctx.db.read() as db:
        found = fleet.list_fleet(db, state, search, cursor, limit)
        counts = fleet.count_states(db)
    return {"counts": counts, "items": [_ship(one) for one in found.ships], "next_cursor": found.next_cursor}


@router.get("/workflows")
def list_workflows(
    who: Operating, ctx: Ctx, state: Word = "failed", cursor: str | None = None, limit: Many = 50
) -> dict[str, Any]:
    """Durable work that is `waiting`, `running`, `failed` or `done`, newest first; `reason` says why it failed."""
    found = runs.list_runs(ctx, state, cursor, limit)
    with ctx.db.read() as db:
        counts = runs.count_states(db)
    return {"counts": counts, "items": [_run(one) for one in found.runs], "next_cursor": found.next_cursor}


@router.post("/workflows/{run_id}/retry", status_code=202)
def retry(run_id: str, who: Operating, ctx: Ctx) -> dict[str, Any]:
    """Try a failed workflow again from the step that failed."""
    runs.retry(ctx, run_id, who.actor)
    return {"id": run_id, "message": "It is tried again."}


@router.get("/audit")
def list_audit(
    operator: Operating,
    ctx: Ctx,
    who: Word = "",
    action: Word = "",
    account: Word = "",
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
    limit: Many = 50,
) -> dict[str, Any]:
    """Who did what, newest first. `who`: an address or the beginning of an actor (`workflow:`); `action`: its beginning
    (`instance.`); `account`: an id or an address."""
    with ctx.db.read() as db:
        which = audit.Filter(
            actor=directory.actor_of(db, who),
            action=action.strip(),
            account_id=directory.find(db, account).account.id if account.strip() else "",
            since=as_utc(since, "since") if since else None,
            until=as_utc(until, "until") if until else None,
        )
        found = audit.list_entries(db, which, cursor, limit)
        people = directory.names_of_actors(db, {one.actor for one in found.entries})
    return {
        "items": [
            {
                "id": one.id,
                "at": one.at.isoformat(),
                "actor": one.actor,
                "email": people.get(one.actor),
                "action": one.action,
                "subject": one.subject,
                "account_id": one.account_id,
                "details": one.details,
            }
            for one in found.entries
        ],
        "next_cursor": found.next_cursor,
    }


@router.get("/check")
def check(who: Operating, ctx: Ctx) -> dict[str, Any]:
    """What `clawhaven doctor` says on the server: `problems` of the settings, and everything that was looked at."""
    problems = wiring.check(ctx.settings)
    checks = inspection.inspect(ctx)
    return {
        "is_ok": not problems and all(one.is_ok for one in checks),
        "problems": problems,
        "items": [{"what": one.what, "state": one.state, "advice": one.advice} for one in checks],
    }


@router.get("/alerts")
def list_alerts(
    who: Operating, ctx: Ctx, closed: bool = False, cursor: str | None = None, limit: Many = 50
) -> dict[str, Any]:
    """What the operator was told of and is not done with; `closed=true`: what is."""
    with ctx.db.read() as db:
        found = alerts.list_alerts(db, is_open=not closed, cursor=cursor, limit=limit)
    return {"items": [_alert(one) for one in found.alerts], "next_cursor": found.next_cursor}


@router.post("/alerts/{alert_id}/close")
def close_alert(alert_id: str, who: Operating, ctx: Ctx) -> dict[str, Any]:
    """Nothing is left to do about it; once more is success."""
    with ctx.db.tx() as db:
        alerts.close(db, alert_id, ctx.clock.now(), who.actor)
    return {"id": alert_id, "is_open": False}


def _ship(one: Ship) -> dict[str, Any]:
    it, seen = one.instance, one.seen
    return {
        "id": it.id,
        "name": it.name,
        "account_id": it.account_id,
        "email": one.email,
        "plan": it.plan,
        "state": it.state,
        "suspended_for": [str(reason) for reason in states.reasons(it)],
        "failure": it.failure_message,
        "is_being_deleted": it.deletion_asked_at is not None and it.deleted_at is None,
        "runtime": it.runtime,
        "host": one.host,
        "port": one.port,
        "seen": seen
        and {
            "at": seen.at.isoformat(),
            "status": seen.status,
            "is_healthy": seen.is_healthy,
            "detail": seen.detail,
            "unhealthy_since": seen.unhealthy_since.isoformat() if seen.unhealthy_since else None,
            "restarts": seen.restarts,
        },
        "created_at": it.created_at.isoformat(),
    }


def _run(one: Run) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "state": one.state,
        "about": one.subject or None,
        "step": one.step or None,
        "reason": one.reason or None,
        "attempts": one.attempts,
        "queue": one.queue or None,
        "began_at": one.began_at.isoformat(),
        "changed_at": one.changed_at.isoformat(),
    }


def _alert(one: Notice) -> dict[str, Any]:
    return {
        "id": one.id,
        "subject": one.subject,
        "state": one.state,
        "error": one.last_error,
        "at": one.created_at.isoformat(),
        "closed_at": one.closed_at.isoformat() if one.closed_at else None,
    }
