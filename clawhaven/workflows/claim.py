"""The owner's one-time link: whoever opens it first, signed with our token, becomes the bot's only partner.

Before that the gateway does not know the bot at all, so a stranger is not served and costs nothing.
"""

from __future__ import annotations

import time
from typing import cast

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.logs import get_logger
from clawhaven.instances import connections, states
from clawhaven.instances.connections import CLAIM_PURPOSE
from clawhaven.instances.models import Connection, Instance
from clawhaven.ports.channel import ClaimableChannel
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import boot, engine, files
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

log = get_logger("clawhaven.claim")

ROUND_SECONDS = 240.0
ROUNDS = 360
"""360 rounds of 4 minutes: a day. After that the owner asks again on the assistant's page."""

POLL_SECONDS = 8


def pending_url(db: Session, ctx: Context, instance_id: str) -> str | None:
    """The link of the first channel that waits for its owner."""
    for connection in connections.list_connections(db, instance_id):
        url = connections.claim_url(connection, ctx.keys)
        if url is not None:
            return url
    return None


def listen(db: Session, ctx: Context, instance_id: str) -> None:
    """Wait for the owner of each unclaimed channel, in the caller's transaction."""
    for connection in connections.list_connections(db, instance_id):
        if connection.claim_token is not None:
            round_id = int(ctx.clock.now().timestamp())
            enqueue(
                db, ctx, "claim", f"claim:{connection.id}:{round_id}", instance_id, connection.id, queue=engine.CLAIMS
            )


@workflow("claim")
def claim(instance_id: str, connection_id: str) -> str:
    """Poll until the link is opened, then let the gateway serve that person."""
    for _ in range(ROUNDS):
        try:
            outcome = poll_for_owner(connection_id)
        except StepFailed as failure:
            note_problem(instance_id, failure.message)
            return failure.code
        if outcome == "claimed":
            try:
                serve_owner(instance_id, connection_id)
            except StepFailed as failure:
                note_problem(instance_id, failure.message)
                return failure.code
        if outcome != "waiting":
            return outcome
    return "expired"


@step("poll_for_owner", attempts=5, wait_seconds=5)
def poll_for_owner(connection_id: str) -> str:
    """One round of listening: `waiting`, `claimed`, or `gone` when the channel was removed meanwhile."""
    ctx = engine.context()
    offset = 0
    deadline = time.monotonic() + ROUND_SECONDS
    while time.monotonic() < deadline:
        if engine.is_stopping():
            raise engine.Interrupted
        with ctx.db.read() as db:
            connection = db.get(Connection, connection_id)
            if connection is None:
                return "gone"
            if connection.claim_token is None:
                return "claimed"
            state = db.get_one(Instance, connection.instance_id).state
            token = ctx.keys.open(connection.claim_token, CLAIM_PURPOSE)
            credentials = connections.credentials_of(connection, ctx.keys)
        if state in (states.State.DELETED, states.State.FAILED):
            return "gone"
        channel = cast(ClaimableChannel, ctx.channels[connection.channel])
        found = channel.claim_owner(credentials, token, offset, POLL_SECONDS)
        offset = found.next_offset
        if found.user_id is not None:
            _record(ctx, connection, found.user_id, found.username)
            return "claimed"
    return "waiting"


@step("serve_owner", attempts=3)
def serve_owner(instance_id: str, connection_id: str) -> None:
    """Switch the channel on for its owner and see it ready. An assistant that sleeps does it when it wakes."""
    ctx = engine.context()
    instance, _ = files.load(ctx, instance_id)
    if instance.state != states.State.ACTIVE or files.address(ctx, instance) is None:
        return
    files.apply_config(ctx, instance_id)
    try:
        boot.wait_channels(ctx, instance_id)
    except ProviderError as error:
        raise ProviderError(error.message, permanent=False, code=error.code) from error


@step("note_problem")
def note_problem(instance_id: str, message: str) -> None:
    """Tell the owner on the assistant's page."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        states.note(db, instance_id, ctx.clock.now(), "channel_problem", message)


def _record(ctx: Context, connection: Connection, owner_id: str, username: str | None) -> None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if connections.claim(db, connection.id, owner_id, username, now):
            instance = db.get_one(Instance, connection.instance_id)
            whom = f"@{username}" if username else "its owner"
            states.note(db, instance.id, now, "claimed", f"{connection.channel}: now serves {whom} and nobody else.")
            audit.record(db, now, "workflow:claim", "channel.claim", connection.id, instance.account_id)
