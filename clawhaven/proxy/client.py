"""An HTTP/1.1 client for the one thing the proxy does: POST a body to a vendor and read the answer as it comes.

General clients cost several times as much for each chunk of a stream (measured side by side: see bench/proxy). Parsing
is httptools' (llhttp, the parser of Node.js), TLS is the standard library's.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from clawhaven.core.tls import authorities
from clawhaven.proxy.answering import Answer, AnswerCut

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 15.0
"""How long an unused connection is kept. Vendors close theirs after a minute or more."""

MOST_IDLE = 512
MOST_HEADERS_BYTES = 64 * 1024
PAUSE_BYTES = 256 * 1024
"""So much unread answer makes the vendor wait for a slow client."""

UNREACHABLE = "The model cannot be reached at the moment."
BROKEN = "The model's answer broke off."
SILENT = "The model fell silent."
LATE = "The model did not answer in time."


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect."""

    host: str
    port: int
    is_secure: bool


class HttpClient:
    """Connections to vendors, kept open between requests."""

    def __init__(self) -> None:
        self._idle: dict[Place, deque[Connection]] = {}

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, silence: float, longest: float
    ) -> HttpAnswer:
        """Send a request; the answer once its headers are there. Whoever gets it must `close` it.

        `silence`: seconds without a byte after which the answer is cut; `longest`: seconds for all of it. Raises
        AnswerCut, ValueError for a header that is none.
        """
        place, target, host = _split(url)
        head = _head(target, host, headers, len(body))
        connection = self._take_idle(place) or await self._connect(place)
        answer = HttpAnswer(self, connection, silence, longest)
        has_begun = False
        try:
            connection.begin(answer, head, body)
            await answer.begun()
            has_begun = True
        finally:
            if not has_begun:
                answer.close()
        return answer

    def close(self) -> None:
        """Close what is open and unused."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next request to the same place."""
        idle = self._idle.setdefault(connection.place, deque())
        if len(idle) >= MOST_IDLE:
            connection.abort()
        else:
            idle.append(connection)

    def _take_idle(self, place: Place) -> Connection | None:
        idle, now = self._idle.get(place), asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if connection.is_usable and now - connection.used_at < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, place: Place) -> Connection:
        loop = asyncio.get_running_loop()
        tls = authorities() if place.is_secure else None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(lambda: Connection(place), place.host, place.port, ssl=tls)
        except TimeoutError:
            raise AnswerCut(LATE, 504) from None
        except OSError:  # ssl.SSLError is one
            raise AnswerCut(UNREACHABLE) from None
        return connection


class Connection(asyncio.Protocol):
    """One connection; it carries one answer at a time."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.used_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._answer: HttpAnswer | None = None
        self._parser: Any = None

    @property
    def is_usable(self) -> bool:
        """True while it is open and nothing came on it that nobody asked for."""
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, answer: HttpAnswer, head: bytes, body: bytes) -> None:
        """Send a request whose answer goes there."""
        self._answer, self._parser = answer, httptools.HttpResponseParser(answer)
        assert self._transport is not None
        self._transport.writelines((head, body))

    def release(self) -> None:
        """The answer is complete: the connection is free."""
        self._answer = self._parser = None
        self.used_at = asyncio.get_running_loop().time()

    def abort(self) -> None:
        """Close at once."""
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Let the vendor wait."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._answer is None:
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, zlib.error):
            self._answer.broke(BROKEN)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._transport = None
        if self._answer is not None:
            self._answer.hung_up(is_clean=exc is None)


class HttpAnswer(Answer):
    """A vendor's answer. Its parser's callbacks (`on_…`) fill it, `read` empties it."""

    def __init__(self, client: HttpClient, connection: Connection, silence: float, longest: float) -> None:
        super().__init__(0, {})
        self._client, self._connection = client, connection
        self._loop = asyncio.get_running_loop()
        self._silence, self._heard = silence, self._loop.time()
        self._end_at = self._heard + longest
        self._timer = self._loop.call_later(min(silence, longest), self._look)
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._size = self._headers_size = 0
        self._has_begun = self._is_whole = self._is_paused = self._ends_with_connection = False
        self._cut: AnswerCut | None = None
        self._unpack: Any = None

    async def begun(self) -> None:
        """Until the headers are there. Raises AnswerCut."""
        while not self._has_begun:
            if self._cut is not None:
                raise self._cut
            await self._wait()

    async def read(self) -> bytes:
        """What has come; empty at the end. Raises AnswerCut when it broke off (after all that came before it)."""
        while not self._chunks:
            if self._is_whole:
                return b""
            if self._cut is not None:
                raise self._cut
            await self._wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._is_paused:
            self._is_paused = False
            self._connection.resume()
        return data

    def close(self) -> None:
        """Give the connection back where the answer is complete, else close it: the vendor may stop working then."""
        self._timer.cancel()
        connection, can_go_on = self._connection, self._is_whole and not self._ends_with_connection
        if can_go_on and connection.is_usable:
            if self._is_paused:
                connection.resume()
            connection.release()
            self._client.keep(connection)
        else:
            connection.abort()

    def broke(self, reason: str, status: int = 529) -> None:
        """Nothing more will come."""
        if self._is_whole:
            self._ends_with_connection = True  # what follows it is nobody's: this connection is not used again
        elif self._cut is None:
            self._cut = AnswerCut(reason, status)
            self._connection.abort()
            self._wake()

    def hung_up(self, *, is_clean: bool) -> None:
        """The vendor closed the connection."""
        if self._has_begun and is_clean and self._ends_with_connection and not self._is_whole:
            self.on_message_complete()
        else:
            self.broke(BROKEN if self._has_begun else UNREACHABLE)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._is_whole:
            raise httptools.HttpParserError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers_size += len(name) + len(value)
        if self._headers_size > MOST_HEADERS_BYTES:
            raise httptools.HttpParserError("too many headers")
        if not self._has_begun:  # else they are trailers
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        parser = self._connection._parser
        self.status = parser.get_status_code()
        if not 100 <= self.status <= 599:
            raise httptools.HttpParserError("a status that is none")
        if self.status < 200:
            return  # an interim answer; `on_message_complete` follows it
        has_end = "content-length" in self.headers or "transfer-encoding" in self.headers
        self._ends_with_connection = not has_end and self.status not in (204, 304)
        if self.headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip", "deflate"):
            del self.headers["content-encoding"]  # though nobody asked for it: the client gets it unpacked
            self._unpack = zlib.decompressobj(47)
        self._has_begun = True
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self._heard = self._loop.time()
        self._add(data if self._unpack is None else self._unpack.decompress(data, MOST_UNPACKED))
        while self._unpack is not None and self._unpack.unconsumed_tail and self._size < MOST_UNPACKED:
            self._add(self._unpack.decompress(self._unpack.unconsumed_tail, MOST_UNPACKED))
        if self._unpack is not None and self._unpack.unconsumed_tail:
            raise httptools.HttpParserError("it unpacks to more than can be kept")

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self.status < 200:
            self.headers.clear()
            return
        if self._unpack is not None:
            self._add(self._unpack.flush())
            if not self._unpack.eof:
                self.broke(BROKEN)
                return
        self._is_whole = True
        parser = self._connection._parser
        if parser is not None and not parser.should_keep_alive():
            self._ends_with_connection = True
        self._wake()

    def _add(self, data: bytes) -> None:
        if not data:
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size > PAUSE_BYTES and not self._is_paused:
            self._is_paused = True
            self._connection.pause()
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        """Cut an answer that has been silent, or has lasted, for too long."""
        now = self._loop.time()
        if self._is_paused:
            self._heard = now  # it is the client who is slow
        next_look = min(self._heard + self._silence, self._end_at)
        if now < next_look:
            self._timer = self._loop.call_at(next_look, self._look)
        else:
            self.broke(SILENT if self._has_begun else LATE, 504)


MOST_UNPACKED = 8 * 1024 * 1024
"""Bytes that one piece of a packed answer may unpack to before somebody reads them."""


def _split(url: str) -> tuple[Place, str, str]:
    """Where to connect, what to ask for there, and the host to name. Remembered is the base alone: the rest is what
    clients send, and of any length."""
    begin = url.find("://") + 3
    end = min((at for mark in "/?#" if (at := url.find(mark, begin)) >= 0), default=len(url))
    place, host = _place(url[:end])
    target = url[end:].partition("#")[0]
    if not target.startswith("/"):
        target = f"/{target}"
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise ValueError("the address has characters that no address has")
    return place, target, host


@lru_cache(maxsize=256)
def _place(base: str) -> tuple[Place, str]:
    parts = urlsplit(base)
    is_secure = parts.scheme == "https"
    place = Place(parts.hostname or "", parts.port or (443 if is_secure else 80), is_secure)
    return place, parts.netloc.rpartition("@")[2]


def _head(target: str, host: str, headers: Mapping[str, str], size: int) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if lines.count("\r\n") != len(headers) or lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header has more than one line")
    return f"POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {size}\r\n{lines}\r\n".encode("latin-1")
