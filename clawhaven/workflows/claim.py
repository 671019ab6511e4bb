"""The owner's one-time link: whoever opens it first, signed with our token, becomes the bot's only partner.

Before that the gateway does not know the bot at all, so a stranger is not served and costs nothing.
"""

from __future__ import annotations

import contextlib
import time
from typing import cast

from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import RateLimited
from clawhaven.core.languages import N_
from clawhaven.core.logs import get_logger
from clawhaven.instances import connections, states
from clawhaven.instances.connections import CLAIM_PURPOSE
from clawhaven.instances.models import Connection, Instance
from clawhaven.ports.channel import ClaimableChannel
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import engine, lifecycle
from clawhaven.workflows.engine import StepFailed, step, workflow

log = get_logger("clawhaven.claim")

ROUND_SECONDS = 240.0
ROUNDS = 360
"""360 rounds of 4 minutes: a day. After that the owner asks again on the assistant's page."""

POLL_SECONDS = 8
CLAIMED = N_("The bot knows its owner now and answers nobody else.")


@workflow("claim")
def claim(instance_id: str, connection_id: str) -> str:
    """Poll until the link is opened, then let the gateway serve that person."""
    for _ in range(ROUNDS):
        try:
            outcome = poll_for_owner(connection_id)
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
            is_claimed = connection.claim_token is None
            state = db.get_one(Instance, connection.instance_id).state
            token = "" if is_claimed else ctx.keys.open(str(connection.claim_token), CLAIM_PURPOSE)
            credentials = connections.credentials_of(connection, ctx.keys)
        if state in (states.State.DELETED, states.State.FAILED):
            return "gone"
        if is_claimed:
            _switch_on(ctx, connection)
            return "claimed"
        channel = cast(ClaimableChannel, ctx.channels[connection.channel])
        found = channel.claim_owner(credentials, token, offset, POLL_SECONDS)
        offset = found.next_offset
        if found.user_id is not None:
            if _record(ctx, connection, found.user_id, found.username):
                # Before the gateway reads this bot too: the network has one reader at a time.
                with contextlib.suppress(ProviderError):
                    channel.confirm_claim(credentials, found.next_offset, found.user_id)
            _switch_on(ctx, connection)
            return "claimed"
    return "waiting"


@step("note_problem")
def note_problem(instance_id: str, message: str) -> None:
    """Tell the owner on the assistant's page."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        states.note(db, instance_id, ctx.clock.now(), "channel_problem", message)


def _record(ctx: Context, connection: Connection, owner_id: str, username: str | None) -> bool:
    """Write the owner down; True the first time for this person.

    The person is told only afterwards: what a crash can cost is the confirmation, never the claim.
    """
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if not connections.claim(db, connection.id, owner_id, username, now):
            return False
        instance = db.get_one(Instance, connection.instance_id)
        states.note(db, instance.id, now, "claimed", CLAIMED)
        audit.record(db, now, "workflow:claim", "channel.claim", connection.id, instance.account_id)
    return True


def _switch_on(ctx: Context, connection: Connection) -> None:
    """Let the gateway serve the owner; asking again is harmless, and what waits already will do it too."""
    with contextlib.suppress(RateLimited), ctx.db.tx() as db:
        lifecycle.ask_configure(db, ctx, connection.instance_id, "workflow:claim", [connection.channel])
