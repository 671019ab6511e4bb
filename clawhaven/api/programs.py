"""Keys with which a customer's own programs call the models of an assistant's plan."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from clawhaven.accounts.ownership import owned
from clawhaven.api.bodies import ProgramKeyBody
from clawhaven.api.deps import Ctx, Signed, refuse_without_keys
from clawhaven.api.repeats import RepeatKey, fingerprint
from clawhaven.core import idempotency
from clawhaven.core.errors import Conflict
from clawhaven.core.idempotency import Answer
from clawhaven.instances.models import Instance
from clawhaven.metering import programs
from clawhaven.metering.models import ProgramKey
from clawhaven.workflows import keys

router = APIRouter(prefix="/instances/{instance_id}/program-keys", tags=["instances"])


@router.get("")
def list_keys(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """Keys in force, never their secrets, and the addresses that the vendors' clients take as `base_url`."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, who.account_id)
        found = programs.list_keys(db, instance_id)
    at = keys.addresses(ctx)
    return {
        "items": [_as_json(key) for key in found],
        "base_urls": {"anthropic": at.anthropic, "openai": at.openai},
        "next_cursor": None,
    }


@router.post("", status_code=201)
def make_key(
    instance_id: str, body: ProgramKeyBody, request: Request, who: Signed, ctx: Ctx, repeat_key: RepeatKey = None
) -> dict[str, Any]:
    """A new key; `key` is shown this once. Its calls count and cost like the assistant's own. An API key needs the
    scope `keys`, and what it made ends with it. A repeat with the same Idempotency-Key is answered 409
    `already_used`."""
    refuse_without_keys(who)
    with ctx.db.tx() as db:
        instance = owned(db, Instance, instance_id, who.account_id)
        if repeat_key is not None:
            now = ctx.clock.now()
            known = idempotency.begin(db, who.account_id, repeat_key, fingerprint(request, body), now)
            if known is not None:
                raise Conflict(
                    "The key of this request was made before and shown that once. Revoke it if it was lost.",
                    code="already_used",
                    key_id=known.body["id"],
                )
        key, secret = keys.make_program_key(db, ctx, who.owner, instance, body.name, who.actor, who.key_id)
        if repeat_key is not None:
            idempotency.finish(db, who.account_id, repeat_key, Answer(201, {"id": key.id}))
        return {**_as_json(key), "key": secret}


@router.delete("/{key_id}", status_code=204)
def revoke_key(instance_id: str, key_id: str, who: Signed, ctx: Ctx) -> None:
    """End a key with its next call; what is being answered is answered to its end."""
    with ctx.db.tx() as db:
        keys.revoke_program_key(db, ctx, owned(db, Instance, instance_id, who.account_id), key_id, who.actor)


def _as_json(key: ProgramKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "created_at": key.created_at.isoformat(),
        "last_used_at": key.last_used_at.isoformat() if key.last_used_at else None,
    }
