"""`/metrics` for Prometheus: with METRICS_TOKEN whoever sends it, without it only this machine, and nobody through a
reverse proxy. Everybody else finds nothing here."""

from __future__ import annotations

import ipaddress

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clawhaven.context import Context
from clawhaven.core import metrics, secrets
from clawhaven.core.errors import NotFound
from clawhaven.web.deps import Ctx
from clawhaven.workflows import figures

router = APIRouter()

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@router.get("/metrics", include_in_schema=False)
def show_metrics(request: Request, ctx: Ctx) -> Response:
    """This installation's figures, and what every proxy process of this host has counted."""
    if not may_read(ctx, request):
        raise NotFound("This address leads nowhere. It may have been mistyped, or the page is gone.")
    text = metrics.page([("", figures.read(ctx).snapshot()), *metrics.shared(ctx.settings.data_dir)])
    return Response(text, media_type=metrics.CONTENT_TYPE)


def may_read(ctx: Context, request: Request) -> bool:
    """True for who sends the token; where there is none, for this machine itself."""
    token = ctx.settings.metrics_token.get_secret_value()
    if token:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and secrets.same(given.strip(), token)
    # Behind a proxy that says nothing of itself everybody looks like this machine, so in production it takes the token.
    is_proxied = ctx.settings.trusted_proxy_count or any(name in request.headers for name in FORWARDED)
    if ctx.settings.is_production or is_proxied:
        return False
    host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
    peer = request.client.host if request.client else ""
    return _is_loopback(peer) and (_is_loopback(host) or host == "localhost")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
