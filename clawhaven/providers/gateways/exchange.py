"""One HTTP exchange with a gateway that may be broken or hostile: bounded as a whole, in time and in bytes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2

from clawhaven.core.tls import authorities
from clawhaven.ports.errors import ProviderError

LARGEST_ANSWER_BYTES = 1_000_000
LONGEST_PROBLEM = 500
"""Characters of a gateway's error text that go on to the books and to the owner."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its status and its bytes, as they came."""

    status: int
    content: bytes

    def read_json(self) -> Any:
        """The JSON in it. ValueError when there is none, or when it is nested beyond reason."""
        return read_json(self.content)


def read_json(text: str | bytes) -> Any:
    """Decode JSON of a gateway. ValueError when it is none, or when it is nested beyond reason."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested beyond reason") from None


def plain(value: Any, longest: int) -> str:
    """A gateway's words in a form that every database and page takes: printable, whole characters, not too many."""
    text = str(value)[: 4 * longest] if isinstance(value, str | int | float) else ""
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()[:longest]


def new_client() -> httpx2.Client:
    """A client for `fetch`. A connection serves one exchange, so that the line that is cut is known."""
    # Gateways are on loopback or private networks; a proxy of the environment must never see the token.
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.Client(trust_env=False, follow_redirects=False, limits=limits, verify=authorities())


def fetch(
    client: httpx2.Client, verb: str, url: str, body: Any, headers: Mapping[str, str], timeout_seconds: float
) -> Answer:
    """The answer to one request, whole or not at all.

    ProviderError: `unreachable` when nobody answers or the answer takes longer than `timeout_seconds` from the first
    byte sent to the last one read; `not_ready` when it has more than LARGEST_ANSWER_BYTES.
    """
    # "identity": a small answer that unpacks to a large one is not unpacked.
    asked = {**headers, "Accept-Encoding": "identity"}
    with _Line(max(0.0, timeout_seconds)) as line:
        patience = httpx2.Timeout(max(0.001, timeout_seconds))
        extensions = {"trace": line.watch}
        try:
            with client.stream(verb, url, json=body, headers=asked, timeout=patience, extensions=extensions) as coming:
                content = bytearray()
                for piece in coming.iter_raw():
                    content += piece
                    if len(content) > LARGEST_ANSWER_BYTES:
                        message = f"{url}: the answer has more than {LARGEST_ANSWER_BYTES} bytes"
                        raise ProviderError(message, code="not_ready")
        except httpx2.HTTPError as error:
            why = f"no whole answer in {timeout_seconds:.3g} s" if line.is_cut else str(error) or type(error).__name__
            raise ProviderError(f"{url}: {why}", code="unreachable") from None
        if line.is_cut:  # an answer without a length looks whole when its line is cut
            raise ProviderError(f"{url}: no whole answer in {timeout_seconds:.3g} s", code="unreachable")
        return Answer(coming.status_code, bytes(content))


class _Line:
    """The connection under one exchange, cut when its time is over.

    The client's own timeouts are for one read each: a server that sends a byte now and then never meets them.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._changing = threading.Lock()
        self._stream: Any = None
        self.is_cut = False

    def __enter__(self) -> _Line:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx2's `trace` extension: it tells of the connection as soon as there is one."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._changing:
                self._stream = info["return_value"]
                if self.is_cut:
                    self._end()

    def _cut(self) -> None:
        with self._changing:
            self.is_cut = True
            if self._stream is not None:
                self._end()

    def _end(self) -> None:
        with suppress(OSError):
            # Not the method of an SSLSocket, which would also forget its keys under the reader's hands.
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)
