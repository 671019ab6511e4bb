"""What every answer carries and every request must keep to: security headers and a limit on bodies. Pure ASGI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clawhaven.context import Context
from clawhaven.core.errors import TooLarge

FOR_ALL_SITES = {"Cross-Origin-Resource-Policy": "cross-origin"}
"""The header of what other sites may show."""
MAX_BODY_BYTES = 256 * 1024


def headers_for(ctx: Context) -> dict[str, str]:
    """The headers of every answer. Pages may post forms to this site, to payment vendors' own pages and
    to consent pages only."""
    is_https = ctx.settings.base_url.startswith("https://")
    targets = " ".join(["'self'", *_form_targets(ctx)])
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "manifest-src 'self'; "
        f"form-action {targets}; frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    if is_https:
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


def _form_targets(ctx: Context) -> list[str]:
    """Origins that a form may end at. Browsers check redirects too, and a sign-up ends at the vendor's page."""
    pages: list[str] = [ctx.settings.base_url]
    for provider in ctx.payments.values():
        offered: Iterable[str] = getattr(provider, "checkout_origins", ())
        pages += offered
    pages += [integration.consent_origin for integration in ctx.integrations.values() if integration.is_ready]
    return sorted({origin_of(page) for page in pages})


def origin_of(url: str) -> str:
    """`https://example.com/a?b` becomes `https://example.com`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class Guard:
    """Adds the headers (an answer's own win) and refuses bodies that are too long. Buffers nothing."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise TooLarge(f"This is more than {MAX_BODY_BYTES // 1024} KB, which is too long for a form.")
            return message

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive_limited, send_guarded)
