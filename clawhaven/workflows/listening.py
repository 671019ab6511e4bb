"""Asking for somebody to listen for the owner's one-time link; the listening itself is in claim.py."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.instances import connections
from clawhaven.workflows import engine
from clawhaven.workflows.engine import enqueue

ROUND_MINUTES = 10
"""Asking again within so many minutes is the same asking; listeners of one bot wait for each other."""


def pending_url(db: Session, ctx: Context, instance_id: str) -> str | None:
    """The link of the first channel that waits for its owner."""
    for connection in connections.list_connections(db, instance_id):
        url = connections.claim_url(connection, ctx.keys)
        if url is not None:
            return url
    return None


def listen(db: Session, ctx: Context, instance_id: str) -> None:
    """Wait for the owner of each unclaimed channel, in the caller's transaction."""
    moment = int(ctx.clock.now().timestamp()) // (ROUND_MINUTES * 60)
    for connection in connections.list_connections(db, instance_id):
        if connection.claim_token is not None:
            enqueue(
                db,
                ctx,
                "claim",
                f"claim:{connection.id}:{moment}",
                instance_id,
                connection.id,
                queue=engine.CLAIMS,
                partition=connection.id,
            )
