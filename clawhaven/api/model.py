"""The models an assistant can be set to, with their prices. Setting one is a change of the assistant (PATCH)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from clawhaven.accounts.ownership import owned
from clawhaven.api.deps import Ctx, Signed
from clawhaven.instances.models import Instance
from clawhaven.workflows import model

router = APIRouter(prefix="/instances/{instance_id}/models", tags=["instances"])


@router.get("")
def list_models(instance_id: str, who: Signed, ctx: Ctx) -> dict[str, Any]:
    """What is on offer for this assistant. Prices are micro-dollars per million tokens: on an own-key plan the
    vendor's list prices, else what is charged or, where the plan includes the model, what usage is worth."""
    with ctx.db.read() as db:
        found = model.list_offers(db, ctx, owned(db, Instance, instance_id, who.account_id))
    return {"items": [asdict(one) for one in found], "next_cursor": None}
