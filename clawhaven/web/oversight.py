"""The operator's watch: fleet, durable work, the audit log, what is missing, alerts, and a customer's own view."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven import wiring
from clawhaven.accounts import directory, views
from clawhaven.core import audit
from clawhaven.core.errors import Invalid, NotFound
from clawhaven.notices import alerts
from clawhaven.web import deps
from clawhaven.web.deps import Anyone, Ctx, Operator, OwnForm, RowId
from clawhaven.web.render import page
from clawhaven.workflows import fleet, inspection, runs

router = APIRouter(prefix="/admin", dependencies=[Depends(deps.require_operator)])

Word = Annotated[str, Query(max_length=320)]


@router.get("/fleet")
def show_fleet(request: Request, ctx: Ctx, state: Word = "", search: Word = "", cursor: str | None = None) -> Response:
    """Every assistant, or those in one state."""
    with ctx.db.read() as db:
        found = fleet.list_fleet(db, state, search, cursor)
        counts = fleet.count_states(db)
    return page(request, "admin_fleet.html", found=found, counts=counts, state=state, search=search)


@router.get("/workflows")
def show_workflows(request: Request, ctx: Ctx, state: Word = "failed", cursor: str | None = None) -> Response:
    """Durable work in one state; what has failed first."""
    found = runs.list_runs(ctx, state, cursor)
    with ctx.db.read() as db:
        counts = runs.count_states(db)
    return page(request, "admin_workflows.html", found=found, counts=counts, state=state)


@router.post("/workflows/retry")
def retry(ctx: Ctx, who: Operator, form: OwnForm) -> Response:
    """Try a failed one again."""
    runs.retry(ctx, form.get("id")[:200], deps.actor(who))
    return RedirectResponse("/admin/workflows?done=run-again", 303)


@router.get("/audit")
def show_audit(
    request: Request,
    ctx: Ctx,
    who: Word = "",
    action: Word = "",
    account: Word = "",
    since: Word = "",
    until: Word = "",
    cursor: str | None = None,
) -> Response:
    """Who did what, and when; the newest first."""
    errors: dict[str, str] = {}
    typed = {"who": who, "action": action, "account": account, "since": since, "until": until}
    with ctx.db.read() as db:
        which, asked = audit.Filter(), "who"
        try:
            actor = directory.actor_of(db, who)
            asked = "account"
            which = audit.Filter(
                actor=actor,
                action=action.strip(),
                account_id=directory.find(db, account).account.id if account.strip() else "",
                since=_day(since, "since"),
                until=_day(until, "until", after=1),
            )
        except (Invalid, NotFound) as error:
            named = str(error.details.get("field", ""))
            errors = {named if named in typed else asked: error.message}
        found = audit.list_entries(db, which, cursor) if not errors else audit.Page([], None)
        people = directory.names_of_actors(db, {one.actor for one in found.entries})
    return page(
        request, "admin_audit.html", 400 if errors else 200, found=found, people=people, typed=typed, errors=errors
    )


@router.get("/check")
def show_check(request: Request, ctx: Ctx) -> Response:
    """What `clawhaven doctor` says. Asks the runtimes."""
    return page(request, "admin_check.html", problems=wiring.check(ctx.settings), checks=inspection.inspect(ctx))


@router.get("/alerts")
def show_alerts(request: Request, ctx: Ctx, closed: bool = False, cursor: str | None = None) -> Response:
    """What the operator was told of and is not done with; or what is."""
    with ctx.db.read() as db:
        found = alerts.list_alerts(db, is_open=not closed, cursor=cursor)
    return page(request, "admin_alerts.html", found=found, is_closed=closed)


@router.post("/alerts/{notice_id}/close")
def close_alert(ctx: Ctx, who: Operator, _form: OwnForm, notice_id: RowId) -> Response:
    """Nothing is left to do about it."""
    with ctx.db.tx() as db:
        alerts.close(db, notice_id, ctx.clock.now(), deps.actor(who))
    return RedirectResponse("/admin/alerts?done=alert-closed", 303)


@router.post("/accounts/{account_id}/view")
def begin_view(ctx: Ctx, who: Operator, visitor: Anyone, _form: OwnForm, account_id: RowId) -> Response:
    """See what this customer sees, for half an hour; nothing can be changed meanwhile."""
    with ctx.db.tx() as db:
        views.begin(db, who, visitor.session, account_id, ctx.clock.now())
    return RedirectResponse("/dashboard", 303)


@router.post("/view/end")
def end_view(ctx: Ctx, visitor: Anyone, _form: OwnForm) -> Response:
    """Back to one's own pages."""
    entry = visitor.entry
    back = "/admin"
    if entry is not None:
        with ctx.db.tx() as db:
            views.end(db, entry.session.id, ctx.clock.now())
        back = f"/admin/accounts/{entry.view.account_id}" if entry.view is not None else back
    return RedirectResponse(f"{back}?done=view-ended", 303)


def _day(text: str, field: str, after: int = 0) -> datetime | None:
    if not text.strip():
        return None
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=after)
    except (ValueError, OverflowError):
        raise Invalid("A day is written as in 2026-11-21.", field=field, reason="not a day") from None
