"""HTTP/1.1 as clients send it. Parsing is httptools' (llhttp).

A client may offer another protocol with any request, body and all (Java's does so with its first one: `Upgrade: h2c`),
and a server that ignores the offer goes on as if it were not there: RFC 9110, section 7.8. llhttp stops after such a
head and httptools drops the body; so that head is followed by one without the offer, which is not told of again.
"""

from __future__ import annotations

from typing import Any, Protocol

import httptools

FRAMING = ("content-length", "transfer-encoding")
"""The headers that say where a body ends."""

MOST_HEADERS_BYTES = 64 * 1024
"""Of a request's target and headers; httptools.HttpParserError beyond."""


class Taker(Protocol):
    """Who is told what came; the names are httptools'."""

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""

    def on_headers_complete(self) -> dict[str, str]:
        """The head is whole; returns its headers by their lower-case names."""

    def on_body(self, data: bytes) -> None:
        """A piece of its body."""

    def on_message_complete(self) -> None:
        """It is whole."""


class Parser:
    """Tells its taker of one request after the other."""

    def __init__(self, taker: Taker) -> None:
        self._taker, self._headers = taker, dict[str, str]()
        self._is_known = False
        """The head that is being read was told of before."""

        self.head_bytes = 0
        """Of the latest request's target and headers."""

        self.on_body = taker.on_body
        self._http: Any = httptools.HttpRequestParser(self)

    @property
    def method(self) -> str:
        """Of the request whose head came last."""
        return str(self._http.get_method().decode("latin-1"))

    @property
    def is_modern(self) -> bool:
        """True above HTTP/1.0."""
        return bool(self._http.get_http_version() != "1.0")

    @property
    def is_kept(self) -> bool:
        """True when its client wants the connection to stay."""
        return bool(self._http.should_keep_alive())

    def feed(self, data: bytes) -> None:
        """Read what came. Raises HttpParserError; HttpParserUpgrade after a CONNECT, where no HTTP follows."""
        while True:
            try:
                self._http.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.method == "CONNECT":
                    raise
                data = self._decline() + data[offer.args[0] :]
            else:
                return

    def close(self) -> None:
        """The client has gone: this and httptools' parser hold each other and the taker."""
        self._http = None

    def on_message_begin(self) -> None:
        """Called by httptools, as all of these."""
        if not self._is_known:
            self.head_bytes = 0
            self._taker.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        if not self._is_known:
            self._count(len(url))
            self._taker.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if not self._is_known:
            self._count(len(name) + len(value))
            self._taker.on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if not self._is_known:
            self._headers = self._taker.on_headers_complete()
        self._is_known = False

    def on_message_complete(self) -> None:
        """The request is whole; one with an offer seems so, and its body is still to come."""
        if not self._http.should_upgrade() or self.method == "CONNECT":
            self._taker.on_message_complete()

    def _count(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes > MOST_HEADERS_BYTES:
            raise httptools.HttpParserError("too many headers")

    def _decline(self) -> bytes:
        """The head once more, as far as the body needs it, for a fresh parser."""
        headers, version = self._headers, self._http.get_http_version()
        lines = [f"{name}: {headers[name]}\r\n" for name in FRAMING if name in headers]
        self._is_known, self._http = True, httptools.HttpRequestParser(self)
        return f"POST / HTTP/{version}\r\n{''.join(lines)}\r\n".encode("latin-1")
