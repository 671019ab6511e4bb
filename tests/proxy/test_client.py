"""The HTTP client for vendors: one answer after another, limits of time and size, nothing that is somebody else's."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable

import pytest

from clawhaven.proxy import client as module
from clawhaven.proxy.answering import AnswerCut
from clawhaven.proxy.client import HttpAnswer, HttpClient, Place, _place, _split

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


class Server:
    """A server on loopback; `say` gets reader, writer and the number of the request on its connection."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.connections = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(size))
                await self._say(reader, writer, number)
                await writer.drain()
                number += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def whole(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    head = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status}\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body


def says(data: bytes, *, close: bool = False) -> Say:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(data)
        if close:
            writer.close()

    return say


async def post(client: HttpClient, url: str, body: bytes = b"{}", **limits: float) -> HttpAnswer:
    return await client.post(url, {"x-key": "k"}, body, **{"silence": 20.0, "longest": 60.0, **limits})


async def read(answer: HttpAnswer) -> bytes:
    found = bytearray()
    while chunk := await answer.read():
        found += chunk
    return bytes(found)


def run(say: Say, use: Callable[[HttpClient, Server], Awaitable[None]]) -> Server:
    async def all_of_it() -> Server:
        async with Server(say) as server:
            client = HttpClient()
            await use(client, server)
            client.close()
        return server

    return asyncio.run(all_of_it())


def test_a_connection_serves_again_once_its_answer_was_read() -> None:
    async def use(client: HttpClient, server: Server) -> None:
        for number in range(3):
            answer = await post(client, f"{server.url}/v1/x?y={number}", b"b%d" % number)
            assert (answer.status, answer.headers["x-more"], await read(answer)) == (200, "Yes", b"hello")
            answer.close()

    server = run(says(whole(b"hello", "X-More: Yes")), use)
    assert server.connections == 1
    assert server.bodies == [b"b0", b"b1", b"b2"]
    assert server.heads[1].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nx-key: k\r\n" in server.heads[1]


@pytest.mark.parametrize(
    "data",
    [
        whole(b"hello", "connection: close"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        whole(b"hello") + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmore",
        whole(b"hello") + b"what",
    ],
    ids=["close", "1.0", "another answer", "rubbish"],
)
def test_a_connection_that_cannot_go_on_is_not_used_again(data: bytes) -> None:
    async def use(client: HttpClient, server: Server) -> None:
        for _ in range(2):
            answer = await post(client, server.url)
            assert await read(answer) == b"hello"
            answer.close()

    assert run(says(data), use).connections == 2


def test_an_answer_left_unread_takes_its_connection_with_it() -> None:
    async def use(client: HttpClient, server: Server) -> None:
        answer = await post(client, server.url)
        answer.close()
        again = await post(client, server.url)
        assert again.status == 200
        again.close()

    assert run(says(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nnot all"), use).connections == 2


def test_without_a_length_the_connections_end_is_the_answers() -> None:
    async def use(client: HttpClient, server: Server) -> None:
        answer = await post(client, server.url)
        assert await read(answer) == b"until I hang up"
        answer.close()

    run(says(b"HTTP/1.1 200 OK\r\n\r\nuntil I hang up", close=True), use)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ],
)
def test_what_came_before_a_break_is_read_first(data: bytes) -> None:
    async def use(client: HttpClient, server: Server) -> None:
        answer = await post(client, server.url)
        assert await answer.read() == b"hello"
        with pytest.raises(AnswerCut, match="broke off"):
            await answer.read()
        answer.close()

    run(says(data, close=True), use)


@pytest.mark.parametrize("data", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 999 What\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: "])
def test_no_answer_is_told_as_one(data: bytes) -> None:
    async def use(client: HttpClient, server: Server) -> None:
        with pytest.raises(AnswerCut) as cut:
            await post(client, server.url)
        assert cut.value.status == 529

    run(says(data, close=True), use)


def test_nobody_there_is_told_as_unreachable() -> None:
    async def use() -> None:
        with pytest.raises(AnswerCut, match="cannot be reached"):
            await post(HttpClient(), "http://127.0.0.1:9")

    asyncio.run(use())


def test_silence_and_length_are_limited() -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(100):
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def quiet(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        await asyncio.sleep(3)

    async def too_long(client: HttpClient, server: Server) -> None:
        answer = await post(client, server.url, silence=1.0, longest=0.4)
        with pytest.raises(AnswerCut) as cut:
            await read(answer)
        assert cut.value.status == 504
        answer.close()

    async def too_quiet(client: HttpClient, server: Server) -> None:
        with pytest.raises(AnswerCut, match="in time") as cut:
            await post(client, server.url, silence=0.3)
        assert cut.value.status == 504

    run(trickle, too_long)
    run(quiet, too_quiet)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_packed_answer_is_unpacked(coding: str) -> None:
    text = b"hello " * 10_000
    packed = gzip.compress(text) if coding == "gzip" else zlib.compress(text)

    async def use(client: HttpClient, server: Server) -> None:
        answer = await post(client, server.url)
        assert "content-encoding" not in answer.headers
        assert await read(answer) == text
        answer.close()

    run(says(whole(packed, f"Content-Encoding: {coding}")), use)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNPACKED", 100_000)

    async def use(client: HttpClient, server: Server) -> None:
        answer = await post(client, server.url)
        with pytest.raises(AnswerCut, match="broke off"):
            await read(answer)
        answer.close()

    run(says(whole(gzip.compress(bytes(50_000_000)), "content-encoding: gzip")), use)


def test_a_fast_vendor_waits_for_a_slow_reader() -> None:
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000

    async def use(client: HttpClient, server: Server) -> None:
        answer = await post(client, server.url)
        await asyncio.sleep(0.7)
        assert sent < 20_000_000
        assert len(await read(answer)) == 50_000_000
        answer.close()

    run(flood, use)


def test_a_header_of_two_lines_is_refused() -> None:
    async def use(client: HttpClient, server: Server) -> None:
        for value in ("a\r\nx-admin: 1", "a\nb", "a\rb"):
            with pytest.raises(ValueError, match="line"):
                await client.post(server.url, {"x": value}, b"", silence=1, longest=1)
        with pytest.raises(ValueError, match="characters"):
            await client.post(server.url + "/a b", {}, b"", silence=1, longest=1)

    assert run(says(whole(b"")), use).heads == []


def test_more_headers_than_anybody_needs_end_it() -> None:
    lines = [f"x-{number}: {'y' * 1000}" for number in range(100)]

    async def use(client: HttpClient, server: Server) -> None:
        with pytest.raises(AnswerCut):
            await post(client, server.url)

    run(says(whole(b"hello", *lines)), use)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example/v1/messages?beta=true", (Place("api.example", 443, True), "/v1/messages?beta=true")),
        ("http://[::1]:8080", (Place("::1", 8080, False), "/")),
        ("http://127.0.0.1:80?a=b/c", (Place("127.0.0.1", 80, False), "/?a=b/c")),
        ("http://x/a?b=http://y/#c", (Place("x", 80, False), "/a?b=http://y/")),
    ],
)
def test_an_address_is_split_into_place_and_target(url: str, expected: tuple[Place, str]) -> None:
    assert _split(url)[:2] == expected


def test_what_clients_put_into_addresses_is_not_remembered() -> None:
    _place.cache_clear()
    for number in range(50):
        assert _split(f"http://u:p@x:81/v1?{number}")[2] == "x:81"
    assert _place.cache_info().currsize == 1


@pytest.mark.parametrize("target", ["/a b", "/a\r\nb", "/\t", "/\x00", "/é"])
def test_an_address_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="address"):
        _split(f"http://x{target}")
