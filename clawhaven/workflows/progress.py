"""Showing a step to the customer while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clawhaven.context import Context
from clawhaven.instances import operations


@contextmanager
def shown(ctx: Context, operation_id: str, name: str) -> Iterator[None]:
    """The step is `running` inside and `done` after; it stays `running` when the body raises (the undo marks it)."""
    with ctx.db.tx() as db:
        operations.begin_step(db, operation_id, name, ctx.clock.now())
    yield
    with ctx.db.tx() as db:
        operations.end_step(db, operation_id, name, ctx.clock.now())


def finish(ctx: Context, operation_id: str, code: str | None = None, message: str | None = None) -> None:
    """Close the operation: done, or failed with this reason; a step that was running is marked failed then."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if code:
            for step in operations.steps(db, operation_id):
                if step.state == "running":
                    operations.end_step(db, operation_id, step.name, now, "failed")
        operations.close(db, operation_id, now, code, message)
