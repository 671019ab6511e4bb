"""Payment events: verified over the raw bytes, stored, answered; the work happens elsewhere."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from clawhaven.api.deps import Ctx, limit
from clawhaven.context import Context
from clawhaven.core.errors import Invalid, NotFound, TooLarge
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import BadSignature
from clawhaven.workflows import alarms, money, payments

router = APIRouter(tags=["webhooks"])

MAX_EVENT_BYTES = 1_000_000


async def raw_body(request: Request) -> bytes:
    """The body as it came, bounded. Raises TooLarge."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_EVENT_BYTES:
            raise TooLarge("A payment event has at most 1 MB.")
        chunks.append(chunk)
    return b"".join(chunks)


@router.post("/webhooks/{provider}")
async def receive(provider: str, request: Request, ctx: Ctx) -> dict[str, Any]:
    """A vendor's event. 200 once it is stored, also when it was stored before; 400 when it is not theirs."""
    body = await raw_body(request)
    return await run_in_threadpool(_store, ctx, request, provider, body)


async def receive_creem(request: Request, ctx: Ctx) -> dict[str, Any]:
    """Creem's events at an address that a former product had."""
    return await receive("creem", request, ctx)


def _store(ctx: Context, request: Request, provider: str, body: bytes) -> dict[str, Any]:
    """Only what nobody signed is counted: on the first of the month a vendor rightly sends more than a stranger may."""
    if provider not in ctx.payments:
        limit(ctx, request, "webhooks", ctx.settings.webhooks_per_minute)
        raise NotFound("There is no such payment provider here.")
    try:
        is_new = payments.receive(ctx, provider, dict(request.headers), body)
    except BadSignature as error:
        limit(ctx, request, "webhooks", ctx.settings.webhooks_per_minute)
        money.note_refused(ctx, provider, "not signed by the vendor, or too long ago")
        raise Invalid("This event is not signed by the payment provider.", code="bad_signature") from error
    except ProviderError as error:
        money.note_refused(ctx, provider, f"signed and not readable ({error.code})")
        raise Invalid("This event is signed, but not in a shape we know.", code=error.code) from error
    alarms.note_heard(ctx, provider)
    return {"received": True, "duplicate": not is_new}
