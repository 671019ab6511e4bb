"""Whoever asks the proxy something: one request, and the way back; from a front's own server or from an ASGI server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


class Caller(Protocol):
    """One request, and the way back to whoever made it."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Lower-case names; of a name that stands twice, the last."""

    @property
    def peer(self) -> str:
        """The address from which the connection comes; empty when nobody knows."""

    status: int | None
    """Of the answer; None before it begins."""

    first_byte_at: float
    """time.perf_counter() when it began."""

    def receive(self) -> Awaitable[Message]:
        """As ASGI's: the next piece of the body, then that the client has gone."""

    def send(self, message: Message) -> Awaitable[None]:
        """As ASGI's: the answer's head, then its body."""


class AsgiCaller:
    """A request that an ASGI server brings."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        path, root = str(scope["path"]), str(scope.get("root_path", ""))
        self.method, self.path = str(scope["method"]), path.removeprefix(root) if root else path
        self.query = scope.get("query_string", b"").decode("latin-1")
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.peer = str((scope.get("client") or ("",))[0])
        self.status: int | None = None
        self.first_byte_at = 0.0
        self.receive, self._send = receive, send

    @property
    def has_lost_body(self) -> bool:
        """True for a body that came with the offer of another protocol: uvicorn with httptools drops it."""
        headers = self.headers
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        return has_body and "upgrade" in headers and "upgrade" in headers.get("connection", "").lower()

    async def send(self, message: Message) -> None:
        """Pass it on."""
        if self.status is None:
            self.status, self.first_byte_at = message["status"], time.perf_counter()
        await self._send(message)


class Answers(Protocol):
    """What requests are given to."""

    async def answer(self, caller: Caller) -> None:
        """Answer one request through its `send`."""

    async def close(self) -> None:
        """The server has stopped."""
