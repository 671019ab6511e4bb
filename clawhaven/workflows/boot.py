"""Booting gateways: few at a time, watched until they are really ready."""

from __future__ import annotations

import time
from typing import Any

from clawhaven.context import Context
from clawhaven.core.errors import AppError
from clawhaven.core.logs import get_logger, redact
from clawhaven.instances import placement as places
from clawhaven.instances import releases
from clawhaven.instances.models import Instance
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import GatewayAddress
from clawhaven.ports.runtime import Placement
from clawhaven.workflows import access, engine, files

log = get_logger("clawhaven.boot")

RETRIABLE_EXIT = 78
"""Both "config wrong" and "starved at start-up": a plain start is tried once more before it counts as an error."""

LOOK_SECONDS = 1.0
"""How often a booting gateway's row and its runtime are looked at: a crash or a wish to delete can wait so long."""

SILENT_POLL_SECONDS = 0.3
"""How often one is asked that does not answer at all yet. It answers a second or two before it has started."""

POLL_SECONDS = 0.1
"""How often one is asked that answers. The machine's cores belong to its boot, so it is the cheapest question."""

SLOT_POLL_SECONDS = 1.0


def wait_for_slot(ctx: Context, instance_id: str) -> None:
    """Wait until this instance may boot. Raises AppError when its owner asked for deletion meanwhile."""
    while True:
        with ctx.db.tx() as db:
            if places.take_boot_slot(
                db, ctx.host, instance_id, ctx.settings.max_parallel_boots, ctx.clock.now(), engine.BOOT_LIFE
            ):
                return
        refuse_unwanted(ctx, instance_id)
        if engine.is_stopping():
            raise engine.Interrupted
        engine.pause(SLOT_POLL_SECONDS)


def release_slot(ctx: Context, instance_id: str) -> None:
    """Let the next one boot."""
    with ctx.db.tx() as db:
        places.release_boot_slot(db, instance_id)


def start(ctx: Context, instance: Instance, placement: Placement) -> None:
    """Start a gateway whose files are those of now. Where its key was replaced, what still runs with the one before is
    stopped first, and that key ends."""
    runtime = ctx.runtime(instance.runtime)
    with ctx.db.read() as db:
        is_replaced = access.is_key_replaced(db, instance.id)
    if is_replaced:
        runtime.stop(placement, ctx.settings.drain_seconds)
    runtime.start(placement)
    if is_replaced:
        with ctx.db.tx() as db:
            access.end_replaced_key(db, ctx, instance.id)


def wait_ready(ctx: Context, instance_id: str) -> dict[str, Any]:
    """Wait until the gateway says started and answers an authenticated call; returns its version.

    Raises ProviderError: `gateway_exited`, `out_of_memory` or `not_ready`, with the gateway's last words.
    """
    now = time.monotonic()
    deadline, look_at = now + ctx.settings.start_timeout_seconds, now
    watch, address, problem = _Watch(ctx, instance_id), None, "no answer"
    while now < deadline:
        if engine.is_stopping():
            raise engine.Interrupted
        if now >= look_at:
            address, look_at = watch.look(), now + LOOK_SECONDS
        has_started = ctx.gateway.has_started(address) if address else None
        if has_started and address:
            health = ctx.gateway.health(address)
            if health.started and health.authenticated:
                with ctx.db.tx() as db:
                    releases.note_seen(db, instance_id, health.version, ctx.clock.now())
                return {"version": health.version}
            problem = "; ".join(health.problems.values()) or "not started yet"
        elif has_started is not None:
            problem = "not started yet"
        # One that has started and refuses our token is asked no more often than a silent one.
        engine.pause(POLL_SECONDS if has_started is False else SILENT_POLL_SECONDS)
        now = time.monotonic()
    raise ProviderError(
        f"not ready after {ctx.settings.start_timeout_seconds} s: {redact(problem)[:300]}",
        permanent=True,
        code="not_ready",
    )


class _Watch:
    """Over one booting gateway: that it is still wanted, and still there. One that stopped is started once more."""

    def __init__(self, ctx: Context, instance_id: str) -> None:
        self._ctx, self._instance_id = ctx, instance_id
        self._is_retried = False

    def look(self) -> GatewayAddress | None:
        """Where it answers or will answer; None right after another start. Raises ProviderError, AppError."""
        ctx = self._ctx
        refuse_unwanted(ctx, self._instance_id)
        instance, _ = files.load(ctx, self._instance_id)
        runtime, placed = ctx.runtime(instance.runtime), instance.placement
        if placed is None:
            raise ProviderError("the assistant has no place", permanent=True, code="not_placed")
        seen = runtime.observe(placed)
        if seen.oom_killed:
            raise ProviderError("the gateway ran out of memory", permanent=True, code="out_of_memory")
        if seen.status == "running":
            return files.address_at(ctx, instance, seen.address) if seen.address else None
        if self._is_retried or seen.exit_code not in (None, RETRIABLE_EXIT):
            raise ProviderError(
                f"the gateway stopped while starting (exit {seen.exit_code}): {_last_words(ctx, instance)}",
                permanent=True,
                code="gateway_exited",
            )
        self._is_retried = True
        log.warning("the gateway stopped while starting; starting it once more", instance=self._instance_id)
        runtime.start(placed)
        return None


def wait_channels(ctx: Context, instance_id: str, timeout_seconds: float = 60) -> dict[str, str]:
    """Wait until every claimed channel says `ready`; returns their words. Raises ProviderError(channel_not_ready)."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        instance, channels = files.load(ctx, instance_id)
        wanted = [channel.channel for channel in channels if channel.owner_external_id]
        if not wanted:
            return {}
        address = files.address(ctx, instance)
        health = ctx.gateway.health(address) if address else None
        words = {name: (health.channels.get(name, "absent") if health else "absent") for name in wanted}
        if all(word == "ready" for word in words.values()):
            return words
        if time.monotonic() > deadline:
            told = "; ".join(health.problems.values()) if health else "the gateway does not answer"
            raise ProviderError(f"{words}: {redact(told)[:300]}", permanent=True, code="channel_not_ready")
        if engine.is_stopping():
            raise engine.Interrupted
        engine.pause(1.0)


def refuse_unwanted(ctx: Context, instance_id: str) -> None:
    """Raises AppError(cancelled) once the owner has asked for deletion."""
    with ctx.db.read() as db:
        if db.get_one(Instance, instance_id).deletion_asked_at is not None:
            raise AppError("Cancelled: the assistant is being deleted.", code="cancelled")


def paused_meanwhile() -> ProviderError:
    """What a step says that may not go on, or cannot be judged, with an assistant that was paused."""
    return ProviderError("it was paused meanwhile", permanent=True, code="suspended")


def _last_words(ctx: Context, instance: Instance) -> str:
    if instance.placement is None:
        return ""
    try:
        lines = ctx.runtime(instance.runtime).logs(instance.placement, 8)
    except ProviderError:
        return "(no log)"
    return redact(" | ".join(line.strip() for line in lines if line.strip()))[-400:]
