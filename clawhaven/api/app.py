"""The API application: routers, the one error renderer, and a bound on every body."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clawhaven import __version__
from clawhaven.api import (
    accounts,
    admin,
    apikey,
    backups,
    billing,
    channels,
    chat,
    errors,
    files,
    instances,
    integrations,
    invoices,
    model,
    oversight,
    prices,
    profile,
    programs,
    reference,
    sessions,
    skills,
    spending,
    status,
    subscriptions,
    topup,
    trial,
    watch,
    webhooks,
)
from clawhaven.context import Context
from clawhaven.core.errors import AppError, Invalid, NotFound, TooLarge

MAX_BODY_BYTES = 1_000_000
EXPORTS = "/api/admin/usage/"
MAX_EXPORT_BYTES = 8_000_000
"""A vendor's export of a month, by hour, model and key."""


class Bounds:
    """Refuses what no operation accepts, before it is read: a body beyond the bound (by its length, or while it
    arrives), and a NUL in the address, which no id has and PostgreSQL cannot compare."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if "\0" in scope["path"]:
            await _refuse(send, NotFound("Not Found."))
            return
        if b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
            await _refuse(send, Invalid("The query holds a NUL character.", field="query", reason="NUL character"))
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        most = MAX_EXPORT_BYTES if scope["path"].startswith(EXPORTS) else MAX_BODY_BYTES
        if not declared.isdigit() or int(declared[:20]) > most:
            await _refuse(send, _too_large(most))
            return
        arriving = _Arriving(receive, send, most)
        try:
            await self.app(scope, arriving.receive, arriving.send)
        except ClientDisconnect:
            if not arriving.is_over:
                raise
        if arriving.is_over and not arriving.has_answered:
            await _refuse(send, _too_large(most))


class _Arriving:
    """One request whose body is counted. Beyond the bound the app sees a client that went away, and its words about
    that are kept back."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self._most, self._seen = receive, send, most, 0
        self.is_over, self.has_answered = False, False

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._most:
            self.is_over = True
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self.is_over and not self.has_answered:
            return
        self.has_answered = True
        await self._send(message)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body has at most {most // 1_000_000} MB.")


async def _refuse(send: Send, error: AppError) -> None:
    body = json.dumps(error.as_json()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Described(FastAPI):
    """An application whose description leaves out the framework's own 422: what is wrong is a 400 here."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        found = super().openapi()
        for operations in found["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(name, None)
        return found


def create_app(ctx: Context) -> FastAPI:
    """The API of this installation, mounted at the root with every path under /api."""
    app = Described(
        title=f"{ctx.settings.brand_name} API",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=errors.ERRORS,
    )
    app.state.ctx = ctx
    for module in (
        status,
        accounts,
        profile,
        sessions,
        instances,
        files,
        backups,
        model,
        chat,
        channels,
        skills,
        apikey,
        integrations,
        programs,
        billing,
        spending,
        topup,
        subscriptions,
        admin,
        oversight,
        watch,
        prices,
        invoices,
        trial,
        webhooks,
        reference,
    ):
        app.include_router(module.router, prefix="/api")
    # The addresses that the seeds' customers have in their vendors' settings.
    app.add_api_route("/api/webhook/{provider}", webhooks.receive, methods=["POST"], include_in_schema=False)
    app.add_api_route("/api/billing/webhook", webhooks.receive_creem, methods=["POST"], include_in_schema=False)
    errors.install(app)
    app.add_middleware(Bounds)
    return app
