"""Accounts at other vendors: connected and disconnected in the settings, attached on an assistant's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.errors import AppError, Conflict, IllegalMove, Invalid, NotFound, RateLimited, Unavailable
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.integrations import attachments, connected
from clawhaven.integrations.models import Integration as Connected
from clawhaven.ports.integration import Integration, Part
from clawhaven.web import deps
from clawhaven.web.deps import Anyone, Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.languages import N_, Texts
from clawhaven.web.render import page
from clawhaven.workflows import integrations

router = APIRouter()

SETTINGS = "/settings/integrations"
PROBLEMS = Texts(
    {
        "stale_consent": N_("This answer came too late, or from another browser. Nothing was connected; try it again."),
        "being_disconnected": N_("It is still being disconnected. Load this page again in half a minute."),
        "consent_denied": N_("You did not agree there, so nothing was connected."),
        "no_permission": N_("No box was ticked there, so nothing was connected. Tick what your assistant may read."),
        "integration_off": N_("It is not switched on here."),
        "not_connected": N_("Connect it first, in the settings."),
        "unavailable": N_("It does not answer at the moment, so nothing was connected. Please try again."),
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A vendor, what the customer has connected there, and the assistants that may read it."""

    vendor: Integration
    row: Connected | None
    readers: Sequence[Instance]
    is_revoking: bool

    @property
    def granted(self) -> list[Part]:
        """What may be read."""
        return [part for part in self.vendor.parts if self.row and part.scope in connected.scopes_of(self.row)]

    @property
    def withheld(self) -> list[Part]:
        """What was not ticked."""
        return [part for part in self.vendor.parts if self.row and part.scope not in connected.scopes_of(self.row)]


@router.get(SETTINGS)
def show_integrations(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Every vendor, connected or not."""
    return _settings_page(request, ctx, owner)


@router.post(SETTINGS + "/{vendor}/connect")
def connect(request: Request, ctx: Ctx, owner: SignedIn, visitor: Anyone, form: OwnForm, vendor: RowId) -> Response:
    """Send the customer to the vendor's consent page."""
    back_to = form.get("back_to", SETTINGS)
    back_to = back_to if deps.is_local(back_to) and "?" not in back_to else SETTINGS
    session_id = visitor.entry.session.id if visitor.entry else None
    try:
        url = integrations.begin(ctx, vendor, owner.account.id, session_id, deps.actor(owner), back_to)
    except (Unavailable, RateLimited) as error:
        return _settings_page(request, ctx, owner, error)
    return RedirectResponse(url, 303)


@router.get("/integrations/{vendor}/callback")
def come_back(
    request: Request,
    ctx: Ctx,
    owner: SignedIn,
    visitor: Anyone,
    vendor: RowId,
    state: str = "",
    code: str = "",
) -> Response:
    """The vendor sends the customer back, with a code or without."""
    session_id = visitor.entry.session.id if visitor.entry else None
    who = deps.actor(owner)
    try:
        if len(state) > 300 or len(code) > 2000:
            raise Conflict("This is no answer of ours.", code="stale_consent")
        _, back_to = integrations.complete(ctx, vendor, owner.account.id, session_id, state, code, who)
    except (Conflict, Invalid, Unavailable) as error:
        return _settings_page(request, ctx, owner, error)
    return RedirectResponse(f"{back_to}?done=integration-connected", 303)


@router.post(SETTINGS + "/{vendor}/disconnect")
def disconnect(ctx: Ctx, owner: SignedIn, _form: OwnForm, vendor: RowId) -> Response:
    """Forget it here and at the vendor."""
    try:
        with ctx.db.tx() as db:
            integrations.disconnect(db, ctx, owner.account.id, vendor, deps.actor(owner))
    except NotFound:
        return RedirectResponse(f"{SETTINGS}?done=unchanged", 303)
    return RedirectResponse(f"{SETTINGS}?done=integration-disconnected", 303)


@router.get("/instances/{instance_id}/integrations")
def show_attached(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """What this assistant may read."""
    return _instance_page(request, ctx, owner, instance_id)


@router.post("/instances/{instance_id}/integrations/{vendor}/attach")
def attach(request: Request, ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, vendor: RowId) -> Response:
    """Let it read."""
    try:
        with ctx.db.tx() as db:
            owned(db, Instance, instance_id, owner.account.id)
            is_new = integrations.attach(db, ctx, instance_id, vendor, deps.actor(owner))
    except (Conflict, RateLimited) as error:
        if isinstance(error, IllegalMove):
            raise
        return _instance_page(request, ctx, owner, instance_id, error)
    done = "integration-attached" if is_new else "unchanged"
    return RedirectResponse(f"/instances/{instance_id}/integrations?done={done}", 303)


@router.post("/instances/{instance_id}/integrations/{vendor}/detach")
def detach(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, vendor: RowId) -> Response:
    """Let it read no more."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        is_gone = integrations.detach(db, ctx, instance_id, vendor, deps.actor(owner))
    done = "integration-detached" if is_gone else "unchanged"
    return RedirectResponse(f"/instances/{instance_id}/integrations?done={done}", 303)


def _settings_page(request: Request, ctx: Context, owner: Owner, error: AppError | None = None) -> Response:
    return page(
        request,
        "settings_integrations.html",
        error.status if error else 200,
        tab=SETTINGS,
        entries=_entries(ctx, owner),
        errors=_errors(error),
    )


def _instance_page(
    request: Request, ctx: Context, owner: Owner, instance_id: str, error: AppError | None = None
) -> Response:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        attached = {one.vendor for one in attachments.list_of(db, instance_id)}
    return page(
        request,
        "instance_integrations.html",
        error.status if error else 200,
        tab="integrations",
        instance=instance,
        entries=_entries(ctx, owner),
        attached=attached,
        errors=_errors(error),
        is_changeable=instance.state != State.DELETED and instance.deletion_asked_at is None,
    )


def _entries(ctx: Context, owner: Owner) -> list[Entry]:
    account_id = owner.account.id
    with ctx.db.read() as db:
        rows = {one.vendor: one for one in connected.list_of(db, account_id)}
        readers = attachments.readers(db, [one.id for one in rows.values()])
        wanted = [instance_id for ids in readers.values() for instance_id in ids]
        mine = select(Instance).where(Instance.account_id == account_id, Instance.id.in_(wanted))
        known = {one.id: one for one in db.scalars(mine)} if wanted else {}
        revoking = {one.vendor for one in connected.revocations_of(db, account_id)}
    found = []
    for name, vendor in ctx.integrations.items():
        row = rows.get(name)
        its_readers = [known[one] for one in readers.get(row.id, []) if one in known] if row else []
        found.append(Entry(vendor, row, its_readers, name in revoking))
    return found


def _errors(error: AppError | None) -> dict[str, str]:
    return {"form": PROBLEMS.get(error.error_code) or error.message} if error else {}
