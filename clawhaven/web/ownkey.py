"""The customer's own model key, on the configuration page: set, replaced, removed; its text is never shown again."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, RateLimited, Unavailable
from clawhaven.instances.models import Instance
from clawhaven.web import deps
from clawhaven.web.configuration import configuration_page
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.workflows import ownkey

router = APIRouter(prefix="/instances/{instance_id}/api-key")

FIELDS = ("api_key", "vendor")


@router.post("")
def set_key(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """Test it at its vendor, and keep it once it is accepted."""
    with ctx.db.read() as db:
        owned(db, Instance, instance_id, owner.account.id)
    try:
        ownkey.put(ctx, instance_id, form.get("api_key"), form.get("vendor"), deps.actor(owner))
    except (Invalid, Conflict, RateLimited, Unavailable) as error:
        if isinstance(error, IllegalMove):
            raise
        field = str(error.details.get("field"))
        errors = {field if field in FIELDS else "form": error.message}
        return configuration_page(request, ctx, owner, instance_id, errors=errors, status=error.status)
    return RedirectResponse(f"/instances/{instance_id}/configuration?done=key-saved", 303)


@router.post("/remove")
def remove_key(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """Forget it."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        is_gone = ownkey.remove(db, ctx, instance_id, deps.actor(owner))
    return RedirectResponse(
        f"/instances/{instance_id}/configuration?done={'key-removed' if is_gone else 'unchanged'}", 303
    )
