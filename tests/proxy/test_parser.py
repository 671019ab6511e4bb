"""What a client sends, told to a taker: with offers of another protocol, which nobody here takes up."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import httptools
import pytest

from clawhaven.proxy.parser import MOST_HEADERS_BYTES, Parser
from tests.proxy.test_connections import GET, LAST, Running, post, started

OFFER = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
CHUNKED = f"POST /two HTTP/1.1\r\nHost: here\r\n{OFFER}Transfer-Encoding: chunked\r\n\r\n".encode()


class Heard:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._target, self._headers, self._body = "", dict[str, str](), b""
        self.parser = Parser(self)

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = "", {}, b""

    def on_url(self, url: bytes) -> None:
        self._target += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> dict[str, str]:
        return self._headers

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self.requests.append((self._target, self._headers, self._body))

    @property
    def bodies(self) -> list[tuple[str, bytes]]:
        return [(target, body) for target, _, body in self.requests]


@pytest.fixture
def front() -> Iterator[Running]:
    with started() as running:
        yield running


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_an_offer_of_another_protocol_costs_no_byte(size: int) -> None:
    body = bytes(range(256)) * 10
    sent = post("/one", body, headers=OFFER) + CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
    sent += GET.replace(b"Host", OFFER.encode() + b"Host") + post("/last", b"plain")
    heard = Heard()
    for start in range(0, len(sent), size):
        heard.parser.feed(sent[start : start + size])
    assert heard.bodies == [("/one", body), ("/two", b"abcd"), ("/one?q=1", b""), ("/last", b"plain")]
    assert heard.requests[0][1]["upgrade"] == "h2c"
    assert heard.parser.is_kept


def test_what_frames_no_body_is_refused_with_an_offer_too() -> None:
    for bad in ("Content-Length: 3\r\nTransfer-Encoding: chunked", "Content-Length: x", "Transfer-Encoding: gzip"):
        heard = Heard()
        with pytest.raises(httptools.HttpParserError):
            heard.parser.feed(f"POST / HTTP/1.1\r\n{OFFER}{bad}\r\n\r\n3\r\nabc\r\n0\r\n\r\n".encode())
        assert heard.requests == []


def test_after_a_connect_there_is_no_http() -> None:
    heard = Heard()
    with pytest.raises(httptools.HttpParserUpgrade):
        heard.parser.feed(b"CONNECT here:443 HTTP/1.1\r\nHost: here\r\n\r\n\x16\x03")
    assert [target for target, _ in heard.bodies] == ["here:443"]


def test_a_head_is_so_long_at_most() -> None:
    heard = Heard()
    heard.parser.feed(b"GET / HTTP/1.1\r\nX: " + b"y" * (MOST_HEADERS_BYTES - 2) + b"\r\n\r\n")
    assert len(heard.requests) == 1
    with pytest.raises(httptools.HttpParserError):
        heard.parser.feed(b"GET / HTTP/1.1\r\nX: " + b"y" * MOST_HEADERS_BYTES + b"\r\n\r\n")
    assert heard.parser.head_bytes > MOST_HEADERS_BYTES


def test_one_that_is_closed_is_gone_without_the_collector() -> None:
    gc.disable()
    try:
        heard = Heard()
        heard.parser.feed(post("/one", b"body", headers=OFFER))
        gone = weakref.ref(heard.parser)
        heard.parser.close()
        del heard.parser
        assert gone() is None
    finally:
        gc.enable()


def test_a_front_answers_an_offer_with_the_whole_body_and_keeps_the_connection(front: Running) -> None:
    body = b"x" * 300_000
    answer = front.ask(
        post("/one", body, headers=OFFER) + CHUNKED + b"2\r\nab\r\n0\r\n\r\n" + post("/3", b"", headers=LAST)
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert b"POST /one  " + body + b"HTTP" in answer
    assert b"POST /two  abHTTP" in answer
    assert answer.endswith(b"POST /3  ")


def test_a_front_tells_who_offers_and_frames_nothing(front: Running) -> None:
    assert front.ask(f"POST / HTTP/1.1\r\n{OFFER}Transfer-Encoding: gzip\r\n\r\nabc".encode()).startswith(b"HTTP/1.1 4")
