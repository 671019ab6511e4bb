"""An assistant's own log, with everything masked that looks like a secret."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clawhaven.accounts.ownership import owned
from clawhaven.core.logs import redact
from clawhaven.instances.models import Instance
from clawhaven.ports.errors import ProviderError
from clawhaven.web.deps import Ctx, RowId, SignedIn
from clawhaven.web.render import page

router = APIRouter()

LINES = 300


@router.get("/instances/{instance_id}/logs")
def show_logs(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """The newest lines, oldest first."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
    lines: list[str] = []
    problem = ""
    if instance.placement is not None:
        try:
            found = ctx.runtime(instance.runtime).logs(instance.placement, LINES)
            lines = [redact(line.rstrip()) for line in found]
        except ProviderError:
            problem = "The log cannot be read at the moment. Please try again in a minute."
    return page(request, "instance_logs.html", tab="logs", instance=instance, lines=lines, problem=problem)
