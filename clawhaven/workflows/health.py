"""The health sweep: look at every gateway that should run; start what crashed; tell the operator what stays down."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core.logs import get_logger
from clawhaven.instances import health, operations
from clawhaven.instances.models import Instance
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import engine, files, letters, lifecycle
from clawhaven.workflows.engine import enqueue, step, workflow

log = get_logger("clawhaven.health")


@workflow("health_sweep")
def health_sweep(scheduled_at: datetime, context: Any) -> None:
    """One sweep over the fleet. `context`: {"is_startup": true} for the one that a starting worker asks for."""
    sweep_gateways(bool(context and context.get("is_startup")))


def ask_at_startup(db: Session, ctx: Context, executor_id: str) -> None:
    """Look at once what is down since we stopped, instead of at the next minute."""
    now = ctx.clock.now().isoformat()
    workflow_id = f"startup:{executor_id}"
    enqueue(db, ctx, "health_sweep", workflow_id, now, {"is_startup": True}, queue=engine.SCHEDULE.format("health"))


@step("sweep_gateways", attempts=1)
def sweep_gateways(is_startup: bool) -> dict[str, int]:
    """Look, record, and ask for what is needed; one gateway's trouble never hides another's."""
    ctx = engine.context()
    with ctx.db.read() as db:
        fleet = health.due(db)
    counts = {"seen": 0, "unhealthy": 0, "restarted": 0}
    for instance in fleet:
        if engine.is_stopping():
            break
        counts["seen"] += 1
        try:
            status, is_healthy, detail = look(ctx, instance)
            counts["unhealthy"] += not is_healthy
            counts["restarted"] += _act(ctx, instance, status, is_healthy, detail, is_startup)
        except Exception:
            # Whatever one gateway answers, the others are looked at.
            log.exception("an assistant could not be looked at", instance=instance.id)
            counts["unhealthy"] += 1
    return counts


def look(ctx: Context, instance: Instance) -> tuple[str, bool, str]:
    """Runtime status, healthy or not, and why not."""
    if instance.runtime not in ctx.runtimes or instance.placement is None:
        return "unknown", False, f"the runtime {instance.runtime} is not switched on"
    try:
        seen = ctx.runtimes[instance.runtime].observe(instance.placement)
        if seen.status != "running":
            why = "ran out of memory" if seen.oom_killed else f"exit {seen.exit_code}"
            return seen.status, False, f"{seen.status} ({why})"
        answer = ctx.gateway.health(files.address_at(ctx, instance, seen.address)) if seen.address else None
    except ProviderError as error:
        return "unknown", False, error.message
    if answer is None or not answer.live:
        return "running", False, "the gateway does not answer"
    if not answer.authenticated:
        return "running", False, answer.problems.get("gateway", "the gateway refuses our token")
    return "running", True, "; ".join(f"{name}: {text}" for name, text in answer.problems.items())


def _act(ctx: Context, instance: Instance, status: str, is_healthy: bool, detail: str, is_startup: bool) -> bool:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        if operations.under_way(db, instance.id) is not None:
            return False
        verdict = health.record(
            db, instance.id, now, status=status, is_healthy=is_healthy, detail=detail, is_startup=is_startup
        )
        if verdict.should_alert:
            _alert(db, ctx, instance, detail)
        if verdict.should_restart:
            log.warning("starting a gateway that is down", instance=instance.id, detail=detail)
            lifecycle.ask_restart(db, ctx, instance.id, "workflow:health_sweep")
    return verdict.should_restart


def _alert(db: Session, ctx: Context, instance: Instance, detail: str) -> None:
    day = ctx.clock.now().date().isoformat()
    text = (
        f"The assistant {instance.id} should be running and is not: {detail}\n\n"
        "It was started again up to three times. See its log and the operation history."
    )
    letter = kinds.alert(f"Assistant down: {instance.id}", text)
    letters.post_to(db, ctx, f"down:{instance.id}:{day}", letter, ctx.settings.support_address)
