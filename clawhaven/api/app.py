"""The API application: routers, the one error renderer, and a bound on every body."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clawhaven import __version__
from clawhaven.api import accounts, billing, channels, chat, errors, instances, status, webhooks
from clawhaven.context import Context

MAX_BODY_BYTES = 1_000_000


class BodyLimit:
    """Refuses a body beyond the bound before it is read into memory: by its length, or while it arrives."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            await _refuse(send)
            return
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                return {"type": "http.disconnect"}
            return message

        await self.app(scope, bounded, send)


async def _refuse(send: Send) -> None:
    body = b'{"error":"too_large","message":"The body has at most 1 MB.","details":{}}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def create_app(ctx: Context) -> FastAPI:
    """The API of this installation, mounted at the root with every path under /api."""
    app = FastAPI(
        title=f"{ctx.settings.brand_name} API",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=errors.ERRORS,
    )
    app.state.ctx = ctx
    for module in (status, accounts, instances, chat, channels, billing, webhooks):
        app.include_router(module.router, prefix="/api")
    # The addresses that the seeds' customers have in their vendors' settings.
    app.add_api_route("/api/webhook/{provider}", webhooks.receive, methods=["POST"], include_in_schema=False)
    errors.install(app)
    app.add_middleware(BodyLimit)
    return app
