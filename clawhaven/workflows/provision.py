"""Paid -> a living assistant; or undone, with a reason, and nothing left behind."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from clawhaven.accounts import signup
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import AppError
from clawhaven.instances import operations, states
from clawhaven.instances import placement as places
from clawhaven.instances.drafts import PROXY_KEY_PURPOSE
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import State
from clawhaven.notices import kinds
from clawhaven.ports.runtime import Spec
from clawhaven.workflows import access, boot, dunning, engine, files, letters, listening, progress
from clawhaven.workflows.engine import StepFailed, step, workflow

PORT_TRIES = 5


def ask(db: Session, ctx: Context, instance_id: str) -> Operation:
    """Begin provisioning in the caller's transaction: state, operation and workflow exist together or not at all."""
    now = ctx.clock.now()
    if not states.begin_provisioning(db, instance_id, now):
        busy = operations.under_way(db, instance_id)
        if busy is not None:
            return busy
    operation = operations.open_operation(db, instance_id, "provision", now, done=("payment_confirmed",))
    start(db, ctx, instance_id, operation.id)
    return operation


def ask_again(db: Session, ctx: Context, instance_id: str) -> Operation:
    """A fresh operation for an assistant that is provisioning and whose last attempt was lost."""
    operation = operations.open_operation(db, instance_id, "provision", ctx.clock.now(), done=("payment_confirmed",))
    start(db, ctx, instance_id, operation.id)
    return operation


def start(db: Session, ctx: Context, instance_id: str, operation_id: str) -> None:
    """Enqueue the workflow of an operation that is open already."""
    workflow_id = f"provision:{operation_id}"
    engine.enqueue(
        db, ctx, "provision", workflow_id, instance_id, operation_id, queue=engine.INSTANCES, partition=instance_id
    )


@workflow("provision")
def provision(instance_id: str, operation_id: str) -> str:
    """The whole way. Returns `active`, or the code of the failure."""
    try:
        port = reserve_place(instance_id, operation_id)
        write_files(instance_id, operation_id, port)
        for tries in range(1, PORT_TRIES + 1):
            try:
                start_gateway(instance_id, operation_id, port)
                break
            except StepFailed as failure:
                if failure.code != "port_taken" or tries == PORT_TRIES:
                    raise
                port = choose_other_port(instance_id, operation_id, port)
                write_files(instance_id, operation_id, port)
        wait_ready(instance_id, operation_id)
        connect_channels(instance_id, operation_id)
        activate(instance_id, operation_id)
    except StepFailed as failure:
        undo(instance_id, operation_id)
        fail(instance_id, operation_id, failure.code, failure.message)
        return failure.code
    return "active"


@step("reserve_place")
def reserve_place(instance_id: str, operation_id: str) -> int:
    """A port, a ledger account and a closed grant for the model proxy. Returns the port."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "reserve_place"):
        boot.refuse_unwanted(ctx, instance_id)
        with ctx.db.tx() as db:
            instance = db.get_one(Instance, instance_id, with_for_update=True)
            if instance.state != State.PROVISIONING:
                raise AppError(f"The assistant is {instance.state} already.", code="superseded")
            port = _take_port(db, ctx, instance_id)
            access.grant(db, ctx, instance, ctx.keys.open(instance.proxy_key, PROXY_KEY_PURPOSE))
    return port


@step("write_files")
def write_files(instance_id: str, operation_id: str, port: int) -> None:
    """Render the files and have the pinned OpenClaw check its config before anything is started."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "write_files"):
        instance, channels = files.load(ctx, instance_id)
        runtime = ctx.runtime(instance.runtime)
        runtime.prepare()
        layout = runtime.layout(instance_id, port)
        files.check_config(ctx, instance, files.render_config(ctx, instance, channels, layout))


@step("start_gateway")
def start_gateway(instance_id: str, operation_id: str, port: int) -> None:
    """Wait for a boot slot, then make and start the gateway, or find it made."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "start_gateway"):
        boot.wait_for_slot(ctx, instance_id)
        instance, channels = files.load(ctx, instance_id)
        plan = ctx.plans.get(instance.plan)
        runtime = ctx.runtime(instance.runtime)
        layout = runtime.layout(instance_id, port)
        placed = runtime.create(
            Spec(
                instance_id=instance_id,
                port=port,
                files=files.render_all(ctx, instance, channels, layout),
                memory_bytes=(plan.memory_mb or ctx.settings.instance_memory_mb) * 1024**2,
                cpus=plan.cpus or ctx.settings.instance_cpus,
            )
        )
        with ctx.db.tx() as db:
            db.get_one(Instance, instance_id).placement = dict(placed)


@step("choose_other_port")
def choose_other_port(instance_id: str, operation_id: str, port: int) -> int:
    """Something else listens on this one: leave it alone and take the next."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        places.block_port(db, ctx.host, port, ctx.clock.now())
        return _take_port(db, ctx, instance_id)


@step("wait_ready", attempts=1)
def wait_ready(instance_id: str, operation_id: str) -> dict[str, Any]:
    """The gateway says started and answers with our token."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "wait_ready"):
        seen = boot.wait_ready(ctx, instance_id)
    boot.release_slot(ctx, instance_id)
    return seen


@step("connect_channels", attempts=1)
def connect_channels(instance_id: str, operation_id: str) -> dict[str, str]:
    """Every claimed channel says ready; one that waits for its owner's claim serves nobody yet."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "connect_channels"):
        return boot.wait_channels(ctx, instance_id)


@step("activate")
def activate(instance_id: str, operation_id: str) -> None:
    """Open the model proxy, become active, tell the customer: one transaction."""
    ctx = engine.context()
    now = ctx.clock.now()
    with ctx.db.read() as db:
        is_decided = db.get_one(Instance, instance_id).state != State.PROVISIONING
    if is_decided:
        # A crash came between the decision and its record. What was asked since then is not ours to undo.
        progress.finish(ctx, operation_id)
        return
    boot.refuse_unwanted(ctx, instance_id)
    with ctx.db.tx() as db:
        instance = db.get_one(Instance, instance_id)
        if instance.state == State.PROVISIONING and states.activate(db, instance_id, now):
            access.open_access(db, ctx, instance_id)
            dunning.hold_back(db, ctx, instance_id)
            audit.record(db, now, "workflow:provision", "instance.activate", instance_id, instance.account_id)
            # Who opens this link becomes the bot's only partner, so it is mailed to proven addresses alone: a stranger
            # may have typed this one, and connected a bot of their own. Whoever signed up finds it on the page.
            is_proven = signup.owner_of(db, instance.account_id).user.verified_at is not None
            bot_url = listening.pending_url(db, ctx, instance_id) if is_proven else None
            url = f"{ctx.settings.base_url}/ready/{instance_id}"
            letters.post(
                db,
                ctx,
                f"ready:{operation_id}",
                kinds.ready(ctx.settings.brand_name, instance.name, url, bot_url),
                instance.account_id,
            )
            listening.listen(db, ctx, instance_id)
        # With the state itself: who sees "active" sees every step done.
        operations.end_step(db, operation_id, "activate", now)
        operations.close(db, operation_id, now)


@step("undo", attempts=5)
def undo(instance_id: str, operation_id: str) -> None:
    """Remove whatever was made, in reverse order; gone is success."""
    ctx = engine.context()
    instance, _ = files.load(ctx, instance_id)
    if instance.state != State.PROVISIONING:
        boot.release_slot(ctx, instance_id)
        return
    with ctx.db.tx() as db:
        access.close_access(db, ctx, instance_id)
    ctx.runtime(instance.runtime).destroy(instance.placement, instance_id)
    with ctx.db.tx() as db:
        places.release_boot_slot(db, instance_id)
        places.release_port(db, instance_id)
        operations.undo_steps(db, operation_id, ctx.clock.now())


@step("fail")
def fail(instance_id: str, operation_id: str, code: str, message: str) -> None:
    """Say what went wrong; the customer may ask again, and pays nothing for it."""
    ctx = engine.context()
    now = ctx.clock.now()
    sentence = progress.sentence(code)
    with ctx.db.tx() as db:
        instance = db.get_one(Instance, instance_id)
        if instance.state == State.PROVISIONING and states.fail(db, instance_id, now, code, sentence):
            audit.record(
                db, now, "workflow:provision", "instance.fail", instance_id, instance.account_id, code=code, why=message
            )
            if code != "cancelled":
                url = f"{ctx.settings.base_url}/deploying/{instance_id}"
                letter = kinds.failed(ctx.settings.brand_name, instance.name, sentence, url)
                letters.post(db, ctx, f"failed:{operation_id}", letter, instance.account_id)
    progress.finish(ctx, operation_id, code)


def _take_port(db: Session, ctx: Context, instance_id: str) -> int:
    return places.take_port(db, ctx.host, instance_id, ctx.settings.port_range_start, ctx.settings.port_range_end)
