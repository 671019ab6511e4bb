"""Suspend, resume, restart, configure, delete: the decision is in the caller's transaction, the effect follows."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from clawhaven.billing import checkouts, subscriptions
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Subscription
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Conflict, IllegalMove, RateLimited
from clawhaven.instances import backups, connections, operations, skillset, states, versions
from clawhaven.instances import placement as places
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import Reason, State
from clawhaven.integrations import attachments
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import access, boot, editing, engine, files, letters, listening, progress
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

WORKSPACE_FIELDS = frozenset({"assistant_name", "name", "persona", "custom_instructions", "instructions"})
"""Changes that the persona's files are made of. Anything else leaves them alone: the assistant writes in them too."""

MAX_WAITING = 5


def ask_suspend(db: Session, ctx: Context, instance_id: str, reason: Reason, actor: str) -> Operation | None:
    """Suspend now: calls are refused from this transaction on; the gateway stops soon. None when nothing changed."""
    instance = locked(db, instance_id)
    if instance.state not in (State.ACTIVE, State.SUSPENDED):
        raise IllegalMove(
            f"The assistant is {states.CALLED[instance.state]} and cannot be stopped.", state=instance.state
        )
    now = ctx.clock.now()
    if not states.suspend(db, instance_id, now, reason):
        return None
    access.close_access(db, ctx, instance_id)
    audit.record(db, now, actor, "instance.suspend", instance_id, instance.account_id, reason=str(reason))
    # Trouble with paying has letters of its own, with dates and the way to pay (dunning.py).
    if reason not in (Reason.OWNER, Reason.PAYMENT):
        url = f"{ctx.settings.base_url}/instances/{instance_id}"
        letter = kinds.suspended(ctx.settings.brand_name, instance.name, states.BECAUSE[reason], url)
        letters.post(db, ctx, f"suspended:{instance_id}:{reason}:{int(now.timestamp())}", letter, instance.account_id)
    return _ask(db, ctx, instance_id, "suspend")


def ask_resume(db: Session, ctx: Context, instance_id: str, reason: Reason, actor: str) -> Operation | None:
    """Lift one reason; when none is left, start the gateway. None when others remain."""
    instance = locked(db, instance_id)
    if instance.state != State.SUSPENDED:
        raise IllegalMove(
            f"The assistant is {states.CALLED[instance.state]} and cannot be started.", state=instance.state
        )
    left = states.lift(db, instance_id, reason)
    audit.record(db, ctx.clock.now(), actor, "instance.lift", instance_id, instance.account_id, reason=str(reason))
    return None if left else _ask(db, ctx, instance_id, "resume")


def ask_again(db: Session, ctx: Context, instance_id: str) -> Operation:
    """Resume once more after a resume that failed, when nothing keeps the assistant suspended."""
    return operations.under_way(db, instance_id) or _ask(db, ctx, instance_id, "resume")


def ask_restart(db: Session, ctx: Context, instance_id: str, actor: str) -> Operation:
    """Stop after the turn in flight, and start again."""
    instance = locked(db, instance_id)
    if instance.state != State.ACTIVE:
        raise IllegalMove(
            f"The assistant is {states.CALLED[instance.state]} and cannot be restarted.", state=instance.state
        )
    audit.record(db, ctx.clock.now(), actor, "instance.restart", instance_id, instance.account_id)
    return _ask(db, ctx, instance_id, "restart")


def ask_configure(
    db: Session,
    ctx: Context,
    instance_id: str,
    actor: str,
    changed: list[str],
    *,
    files: Mapping[str, str] | None = None,
) -> Operation | None:
    """Bring the gateway up to date with the row; None when it has no place yet (it starts with the new values).

    `files`: the workspace files that are to be made anew, with the digest of what stands in each of them now.
    """
    instance = locked(db, instance_id)
    audit.record(db, ctx.clock.now(), actor, "instance.configure", instance_id, instance.account_id, changed=changed)
    if instance.state == State.DELETED:
        raise IllegalMove("The assistant is deleted.", state=instance.state)
    if instance.state not in (State.PROVISIONING, State.ACTIVE, State.SUSPENDED):
        return None
    anew = bool(WORKSPACE_FIELDS.intersection(changed)) if files is None else dict(files)
    return _ask(db, ctx, instance_id, "configure", anew)


def ask_delete(db: Session, ctx: Context, instance_id: str, actor: str) -> Operation:
    """Delete with all data. What is under way is cut short; asking twice is the same."""
    instance = locked(db, instance_id)
    if instance.state == State.DELETED:
        raise Conflict("The assistant is deleted already.", code="illegal_move")
    if instance.deletion_asked_at is not None:
        known = operations.latest(db, instance_id, "delete")
        if known is not None and known.state in ("queued", "running"):
            return known
    instance.deletion_asked_at = ctx.clock.now()
    access.close_access(db, ctx, instance_id)
    audit.record(db, ctx.clock.now(), actor, "instance.delete", instance_id, instance.account_id)
    return _ask(db, ctx, instance_id, "delete")


@workflow("suspend")
def suspend(instance_id: str, operation_id: str) -> str:
    """Drain and stop. Its files stay."""
    try:
        close_gateway(instance_id, operation_id)
    except StepFailed as failure:
        finish(operation_id, failure.code)
        return failure.code
    finish(operation_id)
    return "suspended"


@workflow("resume")
def resume(instance_id: str, operation_id: str) -> str:
    """Start the gateway; active once it is ready. Something that came up meanwhile keeps it suspended."""
    try:
        if not open_gateway(instance_id, operation_id):
            finish(operation_id, "suspended")
            return "suspended"
        see_ready(instance_id, operation_id)
        admit(instance_id, operation_id)
        see_channels(instance_id)
    except StepFailed as failure:
        stop_again(instance_id)
        finish(operation_id, failure.code)
        return failure.code
    finish(operation_id)
    return "active"


@workflow("restart")
def restart(instance_id: str, operation_id: str) -> str:
    """Stop after the turn in flight, start, see it ready."""
    try:
        close_gateway(instance_id, operation_id)
        if open_gateway(instance_id, operation_id):
            see_ready(instance_id, operation_id)
            see_channels(instance_id)
    except StepFailed as failure:
        release(instance_id)
        finish(operation_id, failure.code)
        return failure.code
    finish(operation_id)
    return "active"


@workflow("configure")
def configure(instance_id: str, operation_id: str, with_workspace: editing.Anew) -> str:
    """Write the files; the gateway reloads them by itself."""
    try:
        if write_changes(instance_id, operation_id, with_workspace):
            see_ready(instance_id, operation_id)
            see_channels(instance_id)
    except StepFailed as failure:
        finish(operation_id, failure.code)
        return failure.code
    finish(operation_id)
    return "done"


@workflow("delete")
def delete(instance_id: str, operation_id: str) -> str:
    """End the subscription, remove the gateway and its data, forget the secrets."""
    try:
        end_subscription(instance_id, operation_id)
        remove_gateway(instance_id, operation_id)
        forget(instance_id, operation_id)
    except StepFailed as failure:
        finish(operation_id, failure.code)
        return failure.code
    finish(operation_id)
    return "deleted"


@step("close_gateway", attempts=5)
def close_gateway(instance_id: str, operation_id: str) -> None:
    """Drain and stop; a gateway that should run again by now is stopped too: the next operation starts it."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "close_access"), progress.shown(ctx, operation_id, "drain_and_stop"):
        instance, _ = files.load(ctx, instance_id)
        if instance.placement is not None:
            ctx.runtime(instance.runtime).stop(instance.placement, ctx.settings.drain_seconds)


@step("open_gateway")
def open_gateway(instance_id: str, operation_id: str) -> bool:
    """Start it, unless it should not run; False then."""
    ctx = engine.context()
    instance, _ = files.load(ctx, instance_id)
    if instance.suspended_for or instance.state not in (State.ACTIVE, State.SUSPENDED) or instance.deletion_asked_at:
        return False
    with progress.shown(ctx, operation_id, "start_gateway"):
        boot.wait_for_slot(ctx, instance_id)
        files.apply_config(ctx, instance_id)
        if instance.placement is not None:
            boot.start(ctx, instance, instance.placement)
    return True


@step("see_ready", attempts=1)
def see_ready(instance_id: str, operation_id: str, must_be_seen: bool = False) -> None:
    """Started and authenticated. One that was paused meanwhile has nothing to show.

    Where it `must_be_seen`, that is the failure `suspended`.
    """
    ctx = engine.context()
    instance, _ = files.load(ctx, instance_id)
    if not instance.suspended_for:
        with progress.shown(ctx, operation_id, "wait_ready"):
            boot.wait_ready(ctx, instance_id)
    boot.release_slot(ctx, instance_id)
    if instance.suspended_for and must_be_seen:
        raise boot.paused_meanwhile()


@step("see_channels", attempts=1)
def see_channels(instance_id: str) -> str:
    """Channels that do not come up are told to the owner; the assistant itself goes on."""
    ctx = engine.context()
    instance, _ = files.load(ctx, instance_id)
    if instance.suspended_for:
        return "suspended"
    try:
        boot.wait_channels(ctx, instance_id)
    except ProviderError as error:
        with ctx.db.tx() as db:
            states.note(db, instance_id, ctx.clock.now(), "channel_problem", error.message)
        return error.code
    return "ready"


@step("admit")
def admit(instance_id: str, operation_id: str) -> None:
    """Open the proxy and become active, unless a new reason came up meanwhile."""
    ctx = engine.context()
    now = ctx.clock.now()
    with progress.shown(ctx, operation_id, "open_access"), ctx.db.tx() as db:
        instance = db.get_one(Instance, instance_id, with_for_update=True)
        if instance.suspended_for:
            return
        if states.activate(db, instance_id, now):
            access.open_access(db, ctx, instance_id)
            url = f"{ctx.settings.base_url}/instances/{instance_id}"
            letter = kinds.resumed(ctx.settings.brand_name, instance.name, url)
            letters.post(db, ctx, f"resumed:{operation_id}", letter, instance.account_id)
            listening.listen(db, ctx, instance_id)


@step("release")
def release(instance_id: str) -> None:
    """Give the boot slot back after a failure."""
    boot.release_slot(engine.context(), instance_id)


@step("stop_again", attempts=5)
def stop_again(instance_id: str) -> None:
    """A resume that failed leaves nothing running with closed access; the reconciler asks again."""
    ctx = engine.context()
    boot.release_slot(ctx, instance_id)
    instance, _ = files.load(ctx, instance_id)
    if instance.state == State.SUSPENDED and instance.placement is not None:
        ctx.runtime(instance.runtime).stop(instance.placement, ctx.settings.drain_seconds)


@step("write_changes")
def write_changes(instance_id: str, operation_id: str, with_workspace: editing.Anew) -> bool:
    """Config and secrets; the persona's files only when the words they are made of changed. False: nothing to write."""
    ctx = engine.context()
    instance, _ = files.load(ctx, instance_id)
    if instance.state not in (State.ACTIVE, State.SUSPENDED):
        return False
    with progress.shown(ctx, operation_id, "write_files"):
        files.apply_config(ctx, instance_id)
        if with_workspace:
            editing.write_anew(ctx, instance, with_workspace)
    return True


@step("end_subscription", attempts=5, wait_seconds=2)
def end_subscription(instance_id: str, operation_id: str) -> None:
    """Nobody pays for what is deleted: cancel at the provider when this was the subscription's last assistant, and
    close a checkout that is still open."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "close_access"):
        with ctx.db.read() as db:
            subscription = subscriptions.of_instance(db, instance_id)
            ids = subscriptions.covered(db, subscription.id) if subscription is not None else []
            is_last = all(db.get_one(Instance, one).deletion_asked_at is not None for one in ids)
        if subscription is not None and subscription.state != "canceled" and is_last:
            end_agreement(ctx, subscription)
        with ctx.db.tx() as db:
            checkout = checkouts.of_instance(db, instance_id)
            if checkout is not None and checkout.state == CheckoutState.OPEN:
                checkouts.expire(db, checkout.id, ctx.clock.now())


@step("remove_gateway", attempts=5, wait_seconds=2)
def remove_gateway(instance_id: str, operation_id: str) -> None:
    """Gateway, files, network, and every backup: gone is success."""
    ctx = engine.context()
    with progress.shown(ctx, operation_id, "remove_gateway"):
        instance, _ = files.load(ctx, instance_id)
        ctx.runtime(instance.runtime).destroy(instance.placement, instance_id)
        ctx.vault.remove_all(instance_id)


@step("forget")
def forget(instance_id: str, operation_id: str) -> None:
    """Secrets, channels, port and grant; the row stays for the books."""
    ctx = engine.context()
    now = ctx.clock.now()
    with progress.shown(ctx, operation_id, "forget"), ctx.db.tx() as db:
        connections.disconnect(db, instance_id)
        versions.forget(db, instance_id)
        backups.forget(db, instance_id)
        skillset.drop(db, [instance_id])
        attachments.forget(db, instance_id)
        places.release_port(db, instance_id)
        places.release_boot_slot(db, instance_id)
        access.revoke(db, instance_id)
        if states.mark_deleted(db, instance_id, now):
            instance = db.get_one(Instance, instance_id)
            audit.record(db, now, "workflow:delete", "instance.deleted", instance_id, instance.account_id)


@step("finish")
def finish(operation_id: str, code: str | None = None) -> None:
    """Close the operation."""
    progress.finish(engine.context(), operation_id, code)


def end_agreement(ctx: Context, subscription: Subscription) -> bool:
    """End it at its vendor now. False: the vendor does not know it, so it has ended, here too."""
    try:
        ctx.payment(subscription.provider).cancel(subscription.reference, at_period_end=False)
    except ProviderError as error:
        if error.code != "unknown_subscription":
            raise
        with ctx.db.tx() as db:
            if subscriptions.MACHINE.move(db, subscription.id, subscriptions.SubscriptionState.CANCELED):
                actor, known = f"provider:{subscription.provider}", (subscription.id, subscription.account_id)
                audit.record(db, ctx.clock.now(), actor, "subscription.unknown", *known)
                text = (
                    f"{subscription.provider} does not know the subscription {subscription.reference} (account"
                    f" {subscription.account_id}) that was to end, so it counts as ended here. Where the key or the"
                    " address of another account was set at that moment, it goes on: look, and cancel it by hand.\n"
                )
                letter = kinds.alert(f"A subscription is unknown to {subscription.provider}", text)
                letters.post_to(db, ctx, f"unknown:{subscription.id}", letter, ctx.settings.support_address)
        return False
    return True


def locked(db: Session, instance_id: str) -> Instance:
    """The row as it is now, held until the transaction ends: what is decided from it stays true."""
    return db.get_one(Instance, instance_id, with_for_update=True, populate_existing=True)


def _ask(db: Session, ctx: Context, instance_id: str, kind: str, *more: editing.Anew) -> Operation:
    waiting = operations.queued(db, instance_id)
    same = next((one for one in waiting if one.kind == kind == "restart"), None)
    if same is not None:
        return same
    if len(waiting) >= MAX_WAITING and kind in ("restart", "configure"):
        raise RateLimited("Too much is waiting for this assistant already. Please try again later.", retry_after=30)
    operation = operations.open_operation(db, instance_id, kind, ctx.clock.now())
    enqueue(
        db,
        ctx,
        kind,
        f"{kind}:{operation.id}",
        instance_id,
        operation.id,
        *more,
        queue=engine.INSTANCES,
        partition=instance_id,
    )
    return operation
