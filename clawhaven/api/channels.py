"""Channels of an instance."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.api.bodies import TelegramBody
from clawhaven.api.deps import Caller, Ctx, Signed
from clawhaven.api.instances import channel_json
from clawhaven.billing.plans import check_channel
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Invalid, NotFound
from clawhaven.instances import connections
from clawhaven.instances.models import Connection, Instance
from clawhaven.instances.states import State
from clawhaven.workflows import checkout, lifecycle, listening, reach

router = APIRouter(prefix="/instances/{instance_id}", tags=["channels"])


@router.get("/channels")
def list_channels(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """What is connected, and what can be (with the fields each needs)."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        connected = [channel_json(ctx, one, who) for one in connections.list_connections(db, instance_id)]
    available = [
        {
            "channel": name,
            "label": channel.label,
            "fields": [
                {"name": field.name, "label": field.label, "is_secret": field.is_secret, "help": field.help}
                for field in channel.fields
            ],
        }
        for name, channel in ctx.channels.items()
    ]
    return {"items": connected, "available": available}


@router.put("/channels/{channel}")
def connect(instance_id: str, channel: str, body: dict[str, str], who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Connect or replace a channel after its network has accepted the credentials."""
    return _connect(ctx, who, instance_id, channel, body)


@router.post("/telegram/connect")
def connect_telegram(instance_id: str, body: TelegramBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The same for Telegram, in one field."""
    return _connect(ctx, who, instance_id, checkout.TELEGRAM, {"telegram_bot_token": body.telegram_bot_token})


@router.post("/channels/{channel}/claim", status_code=202)
def listen_for_owner(instance_id: str, channel: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Listen again for the owner's one-time link (it listens for a day by itself)."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        found = _connection(db, instance_id, channel)
        listening.listen(db, ctx, instance_id)
        return channel_json(ctx, found, who)


@router.post("/channels/{channel}/test")
def try_it(instance_id: str, channel: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Whether a message to the bot would be answered: what its network says, and what the assistant's gateway says."""
    found = reach.try_channel(ctx, instance_id, who.account_id, channel)
    return {
        "is_good": found.is_good,
        "network": found.network,
        "gateway": found.gateway,
        "problem": found.problem or None,
    }


@router.delete("/channels/{channel}", status_code=204)
def disconnect(instance_id: str, channel: str, who: Signed, ctx: Ctx) -> None:
    """Take the channel away; its bot may serve elsewhere from then on."""
    with ctx.db.tx() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
        connections.disconnect(db, instance_id, channel)
        db.flush()
        if instance.state in (State.ACTIVE, State.SUSPENDED):
            lifecycle.ask_configure(db, ctx, instance_id, who.actor, [channel])


def _connect(ctx: Context, who: Caller, instance_id: str, channel: str, given: dict[str, str]) -> dict[str, Any]:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
    check_channel(ctx.plans.get(instance.plan), channel)
    credentials, bot = checkout.probe_channel(ctx, channel, given)
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
        if instance.state == State.DELETED:
            raise Invalid("The assistant is deleted.", field="instance_id", reason="deleted")
        connection = connections.connect(db, instance_id, channel, credentials, bot, ctx.keys, now)
        audit.record(db, now, who.actor, "channel.connect", connection.id, who.account_id, channel=channel)
        if instance.state in (State.ACTIVE, State.SUSPENDED):
            lifecycle.ask_configure(db, ctx, instance_id, who.actor, [channel])
            listening.listen(db, ctx, instance_id)
        return channel_json(ctx, connection, who)


def _connection(db: Session, instance_id: str, channel: str) -> Connection:
    for connection in connections.list_connections(db, instance_id):
        if connection.channel == channel:
            return connection
    raise NotFound("This channel is not connected.")
