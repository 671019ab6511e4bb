"""Accounts at other vendors that assistants may read: connect, look at (never a token), disconnect, attach, detach."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from clawhaven.accounts.ownership import owned
from clawhaven.api.bodies import AttachBody, CallbackBody
from clawhaven.api.deps import Caller, Ctx, Signed
from clawhaven.context import Context
from clawhaven.core.errors import Invalid
from clawhaven.instances.models import Instance
from clawhaven.integrations import attachments, connected
from clawhaven.integrations.models import Integration as Connected
from clawhaven.ports.integration import Integration
from clawhaven.workflows import integrations

router = APIRouter(tags=["integrations"])

BACK = "/settings/integrations"


@router.get("/integrations")
def list_integrations(who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Every vendor: whether it can be connected here, and what is connected."""
    with ctx.db.read() as db:
        rows = {one.vendor: one for one in connected.list_of(db, who.account_id)}
        readers = attachments.readers(db, [one.id for one in rows.values()])
    return {
        "items": [
            _as_json(vendor, row := rows.get(name), readers.get(row.id, []) if row else [])
            for name, vendor in ctx.integrations.items()
        ]
    }


@router.post("/integrations/{vendor}/connect")
def connect(vendor: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Begin: the address of the vendor's consent page. Open it in a browser that is signed in here as this account;
    it ends on this site, and works once, for half an hour."""
    return {"authorize_url": integrations.begin(ctx, vendor, who.account_id, None, who.actor, BACK)}


@router.post("/integrations/{vendor}/callback")
def complete(vendor: str, body: CallbackBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """End it by hand: `state` and `code` as the vendor gave them to the browser. For what `connect` here began."""
    row, _ = integrations.complete(ctx, vendor, who.account_id, None, body.state, body.code, who.actor)
    return _as_json(integrations.vendor_of(ctx, vendor), row, [])


@router.delete("/integrations/{vendor}", status_code=204)
def disconnect(vendor: str, who: Signed, ctx: Ctx) -> None:
    """Forget it, take it from every assistant, and have the vendor forget it too (asked until it does)."""
    with ctx.db.tx() as db:
        integrations.disconnect(db, ctx, who.account_id, vendor, who.actor)


@router.get("/instances/{instance_id}/integrations")
def list_attached(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """What this assistant may read."""
    return _attached(ctx, who, instance_id)


@router.post("/instances/{instance_id}/integrations/attach")
def attach(instance_id: str, body: AttachBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Let the assistant read an integration: `integration_id`, or `vendor`."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        integrations.attach(db, ctx, instance_id, _vendor(db, body, who), who.actor)
    return _attached(ctx, who, instance_id)


@router.post("/instances/{instance_id}/integrations/detach")
def detach(instance_id: str, body: AttachBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Let it read no more."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        integrations.detach(db, ctx, instance_id, _vendor(db, body, who), who.actor)
    return _attached(ctx, who, instance_id)


def _vendor(db: Any, body: AttachBody, who: Caller) -> str:
    if body.integration_id:
        return owned(db, Connected, body.integration_id, who.account_id).vendor
    if not body.vendor:
        raise Invalid("Say which: integration_id, or vendor.", field="integration_id", reason="missing")
    return body.vendor


def _attached(ctx: Context, who: Caller, instance_id: str) -> dict[str, Any]:
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        found = attachments.list_of(db, instance_id)
    return {
        "items": [
            {
                "integration_id": one.integration_id,
                "vendor": one.vendor,
                "attached_at": one.attached_at.isoformat(),
            }
            for one in found
        ]
    }


def _as_json(vendor: Integration, row: Connected | None, readers: list[str]) -> dict[str, Any]:
    granted = connected.scopes_of(row) if row else frozenset()
    return {
        "vendor": vendor.name,
        "label": vendor.label,
        "is_available": vendor.is_ready,
        "integration_id": row.id if row else None,
        "address": row.address if row else None,
        "parts": [{"label": part.label, "is_granted": part.scope in granted} for part in vendor.parts],
        "connected_at": row.connected_at.isoformat() if row else None,
        "lapsed_at": row.lapsed_at.isoformat() if row and row.lapsed_at else None,
        "instance_ids": readers,
    }
