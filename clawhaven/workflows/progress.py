"""Showing a step to the customer while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clawhaven.context import Context
from clawhaven.core.languages import N_
from clawhaven.instances import operations

SENTENCES = {
    "docker_down": N_("The container engine did not answer."),
    "disk_full": N_("The server's disk is full."),
    "npm_unreachable": N_("The assistant's software could not be downloaded."),
    "port_taken": N_("No free port was found for the assistant."),
    "not_ready": N_("The assistant did not become ready in time."),
    "gateway_exited": N_("The assistant stopped while it was starting."),
    "out_of_memory": N_("The assistant ran out of memory while starting."),
    "config_invalid": N_("The assistant's settings were refused."),
    "channel_not_ready": N_("The messaging channel could not be connected."),
    "at_capacity": N_("There is no free place on this server."),
    "not_placed": N_("The assistant has no place to run in yet."),
    "suspended": N_("Something else keeps the assistant paused."),
    "too_large": N_("The assistant keeps more than can be backed up."),
    "held_too_long": N_("The assistant keeps more than can be copied while it stands still."),
    "backup_broken": N_("This backup is damaged and cannot be used."),
    "no_file": N_("This backup is not where it was put."),
    "bad_archive": N_("This backup is damaged and cannot be used."),
    "no_safety": N_("No copy of how it is now could be kept, so nothing was changed."),
    "put_back": N_("It did not start with that, so it was put back to what it was before."),
    "cancelled": N_("Cancelled, because the assistant is being deleted."),
}
"""What a customer reads for each code; the operator finds the details in the log and the operation."""


def sentence(code: str) -> str:
    """What a customer reads for a code; the details are the operator's, in the log and the audit."""
    return SENTENCES.get(code, N_("Something broke on our side."))


@contextmanager
def shown(ctx: Context, operation_id: str, name: str) -> Iterator[None]:
    """The step is `running` inside and `done` after; it stays `running` when the body raises (the undo marks it)."""
    with ctx.db.tx() as db:
        operations.begin_step(db, operation_id, name, ctx.clock.now())
    yield
    with ctx.db.tx() as db:
        operations.end_step(db, operation_id, name, ctx.clock.now())


def finish(ctx: Context, operation_id: str, code: str | None = None) -> None:
    """Close the operation: done, or failed for this reason; a step that was running is marked failed then."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if code:
            for step in operations.steps(db, operation_id):
                if step.state == "running":
                    operations.end_step(db, operation_id, step.name, now, "failed")
        operations.close(db, operation_id, now, code, sentence(code) if code else None)
