"""One assistant: its state, what can be done with it, its history and its configuration."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, dunning, subscriptions
from clawhaven.context import Context
from clawhaven.core.errors import Invalid
from clawhaven.instances import connections, drafts, health, workspace
from clawhaven.instances.models import Instance, InstanceEvent
from clawhaven.instances.states import Reason, State
from clawhaven.metering import ownkeys
from clawhaven.metering.models import PlanMode
from clawhaven.web import deps, progress, streams, words
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.render import page
from clawhaven.web.signup import check_draft_fields
from clawhaven.workflows import lifecycle, model, wake

router = APIRouter(prefix="/instances/{instance_id}")

ACTIONS: dict[str, frozenset[State]] = {
    "start": frozenset({State.SUSPENDED, State.FAILED}),
    "restart": frozenset({State.ACTIVE}),
    "stop": frozenset({State.ACTIVE}),
}
"""The buttons that make sense in each state; the lifecycle itself decides what is possible."""

FIELDS = ("assistant_name", "custom_instructions", "persona")


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
    return streams.respond(streams.watch(request, look))


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


@router.post("/delete")
def delete(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """Delete for good, once the person has typed the assistant's name."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
    if " ".join(form.get("confirm").split()) != instance.name:
        problem = f"Type the name exactly as it is: {instance.name}"
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


@router.get("/configuration")
def show_configuration(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """Name, persona and instructions, to be changed."""
    return configuration_page(request, ctx, owner, instance_id)


@router.post("/configuration")
def save_configuration(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """Check, save, and have the gateway follow."""
    values = {name: form.get(name) for name in (*FIELDS, "model")}
    personas = workspace.list_personas(ctx.settings.templates_dir)
    errors = check_draft_fields(values, personas)
    try:
        if not errors:
            changed = _save(ctx, owner, instance_id, values, personas)
    except Invalid as error:
        field = str(error.details.get("field"))
        errors = {field if field in values else "form": error.message}
    if errors:
        return configuration_page(request, ctx, owner, instance_id, values, errors, 400)
    return RedirectResponse(f"/instances/{instance_id}/configuration?done={'saved' if changed else 'unchanged'}", 303)


def _save(ctx: Context, owner: Owner, instance_id: str, values: dict[str, str], personas: list[str]) -> list[str]:
    """What was changed, with the gateway on its way to follow. Raises Invalid; then nothing is."""
    with ctx.db.tx() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        draft = drafts.check_draft(values["assistant_name"], values["persona"], values["custom_instructions"], personas)
        now_has = {"name": draft.name, "persona": draft.persona, "instructions": draft.instructions}
        changed = sorted(name for name, value in now_has.items() if getattr(instance, name) != value)
        for name in changed:
            setattr(instance, name, now_has[name])
        if values["model"] and model.choose(db, ctx, instance, values["model"]):
            changed.append("model")
        db.flush()
        if changed:
            lifecycle.ask_configure(db, ctx, instance_id, deps.actor(owner), changed)
    return changed


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
    is_leaving = instance.deletion_asked_at is not None
    is_payable = instance.state == State.PENDING and checkout is not None and checkout.state == "open"
    return page(
        request,
        "instance_overview.html",
        status,
        tab="overview",
        instance=instance,
        view=view,
        seen=seen if instance.state == State.ACTIVE else None,
        subscription=subscription,
        trouble=trouble,
        plan=ctx.plans.get(instance.plan),
        channels=channels,
        checkout_id=checkout.id if checkout is not None and is_payable else None,
        actions=[] if is_leaving else [name for name, states in ACTIONS.items() if instance.state in states],
        is_deletable=instance.state != State.DELETED and not is_leaving,
        confirm_error=confirm_error,
        events=f"/instances/{instance_id}/events",
    )


def _act(ctx: Context, owner: Owner, instance_id: str, done: str, ask: Callable[[Session, str], object]) -> Response:
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        ask(db, deps.actor(owner))
    return RedirectResponse(f"/instances/{instance_id}?done={done}", 303)


def configuration_page(
    request: Request,
    ctx: Context,
    owner: Owner,
    instance_id: str,
    values: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    """The configuration as it is, or as it was sent with what is wrong with it; and the model key, never its text."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        own_key = ownkeys.find(db, instance_id)
        offered = model.list_offers(db, ctx, instance)
    plan = ctx.plans.get(instance.plan)
    kept = {
        "model": instance.model,
        "assistant_name": instance.name,
        "persona": instance.persona,
        "custom_instructions": instance.instructions,
    }
    return page(
        request,
        "instance_configuration.html",
        status,
        tab="configuration",
        instance=instance,
        values=values or kept,
        errors=errors or {},
        personas=[(name, *words.persona(name)) for name in workspace.list_personas(ctx.settings.templates_dir)],
        max_instructions=drafts.MAX_INSTRUCTIONS,
        max_name=drafts.MAX_NAME,
        takes_key=plan.access == PlanMode.OWN_KEY,
        plan=plan,
        models=offered,
        own_key=own_key,
        vendors=ctx.upstreams,
    )
