"""A front's HTTP as clients may speak it: kept, pipelined, chunked, old, broken, slow, gone."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from clawhaven.proxy import connections
from clawhaven.proxy.callers import Caller
from clawhaven.proxy.connections import MOST_HEADERS_BYTES
from clawhaven.proxy.front import FrontServer
from clawhaven.proxy.processes import event_loop_factory

GET = b"GET /one?q=1 HTTP/1.1\r\nHost: here\r\n\r\n"


class Echo:
    """Says what it was asked. `/stream` answers in pieces, `/deaf` reads nothing, `/slow` waits for its client to go,
    `/leave` too and says nothing then, `/nothing` says nothing at once, `/long` sends more than a client takes, `/late`
    breaks off, `/broken` fails, `/wait` answers when it is let. The header `x-tell` is said as well, with the client's
    address for `PEER`."""

    def __init__(self) -> None:
        self.gone, self.let, self.is_closed = threading.Event(), threading.Event(), False
        self.sent = 0

    async def answer(self, caller: Caller) -> None:
        """Answer one request."""
        if caller.path == "/broken":
            raise ValueError("nobody expected this")
        if caller.path == "/nothing":
            return
        if caller.path in ("/slow", "/leave"):
            while (await caller.receive())["type"] != "http.disconnect":
                pass
            self.gone.set()
            if caller.path == "/leave":
                return
        body, has_more = b"", caller.path != "/deaf"
        while has_more:
            message = await caller.receive()
            if message["type"] == "http.disconnect":
                break
            body += message["body"]
            has_more = message["more_body"]
        if caller.path == "/wait":
            await asyncio.to_thread(self.let.wait, 3)
        said = f"{caller.method} {caller.path} {caller.query} ".encode() + body
        said += caller.headers.get("x-tell", "").replace("PEER", caller.peer).encode()
        head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]}
        if caller.path not in ("/stream", "/long", "/late"):
            await caller.send(head)
            await caller.send({"type": "http.response.body", "body": said})
            return
        await caller.send({**head, "headers": []})
        for _ in range(3 if caller.path != "/long" else 3_000):
            await caller.send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            self.sent += 1
        if caller.path == "/late":
            raise ValueError("nobody expected this")
        await caller.send({"type": "http.response.body", "body": b"end"})

    async def close(self) -> None:
        """The server has stopped."""
        self.is_closed = True


class Running:
    """A front server in a thread."""

    def __init__(self) -> None:
        self.echo, self._is_up = Echo(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._is_up.wait(10)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, data: bytes) -> bytes:
        """All that comes back until the server hangs up."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def stop(self) -> None:
        self._server.loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        async def serve() -> None:
            listener = socket.create_server(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
            self._server = FrontServer(self.echo, listener, stop_seconds=0.5)
            asyncio.get_running_loop().call_soon(self._is_up.set)
            await self._server.serve()

        with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
            runner.run(serve())


def read_all(client: socket.socket) -> bytes:
    found = []
    while data := client.recv(65536):
        found.append(data)
    return b"".join(found)


def post(path: str, body: bytes, *, headers: str = "", version: str = "1.1") -> bytes:
    head = f"POST {path} HTTP/{version}\r\nHost: here\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


LAST = "Connection: close\r\n"


@pytest.fixture
def front() -> Iterator[Running]:
    with started() as running:
        yield running


@contextmanager
def started() -> Iterator[Running]:
    running = Running()
    yield running
    if not running.echo.is_closed:
        running.stop()
    assert running.echo.is_closed


def test_requests_on_one_connection_are_answered_in_their_order(front: Running) -> None:
    answer = front.ask(GET + post("/two", b"body") + post("/three", b"", headers=LAST))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"GET /one q=1 ", b"POST /two  body", b"POST /three  "]
    assert answer.count(b"\r\ndate: ") == 3
    assert answer.count(b"connection: close") == 1


def test_a_request_may_come_byte_by_byte_and_in_chunks(front: Running) -> None:
    head = b"POST /one HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    with front.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n":
            client.send(bytes([byte]))
        assert read_all(client).endswith(b"POST /one  abcde")


def test_trailers_change_no_header(front: Running) -> None:
    head = b"POST /one HTTP/1.1\r\nx-tell: me\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert front.ask(head + b"1\r\na\r\n0\r\nX-Tell: you\r\n\r\n").endswith(b"POST /one  ame")


def test_it_knows_where_a_connection_comes_from(front: Running) -> None:
    assert front.ask(post("/one", b"", headers=f"{LAST}x-tell: PEER\r\n")).endswith(b"POST /one  127.0.0.1")


def test_a_long_body_comes_whole(front: Running) -> None:
    body = bytes(range(256)) * 40_000
    assert front.ask(post("/one", body, headers=LAST)).endswith(b"POST /one  " + body)


def test_a_client_that_waits_for_the_word_gets_it(front: Running) -> None:
    head = b"POST /one HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with front.connect() as client:
        client.sendall(head)
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert read_all(client).endswith(b"POST /one  ok")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_ends_as_its_version_ends_it(front: Running, version: str) -> None:
    answer = front.ask(post("/stream", b"", headers=LAST, version=version))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (b"chunked" in head) is (version == "1.1")
    if version == "1.0":
        assert body == b"x" * 30_000 + b"end"
    else:
        assert body == (b"2710\r\n" + b"x" * 10_000 + b"\r\n") * 3 + b"3\r\nend\r\n0\r\n\r\n"


def test_an_answer_to_head_has_no_body(front: Running) -> None:
    answer = front.ask(b"HEAD /one HTTP/1.1\r\nHost: here\r\n\r\n" + post("/two", b"", headers=LAST))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b"HEAD /one" not in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: three\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * MOST_HEADERS_BYTES + b"\r\n\r\n", b"431"),
        (GET.replace(b"/one", b"/broken"), b"500"),
    ],
)
def test_what_is_no_request_is_refused_and_its_connection_closed(front: Running, sent: bytes, status: bytes) -> None:
    assert front.ask(sent).startswith(b"HTTP/1.1 " + status)
    assert front.ask(post("/one", b"", headers=LAST)).startswith(b"HTTP/1.1 200")


def test_nonsense_after_a_request_does_not_cost_its_answer(front: Running) -> None:
    answer = front.ask(GET + b"\x00\x01\x02\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"GET /one q=1 ")


def test_the_rest_of_a_refused_body_is_passed_over(front: Running) -> None:
    answer = front.ask(post("/deaf", b"z" * 900_000) + post("/two", b"more", headers=LAST))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"POST /two  more")


def test_who_sends_a_refused_body_without_end_is_parted_with(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = b"POST /deaf HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000000\r\n\r\n"
    with front.connect() as client:
        client.sendall(endless)
        with pytest.raises(ConnectionError):
            client.sendall(b"z" * 200_000_000)
    monkeypatch.setattr(connections, "PASSED_SECONDS", 0.2)
    began = time.monotonic()
    with front.connect() as client:
        client.sendall(endless)
        assert read_all(client).startswith(b"HTTP/1.1 200 OK")
    assert time.monotonic() - began < 5


def test_an_answer_that_breaks_off_has_no_end(front: Running) -> None:
    answer = front.ask(post("/late", b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert not answer.endswith(b"0\r\n\r\n")


def test_a_client_that_goes_is_noticed(front: Running) -> None:
    with front.connect() as client:
        client.sendall(post("/slow", b""))
        time.sleep(0.1)
        assert not front.echo.gone.is_set()
    assert front.echo.gone.wait(5)


def test_a_client_that_goes_without_an_answer_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    monkeypatch.setattr(connections.log, "error", lambda event, **_: noted.append(event))
    with started() as front:
        with front.connect() as client:
            client.sendall(post("/leave", b""))
            time.sleep(0.1)
        assert front.echo.gone.wait(5)
        front.stop()
        assert noted == []
    with started() as front:
        assert front.ask(post("/nothing", b"")).startswith(b"HTTP/1.1 500")
        front.stop()
        assert noted == ["request_failed"]


def test_a_client_that_takes_nothing_makes_the_answer_wait(front: Running) -> None:
    with front.connect() as client:
        client.sendall(post("/long", b""))
        wait_until(lambda: front.echo.sent > 3)
        sent = -1
        while sent != front.echo.sent:
            sent = front.echo.sent
            time.sleep(0.3)
        assert sent < 3_000
        client.sendall(post("/two", b"", headers=LAST))
        assert read_all(client).endswith(b"POST /two  ")
    assert front.echo.sent == 3_000


def test_clients_that_do_nothing_are_parted_with(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "KEPT_SECONDS", "TAKING_SECONDS"):
        monkeypatch.setattr(connections, name, 0.5)
    started = [b"", b"GET /one HT", post("/one", b"abc")[:-1], GET]
    for data in started:
        with front.connect() as client:
            client.sendall(data)
            begun = time.monotonic()
            with suppress(ConnectionResetError):
                read_all(client)
            assert 0.4 < time.monotonic() - begun < 5


def test_a_request_that_takes_for_ever_is_parted_with(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_SECONDS", 1.0)
    with front.connect() as client:
        client.sendall(post("/one", b"a" * 1000)[:-1000])
        begun = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - begun < 8:
                client.sendall(b"a")
                time.sleep(0.05)
    assert 0.9 < time.monotonic() - begun < 5


def test_who_is_being_answered_when_the_server_stops_gets_the_answer(front: Running) -> None:
    with front.connect() as client, front.connect() as idle:
        client.sendall(post("/wait", b"body"))
        time.sleep(0.1)
        threading.Timer(0.2, front.echo.let.set).start()
        front.stop()
        assert read_all(client).endswith(b"POST /wait  body")
        assert idle.recv(10) == b""
    with pytest.raises(OSError):
        front.connect()


def test_who_takes_too_long_when_the_server_stops_is_cut(front: Running) -> None:
    with front.connect() as client:
        client.sendall(post("/wait", b"body"))
        time.sleep(0.1)
        front.stop()
        assert client.recv(10) == b""


def test_hundreds_that_come_at_once_are_all_answered(front: Running) -> None:
    clients = [front.connect() for _ in range(200)]
    for client in clients:
        client.sendall(post("/one", b"x", headers=LAST))
    assert all(read_all(client).endswith(b"POST /one  x") for client in clients)
    for client in clients:
        client.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
