"""A client's connection to a front: requests as they come in, answers as they go out, one after the other.

What a general server does for everybody (a scope and a task for each request, two writes for each answer) was a third
of a front's time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from clawhaven.core.logs import get_logger
from clawhaven.proxy.callers import Answers, Message
from clawhaven.proxy.parser import MOST_HEADERS_BYTES, Parser

HEAD_SECONDS = 20.0
"""So long a client may take for a request's headers."""

KEPT_SECONDS = 75.0
"""So long a connection may wait for its next request."""

TAKING_SECONDS = 120.0
"""A client that takes no byte of its answer for so long, or sends none of its request, is gone."""

BODY_SECONDS = 300.0
"""So long a client may take for a whole request: for 32 MB at 110 kB a second."""

HIGH_WATER = 256 * 1024
"""So many bytes of a request that nobody has read yet make the client wait."""

PASSED_SECONDS, PASSED_BYTES = 5.0, 1024 * 1024
"""So much of a refused request is passed over for the sake of the next one; then its connection is closed."""

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
log = get_logger(__name__)


class Server(Protocol):
    """What a connection needs of its server."""

    answers: Answers
    loop: asyncio.AbstractEventLoop
    date: bytes
    """A header line, with its end."""

    def enter(self, connection: Connection) -> None:
        """A connection is there."""

    def leave(self, connection: Connection) -> None:
        """It has gone; its task may still have something to settle."""


class Request:
    """A request as it comes in, and its answer as it goes out."""

    __slots__ = (
        "_connection",
        "_head",
        "_is_chunked",
        "_left",
        "body",
        "first_byte_at",
        "has_ended",
        "headers",
        "is_kept",
        "is_modern",
        "is_whole",
        "method",
        "path",
        "query",
        "status",
        "target",
        "wants_word",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.method = self.path = self.query = ""
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.is_whole = self.is_kept = self.wants_word = self.has_ended = False
        self.status: int | None = None
        self.first_byte_at = 0.0
        self.is_modern = True
        self.target, self._head, self._is_chunked, self._left = b"", b"", False, 0

    async def receive(self) -> Message:
        """The next piece of the body, then that the client has gone."""
        connection = self._connection
        while True:
            if connection.is_lost:
                return {"type": "http.disconnect"}
            if self.body or (self.is_whole and not self.has_ended):
                data = self.body[0] if len(self.body) == 1 else b"".join(self.body)
                self.body.clear()
                self.has_ended = self.is_whole
                connection.go_on_reading()
                return {"type": "http.request", "body": data, "more_body": not self.is_whole}
            if self.wants_word:
                self.wants_word = False
                connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await connection.wait()

    async def send(self, message: Message) -> None:
        """The answer's head, then its body; waits while the client takes nothing."""
        connection = self._connection
        if connection.is_lost:
            return
        if self.status is None:
            self._begin(message["status"], message["headers"])
            return
        data, is_last = message.get("body", b""), not message.get("more_body", False)
        if self.method == "HEAD":
            data = b""
        elif self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            data += b"0\r\n\r\n" if is_last else b""
        elif (left := self._left) >= 0:
            self._left = left = left - len(data)
            if left < 0 or (is_last and left):
                raise RuntimeError("the answer is not as long as its content-length says")
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            connection.write(data)
        if connection.is_full:
            await connection.drained()

    @property
    def peer(self) -> str:
        """The address from which the connection comes."""
        return self._connection.peer

    @property
    def is_pending(self) -> bool:
        """True when the answer's head waits for its body."""
        return bool(self._head)

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status, self.first_byte_at = status, time.perf_counter()
        lines, size = [b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"")), self._connection.server.date], -1
        for name, value in headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                size = int(value)
        if size < 0 and status not in (204, 304) and self.method != "HEAD":
            self._is_chunked = self.is_modern
            if self._is_chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.is_kept = False
        if not (self.is_kept and self._connection.is_kept):
            self.is_kept = False
            lines.append(b"connection: close\r\n")
        self._left, self._head = size, b"".join([*lines, b"\r\n"])
        if size < 0:  # a stream: its client wants to know that it begins; a piece that is there already goes with it
            self._connection.server.loop.call_soon(self._send_head)

    def _send_head(self) -> None:
        head, self._head = self._head, b""
        self._connection.write(head)


class Connection(asyncio.Protocol):
    """One client. Its requests are answered one after the other, in one task."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._transport: asyncio.Transport | None = None
        self._parser: Parser | None = Parser(self)
        self._coming: Request | None = None
        self._requests: deque[Request] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._heard = self._begun_at = server.loop.time()
        self._is_paused, self._is_broken = False, False
        self.is_kept, self.is_lost, self.is_full, self.peer = True, False, False, ""
        self.task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """True between requests."""
        return not self._requests and self._coming is None

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self._transport is not None:
            self._transport.write(data)

    def go_on_reading(self) -> None:
        """Somebody has read what came."""
        if self._is_paused and len(self._requests) < 2 and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    async def wait(self) -> None:
        """Until something comes, or the client goes."""
        self._waiter = mine = self.server.loop.create_future()
        try:
            await mine
        finally:
            if self._waiter is mine:
                self._waiter = None

    async def drained(self) -> None:
        """Until the client has taken enough of what was sent."""
        self._drain = self.server.loop.create_future()
        self._heard = self.server.loop.time()
        try:
            await self._drain
        finally:
            self._drain = None

    def stop(self) -> None:
        """Answer what has come, and nothing after it."""
        self.is_kept = False
        if self.is_idle and self._transport is not None:
            self._transport.close()

    def look(self, now: float) -> None:
        """Part with a client that does nothing where it should."""
        is_coming = bool(self._requests) and not self._requests[0].is_whole and not self._is_paused
        if self.is_full or is_coming:
            is_over = now - self._heard > TAKING_SECONDS or (is_coming and now - self._begun_at > BODY_SECONDS)
        elif self._coming is not None:
            is_over = not self._requests and now - self._begun_at > HEAD_SECONDS
        else:
            is_over = not self._requests and now - self._heard > KEPT_SECONDS
        if is_over and self._transport is not None:
            self._transport.abort()

    async def _answer_all(self) -> None:
        try:
            while not self.is_lost:
                if self._requests:
                    request = self._requests[0]
                    await self._answer(request)
                    if not request.is_whole:
                        await self._pass_over(request)
                    self._requests.popleft()
                    if not (request.is_kept and self.is_kept):
                        return
                    self._heard = self.server.loop.time()
                    self.go_on_reading()
                elif self._is_broken:
                    return
                else:
                    await self.wait()
        finally:
            if self._transport is not None:
                self._transport.close()

    async def _pass_over(self, request: Request) -> None:
        """The rest of a request that was refused before it was whole."""
        left = PASSED_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(PASSED_SECONDS):
                while not (request.is_whole or self.is_lost or self._is_broken) and left > 0:
                    left -= sum(map(len, request.body))
                    request.body.clear()
                    self.go_on_reading()
                    await self.wait()
        request.is_kept = request.is_kept and request.is_whole

    async def _answer(self, request: Request) -> None:
        is_done = False
        try:
            await self.server.answers.answer(request)
            if (request.status is None or request.is_pending) and not self.is_lost:
                raise RuntimeError("a request was not answered")
            is_done = True
        except asyncio.CancelledError:
            is_done = True  # the server stops; the connection is closed with its task
            raise
        finally:
            if not is_done:
                self._break_off(request)

    def _break_off(self, request: Request) -> None:
        """Nobody expected this: the client must see that its answer ends here."""
        if request.status is None:
            self.write(b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        self.server.enter(self)
        self.task = self.server.loop.create_task(self._answer_all())
        self.task.add_done_callback(_note)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._transport, self.is_lost, self.is_full = None, True, False
        if self._parser is not None:
            self._parser.close()  # it holds this connection, as this does it
        self._parser = None
        self.server.leave(self)
        self._wake()

    def pause_writing(self) -> None:
        """Called by asyncio."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self.is_full = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._heard = self.server.loop.time()
        if self._is_broken or self._parser is None:
            return
        try:
            self._parser.feed(data)
        except httptools.HttpParserUpgrade:
            for request in self._requests:
                request.is_kept = False  # what follows a CONNECT is in another protocol, which nobody here speaks
            self._is_broken = not self._requests
        except httptools.HttpParserError:
            self._refuse()
        requests = self._requests
        is_much = bool(requests) and (len(requests) > 1 or sum(map(len, requests[0].body)) > HIGH_WATER)
        if is_much and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._coming, self._begun_at = Request(self), self._heard

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        cast(Request, self._coming).target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        request = self._coming
        if request is not None and request not in self._requests:  # else they are trailers, which change nothing
            request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> dict[str, str]:
        """Called by the parser."""
        request, parser = cast(Request, self._coming), cast(Parser, self._parser)
        path, _, query = request.target.decode("latin-1").partition("?")
        if not path.startswith("/"):
            path = httptools.parse_url(request.target).path.decode("latin-1") or "/"
        request.path, request.query, request.method = path, query, parser.method
        request.is_kept, request.is_modern = parser.is_kept, parser.is_modern
        request.wants_word = request.headers.get("expect", "").lower() == "100-continue"
        self._requests.append(request)
        self._wake()
        return request.headers

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self._requests[-1].body.append(data)
        self._wake()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._requests[-1].is_whole = True
        self._coming = None
        self._wake()

    def _refuse(self) -> None:
        """Something that is no HTTP: requests before it are answered, nothing after it is."""
        self._is_broken = True
        for request in self._requests:
            request.is_kept = False
        if not self._requests or (self._requests[0].status is None and not self._requests[0].is_whole):
            is_long = self._parser is not None and self._parser.head_bytes > MOST_HEADERS_BYTES
            status = b"431 Request Header Fields Too Large" if is_long else b"400 Bad Request"
            self.write(b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
            if self._transport is not None:
                self._transport.close()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._drain is not None and not self._drain.done() and not self.is_full:
            self._drain.set_result(None)


def _note(task: asyncio.Task[None]) -> None:
    """The one place that hears what nobody expected."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("request_failed", exc_info=error)
