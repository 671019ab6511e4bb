"""Instances: create, look, change, act, follow."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.accounts.ownership import owned
from clawhaven.api.bodies import AssistantBody, ChangeBody
from clawhaven.api.calls import call_json
from clawhaven.api.deps import Caller, Ctx, Signed
from clawhaven.api.repeats import Keep, RepeatKey, once_within
from clawhaven.context import Context
from clawhaven.core.errors import NotFound
from clawhaven.instances import connections, drafts, health, operations, states, workspace
from clawhaven.instances.models import Connection, Instance, InstanceEvent, Operation
from clawhaven.instances.states import Reason, State
from clawhaven.metering import usage
from clawhaven.workflows import checkout, configuration, lifecycle, logs, proxykey, wake
from clawhaven.workflows.checkout import Begun

router = APIRouter(prefix="/instances", tags=["instances"])


def as_json(db: Session, ctx: Context, instance: Instance, who: Caller) -> dict[str, Any]:
    """The wire form of an instance for its owner, as far as the caller's scopes go."""
    running = operations.under_way(db, instance.id)
    seen = health.observed(db, instance.id)
    return {
        "id": instance.id,
        "name": instance.name,
        "persona": instance.persona,
        "custom_instructions": instance.instructions,
        "plan": instance.plan,
        "model": instance.model,
        "runtime": instance.runtime,
        "status": instance.state,
        "suspended_for": [str(reason) for reason in states.reasons(instance)],
        "failure": {"code": instance.failure_code, "message": instance.failure_message}
        if instance.failure_code
        else None,
        "url": f"{ctx.settings.base_url}/instances/{instance.id}",
        "channels": [channel_json(ctx, one, who) for one in connections.list_connections(db, instance.id)],
        "operation": operations.as_json(db, running) if running else None,
        "health": {"is_healthy": seen.is_healthy, "detail": seen.detail, "at": seen.at.isoformat()} if seen else None,
        "created_at": instance.created_at.isoformat(),
        "paid_at": instance.paid_at.isoformat() if instance.paid_at else None,
        "active_at": instance.active_at.isoformat() if instance.active_at else None,
    }


def begun_json(ctx: Context, begun: Begun) -> dict[str, Any]:
    """The wire form of an assistant that waits for its payment."""
    return {
        "customer_id": begun.owner.account.id,
        "instance_id": begun.instance.id,
        "email": begun.owner.user.email,
        "status": begun.instance.state,
        "checkout_url": begun.checkout_url,
        "status_url": f"{ctx.settings.base_url}/api/status/{begun.instance.id}",
    }


def channel_json(ctx: Context, connection: Connection, who: Caller) -> dict[str, Any]:
    """The wire form of a channel; never its credentials. The claim link makes whoever opens it the bot's owner, so
    it is for callers with the write scope."""
    return {
        "channel": connection.channel,
        "bot_username": connection.bot_username,
        "bot_url": connection.bot_url,
        "status": "connected" if connection.owner_external_id else "waiting_for_owner",
        "owner": connection.owner_username or connection.owner_external_id,
        "claim_url": connections.claim_url(connection, ctx.keys) if "write" in who.scopes else None,
    }


@router.get("")
def list_instances(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The account's assistants, newest first."""
    with ctx.db.read() as db:
        rows = db.scalars(
            select(Instance)
            .where(Instance.account_id == who.account_id, Instance.state != State.DELETED)
            .order_by(Instance.created_at.desc(), Instance.id)
            .limit(100)
        )
        return {"items": [as_json(db, ctx, row, who) for row in rows], "next_cursor": None}


@router.post("", status_code=201)
def create_instance(
    body: AssistantBody, request: Request, response: Response, who: Signed, ctx: Ctx, repeat_key: RepeatKey = None
) -> dict[str, Any]:
    """A further assistant; answers with its payment page."""

    def make(keep: Keep) -> dict[str, Any]:
        begun = checkout.add_instance(
            ctx, who.owner, body.form(), keep=lambda db, begun: keep(db, begun_json(ctx, begun))
        )
        return begun_json(ctx, begun)

    return once_within(ctx, request, response, who.account_id, repeat_key, body, make)


@router.get("/{instance_id}")
def get_instance(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """One assistant."""
    with ctx.db.read() as db:
        return as_json(db, ctx, owned(db, Instance, instance_id, who.account_id), who)


@router.patch("/{instance_id}", status_code=202)
def change_instance(instance_id: str, body: ChangeBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Change name, instructions, persona or model; the gateway follows, without a restart.

    Workspace files that say what the settings made of them follow too; those that somebody has changed stay
    (`kept_files`).
    """
    draft = _draft(ctx, instance_id, body, who)
    done = configuration.change(ctx, instance_id, who.account_id, draft, who.actor, chosen=body.model or "")
    with ctx.db.read() as db:
        return {**_accepted(db, done.operation), "changed": list(done.fields), "kept_files": list(done.kept_files)}


@router.post("/{instance_id}/review")
def review_change(instance_id: str, body: ChangeBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """What a change would do, before it is made: settings and files, each as it is and as it would be.

    A file with `is_own` has been changed by somebody since the settings made it, and would be left alone.
    """
    draft = _draft(ctx, instance_id, body, who)
    seen = configuration.review(ctx, instance_id, who.account_id, draft, body.model or "")
    return {
        "fields": [{"name": one.name, "before": one.before, "after": one.after} for one in seen.fields],
        "files": [
            {"name": one.name, "before": one.before, "after": one.after, "is_own": one.is_own} for one in seen.files
        ],
    }


@router.post("/{instance_id}/start", status_code=202)
def start(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Start a stopped assistant, or try a failed one again."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        return _accepted(db, wake.ask_start(db, ctx, instance_id, who.actor))


@router.post("/{instance_id}/stop", status_code=202)
def stop(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Stop after the turn in flight; data stays."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        operation = lifecycle.ask_suspend(db, ctx, instance_id, Reason.OWNER, who.actor)
        return _accepted(db, operation or operations.latest(db, instance_id, "suspend"))


@router.post("/{instance_id}/restart", status_code=202)
def restart(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Stop after the turn in flight, and start again."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        return _accepted(db, lifecycle.ask_restart(db, ctx, instance_id, who.actor))


@router.post("/{instance_id}/replace-key", status_code=202)
def replace_key(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Replace the key with which the assistant reaches its models, should it have leaked, and restart with the new one.

    The key before is accepted until then. A paused assistant gets the new one at its next start.
    """
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        return _accepted(db, proxykey.ask_replace(db, ctx, instance_id, who.actor))


@router.delete("/{instance_id}", status_code=202)
def delete(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Delete with all data; the subscription ends."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        return _accepted(db, lifecycle.ask_delete(db, ctx, instance_id, who.actor))


@router.get("/{instance_id}/operations/{operation_id}")
def get_operation(instance_id: str, operation_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """An operation and its steps."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        found = db.scalars(
            select(Operation).where(Operation.id == operation_id, Operation.instance_id == instance_id)
        ).one_or_none()
        if found is None:
            raise NotFound("There is no such operation.")
        return operations.as_json(db, found)


@router.get("/{instance_id}/events")
def list_events(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """The assistant's history, newest first."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        rows = db.scalars(
            select(InstanceEvent)
            .where(InstanceEvent.instance_id == instance_id)
            .order_by(InstanceEvent.at.desc(), InstanceEvent.id)
            .limit(200)
        )
        items = [{"at": row.at.isoformat(), "kind": row.kind, "message": row.message} for row in rows]
    return {"items": items, "next_cursor": None}


@router.get("/{instance_id}/logs")
def list_log(
    instance_id: str,
    who: Signed,
    ctx: Ctx,
    lines: Annotated[int, Query(ge=1, le=2000)] = 200,
    level: Annotated[Literal["error", "warn", "info", "debug"], Query()] = "debug",
    q: Annotated[str, Query(max_length=100)] = "",
) -> dict[str, Any]:
    """The newest lines of the gateway's log of the last 24 hours, secrets masked.

    `level`: as grave as that at least; `q`: words that must all be in a line.
    """
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
    look = logs.read(ctx, instance, level=level, words=q, most=lines)
    return {
        "lines": [entry.as_line() for entry in look.entries],
        "entries": [
            {
                "at": entry.at.isoformat() if entry.at else None,
                "level": entry.level,
                "source": entry.source,
                "text": entry.text,
            }
            for entry in look.entries
        ],
    }


@router.get("/{instance_id}/usage")
def instance_usage(
    instance_id: str, who: Signed, ctx: Ctx, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> dict[str, Any]:
    """The assistant's model calls, newest first."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        page = usage.list_usage(db, who.account_id, cursor, limit, instance_id=instance_id)
        return {"items": [call_json(call) for call in page.calls], "next_cursor": page.next_cursor}


def _draft(ctx: Context, instance_id: str, body: ChangeBody, who: Caller) -> drafts.Draft:
    """What the assistant should be: what was sent, and for the rest what it is."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
    return drafts.check_draft(
        body.assistant_name if body.assistant_name is not None else instance.name,
        body.persona if body.persona is not None else instance.persona,
        body.custom_instructions if body.custom_instructions is not None else instance.instructions,
        workspace.list_personas(ctx.settings.templates_dir),
    )


def _accepted(db: Session, operation: Operation | None) -> dict[str, Any]:
    return {"operation": operations.as_json(db, operation) if operation is not None else None}
