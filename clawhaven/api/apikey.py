"""The customer's own model key of an assistant: set, looked at (never the key itself), taken away."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from clawhaven.accounts.ownership import owned
from clawhaven.api.bodies import OwnKeyBody
from clawhaven.api.deps import Ctx, Signed
from clawhaven.context import Context
from clawhaven.instances.models import Instance
from clawhaven.metering import ownkeys
from clawhaven.metering.models import OwnKey
from clawhaven.workflows import ownkey

router = APIRouter(prefix="/instances/{instance_id}/api-key", tags=["instances"])


@router.get("")
def get_key(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Whether there is a key, whose, and its last characters; and the vendors whose keys can be used."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        return _as_json(ctx, ownkeys.find(db, instance_id))


@router.put("")
def set_key(instance_id: str, body: OwnKeyBody, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Set or replace the key once its vendor has accepted it. `vendor` may be left out where the key tells it."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
    return _as_json(ctx, ownkey.put(ctx, instance_id, body.api_key, body.vendor, who.actor))


@router.delete("", status_code=204)
def remove_key(instance_id: str, who: Signed, ctx: Ctx) -> None:
    """Forget the key; the assistant cannot answer until there is another."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, who.account_id)
        ownkey.remove(db, ctx, instance_id, who.actor)


def _as_json(ctx: Context, key: OwnKey | None) -> dict[str, Any]:
    return {
        "is_set": key is not None,
        "vendor": key.upstream if key else None,
        "hint": f"…{key.hint}" if key else None,
        "checked_at": key.checked_at.isoformat() if key else None,
        "vendors": [
            {"vendor": name, "label": vendor.label, "keys_url": vendor.keys_url or None}
            for name, vendor in ctx.upstreams.items()
        ],
    }
