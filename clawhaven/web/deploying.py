"""From payment to living assistant: the steps as they happen, and what to do once it lives."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.billing import checkouts, wallet
from clawhaven.context import Context
from clawhaven.core.errors import NotFound
from clawhaven.instances import connections
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering import ownkeys
from clawhaven.metering.models import PlanMode
from clawhaven.web import deps, progress, streams
from clawhaven.web.deps import Anyone, Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.languages import _
from clawhaven.web.render import page
from clawhaven.workflows import moneyback, wake

router = APIRouter()


@router.get("/deploying/{instance_id}")
def show_progress(request: Request, ctx: Ctx, visitor: Anyone, instance_id: RowId) -> Response:
    """The steps. Whoever has the address may watch; only the owner sees names, links and buttons."""
    with ctx.db.read() as db:
        instance = _find(db.get(Instance, instance_id))
        view = progress.of_provision(db, instance)
        checkout = checkouts.of_instance(db, instance_id)
        seconds = progress.seconds_so_far(db, instance, ctx.clock.now())
        money_back = moneyback.offered_micros(db, ctx, instance)
        returned = moneyback.returned_micros(db, instance)
    is_mine = visitor.owner is not None and visitor.owner.account.id == instance.account_id
    if is_mine and instance.state == State.ACTIVE:
        return RedirectResponse(f"/ready/{instance_id}", 303)
    return page(
        request,
        "deploying.html",
        view=view,
        instance=instance if is_mine else None,
        seconds=seconds,
        events=f"/deploying/{instance_id}/events",
        poll=f"/deploying/{instance_id}/progress",
        next_url=f"/ready/{instance_id}" if is_mine else "",
        checkout_id=checkout.id if is_mine and checkout and checkout.state == "open" else None,
        money_back_micros=money_back,
        is_leaving=instance.deletion_asked_at is not None,
        returned_micros=returned if is_mine else 0,
        refund_url=_refund_letter(ctx, instance_id, instance.failure_code) if is_mine else "",
        # The payment page sends people here; its word for it comes a moment later.
        is_on_its_way="paid" in request.query_params,
    )


@router.get("/deploying/{instance_id}/progress")
def show_view(ctx: Ctx, instance_id: RowId) -> Response:
    """The same as JSON, for browsers that the stream does not reach."""
    with ctx.db.read() as db:
        return JSONResponse(progress.of_provision(db, _find(db.get(Instance, instance_id))))


@router.get("/deploying/{instance_id}/events")
async def stream_progress(request: Request, ctx: Ctx, instance_id: RowId) -> Response:
    """The same as server-sent events."""

    def look() -> dict[str, Any]:
        with ctx.db.read() as db:
            return progress.of_provision(db, _find(db.get(Instance, instance_id)))

    await streams.in_thread(look)  # a stranger's guess is a plain 404, before any stream begins
    return streams.respond_to(deps.client_address(request), streams.watch(request, look))


@router.post("/deploying/{instance_id}/retry")
def try_again(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """Build it once more after a failure."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        wake.ask_start(db, ctx, instance_id, deps.actor(owner))
    return RedirectResponse(f"/deploying/{instance_id}", 303)


@router.post("/deploying/{instance_id}/give-up")
def give_up(ctx: Ctx, owner: SignedIn, _form: OwnForm, instance_id: RowId) -> Response:
    """After a failure: the money back, and the order with everything of it deleted."""
    with ctx.db.tx() as db:
        owned(db, Instance, instance_id, owner.account.id)
        moneyback.give_up(db, ctx, instance_id, deps.actor(owner))
    return RedirectResponse(f"/deploying/{instance_id}", 303)


@router.get("/ready/{instance_id}")
def show_ready(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """Where to talk to it, and the one-time link that makes its bots the owner's."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        channels = connections.list_connections(db, instance_id)
        is_metered = ctx.plans.get(instance.plan).access == PlanMode.METERED
        standing = wallet.find(db, owner.account.id) if is_metered else None
        is_own_key = ctx.plans.get(instance.plan).access == PlanMode.OWN_KEY
        needs_key = is_own_key and ownkeys.find(db, instance_id) is None
    if instance.state != State.ACTIVE:
        return RedirectResponse(f"/deploying/{instance_id}", 303)
    bots = [
        {
            "label": ctx.channels[channel.channel].label if channel.channel in ctx.channels else channel.channel,
            "username": channel.bot_username,
            "url": channel.bot_url,
            "claim_url": connections.claim_url(channel, ctx.keys),
        }
        for channel in channels
    ]
    level = standing.level if standing else ""
    return page(request, "ready.html", instance=instance, bots=bots, level=level, needs_key=needs_key)


def _refund_letter(ctx: Context, instance_id: str, failure: str | None) -> str:
    """A letter to the operator, begun: money goes back by a person's hand."""
    subject = _("Please return my payment for the assistant %(id)s") % {"id": instance_id}
    body = _("It could not be built (%(reason)s). Please return the payment.") % {"reason": failure or "?"}
    return f"mailto:{ctx.settings.support_address}?" + urlencode({"subject": subject, "body": body}, quote_via=quote)


def _find(instance: Instance | None) -> Instance:
    if instance is None:
        raise NotFound("There is no such assistant.")
    return instance
