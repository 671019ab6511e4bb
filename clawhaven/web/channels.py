"""Messaging networks of an assistant: connect or replace a bot, claim it, take it away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.billing.plans import check_channel
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import AppError, Conflict, IllegalMove, Invalid, NotFound, Unavailable
from clawhaven.instances import connections
from clawhaven.instances.models import Connection, Instance, InstanceEvent
from clawhaven.instances.states import State
from clawhaven.ports.channel import Channel
from clawhaven.web import deps
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.render import page
from clawhaven.workflows import checkout, lifecycle, listening, reach
from clawhaven.workflows.reach import Reach

router = APIRouter(prefix="/instances/{instance_id}/channels")

LISTENED = timedelta(hours=24)
TESTS_A_MINUTE = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """A network, what is connected on it, and the owner's link while nobody has claimed the bot."""

    channel: Channel
    connection: Connection | None
    claim_url: str | None
    is_deaf: bool
    """True when nobody listens for the owner's link any more."""


@router.get("")
def show_channels(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """Every network, connected or not."""
    return _page(request, ctx, owner, instance_id)


@router.post("/{name}")
def connect(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId, name: RowId) -> Response:
    """Ask the network who the credentials are, then keep them sealed; the gateway follows."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        _refuse_gone(instance)
    now = ctx.clock.now()
    try:
        check_channel(ctx.plans.get(instance.plan), name)
        credentials, bot = checkout.probe_channel(ctx, name, form.values)
        with ctx.db.tx() as db:
            instance = owned(db, Instance, instance_id, owner.account.id)
            _refuse_gone(instance)
            made = connections.connect(db, instance_id, name, credentials, bot, ctx.keys, now)
            audit.record(db, now, deps.actor(owner), "channel.connect", made.id, instance.account_id, channel=name)
            if instance.state in (State.ACTIVE, State.SUSPENDED):
                lifecycle.ask_configure(db, ctx, instance_id, deps.actor(owner), [name])
                listening.listen(db, ctx, instance_id)
    except (Invalid, Conflict, Unavailable) as error:
        if isinstance(error, IllegalMove) or name not in ctx.channels:
            raise
        return _page(request, ctx, owner, instance_id, error)
    return RedirectResponse(f"/instances/{instance_id}/channels?done=connected", 303)


@router.post("/{name}/listen")
def listen(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, name: RowId) -> Response:
    """Wait for the owner's link once more."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        _connected(db, instance_id, name)
        listening.listen(db, ctx, instance_id)
    return RedirectResponse(f"/instances/{instance_id}/channels?done=listening", 303)


@router.post("/{name}/test")
def try_it(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, name: RowId) -> Response:
    """Ask the network and the gateway whether a message would be answered."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, owner.account.id)
    deps.limit(ctx, f"channel-test:{instance_id}", TESTS_A_MINUTE)
    found = reach.try_channel(ctx, instance_id, owner.account.id, name)
    return _page(request, ctx, owner, instance_id, tried={name: found})


@router.post("/{name}/disconnect")
def disconnect(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, name: RowId) -> Response:
    """Forget the bot; it may serve elsewhere from then on."""
    with ctx.db.tx() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        found = _connected(db, instance_id, name)
        audit.record(
            db, ctx.clock.now(), deps.actor(owner), "channel.disconnect", found.id, instance.account_id, channel=name
        )
        connections.disconnect(db, instance_id, name)
        db.flush()
        if instance.state in (State.ACTIVE, State.SUSPENDED):
            lifecycle.ask_configure(db, ctx, instance_id, deps.actor(owner), [name])
    return RedirectResponse(f"/instances/{instance_id}/channels?done=disconnected", 303)


def _page(
    request: Request,
    ctx: Context,
    owner: Owner,
    instance_id: str,
    error: AppError | None = None,
    tried: Mapping[str, Reach] | None = None,
) -> Response:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        known = {one.channel: one for one in connections.list_connections(db, instance_id)}
        entries = [_entry(db, ctx, channel, known.get(name)) for name, channel in ctx.channels.items()]
    inputs = {field.name for channel in ctx.channels.values() for field in channel.fields}
    field = str(error.details.get("field")) if error else ""
    errors = {field if field in inputs else "form": error.message} if error else {}
    return page(
        request,
        "instance_channels.html",
        error.status if error else 200,
        tab="channels",
        instance=instance,
        entries=entries,
        tried=tried or {},
        errors=errors,
        is_changeable=instance.state != State.DELETED and instance.deletion_asked_at is None,
    )


def _entry(db: Session, ctx: Context, channel: Channel, connection: Connection | None) -> Entry:
    if connection is None:
        return Entry(channel, None, None, False)
    url = connections.claim_url(connection, ctx.keys)
    trouble = db.scalar(
        select(func.max(InstanceEvent.at)).where(
            InstanceEvent.instance_id == connection.instance_id, InstanceEvent.kind == "channel_problem"
        )
    )
    is_deaf = ctx.clock.now() - connection.created_at > LISTENED or (
        trouble is not None and trouble > connection.created_at
    )
    return Entry(channel, connection, url, url is not None and is_deaf)


def _connected(db: Session, instance_id: str, name: str) -> Connection:
    for connection in connections.list_connections(db, instance_id):
        if connection.channel == name:
            return connection
    raise NotFound("This channel is not connected.")


def _refuse_gone(instance: Instance) -> None:
    if instance.state == State.DELETED or instance.deletion_asked_at is not None:
        raise IllegalMove("The assistant is being deleted.", state=instance.state)
