"""Keys with which a customer's own programs call the models of an assistant's plan: made, shown once, revoked."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import idempotency
from clawhaven.core.errors import AppError, Conflict
from clawhaven.core.idempotency import Answer
from clawhaven.core.ids import new_id
from clawhaven.instances.models import Instance
from clawhaven.metering import ownkeys, programs
from clawhaven.metering.models import PlanMode, ProgramKey
from clawhaven.ports.upstream import Dialect
from clawhaven.web import deps
from clawhaven.web.deps import Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.render import page
from clawhaven.workflows import keys, model
from clawhaven.workflows.model import Offer

router = APIRouter(prefix="/instances/{instance_id}/programs")

CLIENTS = {
    "Anthropic": (
        Dialect.ANTHROPIC_MESSAGES,
        """from anthropic import Anthropic
client = Anthropic(base_url="{base}", api_key="chp_…")
print(client.messages.create(model="{model}", max_tokens=500, messages=[{{"role": "user", "content": "Hello"}}]))""",
    ),
    "OpenAI": (
        Dialect.OPENAI_CHAT,
        """from openai import OpenAI
client = OpenAI(base_url="{base}", api_key="chp_…")
print(client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello"}}]))""",
    ),
}
"""The vendors' official clients for Python, by whose they are: what they speak, and three lines with each."""


@dataclass(frozen=True, slots=True)
class Client:
    """One vendor's client: its base address here, and three lines with it; empty where no model speaks its tongue."""

    vendor: str
    base: str
    example: str


@router.get("")
def show_keys(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """The keys, the addresses, and how to use them."""
    return _page(request, ctx, owner, instance_id)


@router.post("")
def make_key(request: Request, ctx: Ctx, owner: SignedIn, form: OwnForm, instance_id: RowId) -> Response:
    """A new key, shown on the answer and never again; the same form sent twice makes one."""
    name = form.get("name").strip()
    repeat = f"form:{form.get('key')[:100] or new_id('frm')}"
    try:
        with ctx.db.tx() as db:
            instance = owned(db, Instance, instance_id, owner.account.id)
            print_ = idempotency.fingerprint(instance_id, name)
            if idempotency.begin(db, owner.account.id, repeat, print_, ctx.clock.now()):
                raise Conflict("This key was made already, and it is shown only once. Revoke it if it was lost.")
            key, secret = keys.make_program_key(db, ctx, owner, instance, name, deps.actor(owner))
            idempotency.finish(db, owner.account.id, repeat, Answer(201, {"id": key.id}))
    except AppError as error:
        return _page(request, ctx, owner, instance_id, error, name[: programs.NAME_LENGTH])
    return _page(request, ctx, owner, instance_id, made=key, secret=secret)


@router.post("/{key_id}/revoke")
def revoke_key(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId, key_id: RowId) -> Response:
    """End it with its next call."""
    with ctx.db.tx() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        keys.revoke_program_key(db, ctx, instance, key_id, deps.actor(owner))
    return RedirectResponse(f"/instances/{instance_id}/programs?done=key-revoked", 303)


def _page(
    request: Request,
    ctx: Context,
    owner: Owner,
    instance_id: str,
    error: AppError | None = None,
    typed: str = "",
    made: ProgramKey | None = None,
    secret: str = "",
) -> Response:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        found = programs.list_keys(db, instance_id)
        offers = model.list_offers(db, ctx, instance)
        is_own_key = ctx.plans.get(instance.plan).access == PlanMode.OWN_KEY
        lacks_key = is_own_key and ownkeys.find(db, instance_id) is None
    field = "name" if error is not None and error.details.get("field") == "name" else "form"
    return page(
        request,
        "instance_programs.html",
        error.status if error else 200,
        tab="programs",
        instance=instance,
        keys=found,
        made=made,
        secret=secret,
        clients=list_clients(ctx, offers),
        lacks_key=lacks_key,
        plan=ctx.plans.get(instance.plan),
        errors={field: error.message} if error else {},
        typed=typed,
        key=new_id("frm"),
    )


def list_clients(ctx: Context, offers: list[Offer]) -> list[Client]:
    """Both vendors' clients; an example's model is the assistant's own where the client can call it."""
    at = keys.addresses(ctx)
    bases = {"Anthropic": at.anthropic, "OpenAI": at.openai}
    clients = []
    for vendor, (dialect, example) in CLIENTS.items():
        able = [one for one in offers if dialect in ctx.upstreams[one.vendor].dialects()]
        chosen = next((one for one in able if one.is_chosen), able[0] if able else None)
        text = example.format(base=bases[vendor], model=chosen.model) if chosen else ""
        clients.append(Client(vendor, bases[vendor], text))
    return clients
