"""The client against gateways that are broken or mean harm: a look at one always ends, and never with a crash."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import ChatEvent, GatewayAddress
from clawhaven.providers.gateways import rpc
from clawhaven.providers.gateways.openclaw import OpenClaw
from tests.live.openclaw import TOKEN, settings_for

LIVE = b'{"ok":true,"status":"started","version":"2026.9.6"}'
Pieces = Iterator[bytes]


@pytest.fixture
def gateway(tmp_path: Path) -> OpenClaw:
    return OpenClaw(OpenClaw.Options(_env_file=None, gateway_timeout_seconds=2), settings_for(tmp_path))


@contextmanager
def http_gateway(answer: Callable[[str], Pieces]) -> Iterator[GatewayAddress]:
    """A gateway that writes what `answer` says for a path, byte for byte."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):
                for piece in answer(self.path):
                    self.wfile.write(piece)
                    self.wfile.flush()
            self.close_connection = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield GatewayAddress(f"http://127.0.0.1:{server.server_address[1]}", TOKEN)
        server.shutdown()


def whole(body: bytes) -> Pieces:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    yield body


def with_status(payload: Any) -> Callable[[str], Pieces]:
    """Probes as they should be, and this as the payload of `channels.status`."""
    reply = payload if isinstance(payload, bytes) else json.dumps({"ok": True, "payload": payload}).encode()
    return lambda path: whole(reply if path.startswith("/api") else LIVE)


def test_a_gateway_that_answers_as_it_should_is_well(gateway: OpenClaw) -> None:
    account = {"enabled": True, "lifecycle": "ready", "lastError": "slow\0 \ud83d" + "x" * 900}
    with http_gateway(with_status({"channelAccounts": {"telegram": [account]}})) as address:
        health = gateway.health(address)
    assert (health.live, health.started, health.authenticated, health.version) == (True, True, True, "2026.9.6")
    assert dict(health.channels) == {"telegram": "ready"}
    problem = health.problems["telegram"]
    assert problem.startswith("slow")
    assert (problem.isprintable(), len(problem)) == (True, 500)  # any database takes it


@pytest.mark.parametrize(
    "payload",
    [
        {"channelAccounts": [1]},
        {"channelAccounts": {"telegram": [1]}},
        {"channelAccounts": {"telegram": 5}},
        {"channelAccounts": "ready"},
        ["ready"],
        b'{"ok":true,"payload":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"ok":false,"error":"no"}',
        b'{"ok":false,"error":{"code":7,"message":["\\u0000"]}}',
        b"\xff\xfe",
        b"[" * 900_000,
    ],
    ids=lambda payload: repr(payload)[:40],
)
def test_nonsense_is_a_gateway_that_does_not_know_us_and_says_why(gateway: OpenClaw, payload: Any) -> None:
    with http_gateway(with_status(payload)) as address:
        health = gateway.health(address)
    assert (health.live, health.started, health.authenticated) == (True, True, False)
    assert health.problems["gateway"].isprintable()


@pytest.mark.parametrize("body", [b"[" * 300_000, b"[]", b"\xff", b'{"ok":1}', b""])
def test_nonsense_from_a_probe_is_a_gateway_that_is_down(gateway: OpenClaw, body: bytes) -> None:
    with http_gateway(lambda _: whole(body)) as address:
        assert not gateway.health(address).live


def drip(head: bytes, body: bytes) -> Pieces:
    """A correct answer in the end, but for most of its way a byte now and then."""
    yield head
    for _ in range(200):
        time.sleep(0.03)
        yield b" "
    yield body


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (200 + len(LIVE)), id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="body without a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow:", id="header"),
    ],
)
def test_dripping_bytes_do_not_outlast_the_time(
    gateway: OpenClaw, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(rpc, "PROBE_SECONDS", 0.5)
    end = b"\r\n\r\n" + LIVE if head.endswith(b":") else LIVE
    with http_gateway(lambda _: drip(head, end)) as address:
        assert not gateway.health(address).live


def test_an_endless_answer_is_not_taken_in(gateway: OpenClaw) -> None:
    sent: list[int] = []

    def endless(path: str) -> Pieces:
        if not path.startswith("/api"):
            yield from whole(LIVE)
            return
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        for _ in range(20_000):
            yield b" " * 10_000
            sent.append(10_000)

    with http_gateway(endless) as address:
        health = gateway.health(address)
    assert (health.live, health.authenticated) == (True, False)
    assert sum(sent) < 50_000_000  # what the two kernels hold, and no more
    assert "1000000 bytes" in health.problems["gateway"]


Talk = Callable[[ServerConnection, dict[str, Any]], None]


@contextmanager
def socket_gateway(talk: Talk, challenge: Any = None) -> Iterator[GatewayAddress]:
    """A gateway's WebSocket: signs everybody in, then does `talk` with every request."""

    def door(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            connection.send(json.dumps({"event": "connect.challenge", "payload": challenge or {"nonce": "n", "ts": 1}}))
            for text in connection:
                request = json.loads(text)
                if request["method"] == "connect":
                    connection.send(answer(request, {"server": {"bootId": "1"}}))
                else:
                    talk(connection, request)

    with serve(door, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield GatewayAddress(f"http://127.0.0.1:{server.socket.getsockname()[1]}", TOKEN)


def answer(request: dict[str, Any], payload: Any) -> str:
    return json.dumps({"type": "res", "id": request["id"], "ok": True, "payload": payload})


def test_one_that_never_stops_talking_does_not_outlast_the_time(gateway: OpenClaw) -> None:
    has_sent = threading.Event()

    def chatter(connection: ServerConnection, request: dict[str, Any]) -> None:
        for _ in range(4):
            connection.send('{"type":"event","event":"tick"}')
        has_sent.set()

    with socket_gateway(chatter) as address, gateway._open().open(address) as line:
        line.send("sessions.list", {})
        assert has_sent.wait(30)
        assert line._connection.ping().wait(30)  # answered after the ticks, so they are here
        assert line.receive(30)["event"] == "tick"
        for seconds in (0, -1):
            with pytest.raises(ProviderError) as caught:
                line.receive(seconds)
            assert (caught.value.code, caught.value.permanent) == ("timeout", False)


def test_a_frame_beyond_reason_ends_the_connection(gateway: OpenClaw) -> None:
    def shout(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.send(answer(request, "x" * 9 * 1024 * 1024))

    with socket_gateway(shout) as address, pytest.raises(ProviderError) as caught:
        gateway.call(address, "sessions.list")
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize("frame", ["[" * 300_000, "no", '"res"'])
def test_a_frame_that_is_nonsense_is_no_crash(gateway: OpenClaw, frame: str) -> None:
    with (
        socket_gateway(lambda connection, _: connection.send(frame)) as address,
        pytest.raises(ProviderError) as caught,
    ):
        gateway.call(address, "sessions.list")
    assert caught.value.code in ("not_ready", "timeout")


@pytest.mark.parametrize("challenge", [{"ts": "soon"}, {"ts": float("inf")}, {"ts": None}, {"ts": [1]}])
def test_a_challenge_that_is_nonsense_is_no_crash(gateway: OpenClaw, challenge: Any) -> None:
    with socket_gateway(lambda *_: None, challenge) as address, pytest.raises(ProviderError) as caught:
        gateway.call(address, "sessions.list")
    assert (caught.value.code, caught.value.permanent) == ("not_ready", False)


def events(key: str, *payloads: Any) -> Talk:
    """Accepts a message and tells these chat events of it."""

    def talk(connection: ServerConnection, request: dict[str, Any]) -> None:
        connection.send(answer(request, {"status": "started"}))
        for payload in payloads:
            about = {"runId": key, **payload} if isinstance(payload, dict) else payload
            connection.send(json.dumps({"type": "event", "event": "chat", "payload": about}))

    return talk


def said(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


def test_a_chat_survives_events_of_any_shape(gateway: OpenClaw) -> None:
    talk = events("k1", "no", [1], {"state": "delta", "message": 7}, {"state": "final", "message": said("Done.")})
    with socket_gateway(talk) as address:
        assert list(gateway.chat(address, "web", "hi", "k1", 20)) == [ChatEvent("final", "Done.")]


def test_an_emoji_cut_in_two_neither_stops_the_answer_nor_reaches_a_page(gateway: OpenClaw) -> None:
    pieces = [{"state": "delta", "message": said(text)} for text in ("Hi \ud83d", "Hi 😀", "Hi 😀!")]
    with socket_gateway(events("k2", *pieces, {"state": "final", "message": said("Hi 😀!\udc00")})) as address:
        told = [(event.kind, event.text) for event in gateway.chat(address, "web", "hi", "k2", 20)]
    assert told == [("delta", "Hi "), ("delta", "😀"), ("delta", "!"), ("final", "Hi 😀!")]
