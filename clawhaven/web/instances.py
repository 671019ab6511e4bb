"""One assistant: its state, what can be done with it, and its history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, dunning, subscriptions
from clawhaven.context import Context
from clawhaven.instances import connections, health
from clawhaven.instances.health import Outlook
from clawhaven.instances.models import Instance, InstanceEvent
from clawhaven.instances.states import Reason, State, reasons
from clawhaven.metering.models import PlanMode
from clawhaven.metering.ownkeys import find as find_key
from clawhaven.metering.usage import empty, hour_of, usage_by
from clawhaven.web import deps, progress, streams
from clawhaven.web.dashboard import month_start
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.languages import N_, Texts, _
from clawhaven.web.render import page
from clawhaven.workflows import lifecycle, proxykey, wake

router = APIRouter(prefix="/instances/{instance_id}")

ACTIONS: dict[str, frozenset[State]] = {
    "start": frozenset({State.SUSPENDED, State.FAILED}),
    "restart": frozenset({State.ACTIVE}),
    "stop": frozenset({State.ACTIVE}),
}
"""The buttons that make sense in each state; the lifecycle itself decides what is possible."""

SILENCE = Texts(
    {
        Outlook.RESTARTED: N_("It is started again by itself; you need not do anything."),
        Outlook.GIVEN_UP: N_(
            "It was started again three times and stopped each time. We have been told; you can restart it yourself."
        ),
        Outlook.SILENT: N_(
            "It may be busy, so it is not restarted by itself; you can restart it. If it stays silent, we are told."
        ),
        Outlook.UNKNOWN: N_(
            "Where it runs cannot be reached, so we do not know how it is. If that lasts, we are told."
        ),
    }
)
"""What is done about an assistant that did not answer."""


@router.get("")
def show_overview(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """State, reasons, what is under way, and the buttons."""
    return _overview(request, ctx, owner, instance_id)


@router.get("/events")
async def stream_operation(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """What is under way, as server-sent events."""

    def look() -> dict[str, object]:
        with ctx.db.read() as db:
            return progress.of_operation(db, owned(db, Instance, instance_id, owner.account.id))

    await streams.in_thread(look)
    events = streams.watch(request, look, partial(deps.may_still_look, request))
    return streams.respond_to(owner.account.id, events)


@router.post("/start")
def start(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """Wake it, or try a failed one again."""
    return _act(ctx, owner, instance_id, "start", lambda db, who: wake.ask_start(db, ctx, instance_id, who))


@router.post("/stop")
def stop(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """Put it to sleep; nothing is lost."""
    return _act(
        ctx, owner, instance_id, "stop", lambda db, who: lifecycle.ask_suspend(db, ctx, instance_id, Reason.OWNER, who)
    )


@router.post("/restart")
def restart(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """Stop and start."""
    return _act(ctx, owner, instance_id, "restart", lambda db, who: lifecycle.ask_restart(db, ctx, instance_id, who))


@router.post("/replace-key")
def replace_key(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """Another key for the models, and a restart with it."""
    return _act(
        ctx, owner, instance_id, "key-replacing", lambda db, who: proxykey.ask_replace(db, ctx, instance_id, who)
    )


@router.post("/delete")
def delete(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """Delete for good, once the person has typed the assistant's name."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
    if " ".join(form.get("confirm").split()) != instance.name:
        problem = _("Type the name exactly as it is: %(name)s", name=instance.name)
        return _overview(request, ctx, owner, instance_id, 400, confirm_error=problem)
    return _act(ctx, owner, instance_id, "delete", lambda db, who: lifecycle.ask_delete(db, ctx, instance_id, who))


@router.get("/history")
def show_history(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """What happened to it, newest first."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        mine = select(InstanceEvent).where(InstanceEvent.instance_id == instance_id)
        events = list(db.scalars(mine.order_by(InstanceEvent.at.desc(), InstanceEvent.id).limit(200)))
    return page(request, "instance_history.html", tab="history", instance=instance, events=events)


def _overview(
    request: Request, ctx: Context, owner: Owner, instance_id: str, status: int = 200, confirm_error: str = ""
) -> Response:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        view = progress.of_operation(db, instance)
        seen = health.observed(db, instance_id)
        subscription = subscriptions.of_instance(db, instance_id)
        trouble = dunning.open_episode_of(db, subscription.id) if subscription is not None else None
        checkout = checkouts.of_instance(db, instance_id)
        channels = connections.list_connections(db, instance_id)
        plan = ctx.plans.get(instance.plan)
        lacks_key = plan.access == PlanMode.OWN_KEY and find_key(db, instance_id) is None
        until = hour_of(ctx.clock.now()) + timedelta(hours=1)
        used = usage_by(db, owner.account.id, (), month_start(ctx.clock.now()), until, instance_id=instance_id)
    is_leaving = instance.deletion_asked_at is not None
    silence = ""
    if seen is not None and not seen.is_healthy and instance.state == State.ACTIVE and not is_leaving:
        silence = SILENCE[health.outlook(seen)]
    is_payable = instance.state == State.PENDING and checkout is not None and checkout.state == "open"
    return page(
        request,
        "instance_overview.html",
        status,
        tab="overview",
        instance=instance,
        view=view,
        silence=silence,
        seen=seen,
        subscription=subscription,
        trouble=trouble,
        plan=plan,
        channels=channels,
        lacks_key=lacks_key,
        used=used[0].sum if used else empty("total"),
        now=ctx.clock.now(),
        version=instance.openclaw_version or ctx.settings.openclaw_version,
        checkout_id=checkout.id if checkout is not None and is_payable else None,
        actions=[] if is_leaving else [name for name in ACTIONS if _can(instance, name)],
        has_key=proxykey.can_replace(instance),
        is_deletable=instance.state != State.DELETED and not is_leaving,
        confirm_error=confirm_error,
        events=f"/instances/{instance_id}/events",
    )


def _can(instance: Instance, action: str) -> bool:
    """True for a button that would do something: a start does nothing against what somebody else has stopped for."""
    if instance.state not in ACTIONS[action]:
        return False
    return action != "start" or not set(reasons(instance)) - {Reason.OWNER}


def _act(ctx: Context, owner: Owner, instance_id: str, done: str, ask: Callable[[Session, str], object]) -> Response:
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        ask(db, deps.actor(owner))
    return RedirectResponse(f"/instances/{instance_id}?done={done}", 303)
