"""How much memory a proxy takes for answers of any size."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.conftest import free_port
from tests.proxy.conftest import KEY, House
from tests.proxy.hostile import assert_error
from tests.proxy.rawvendor import RawVendor, Wire, chunk, stream_head
from tests.proxy.recorded import ALL
from tests.proxy.test_kill import start
from tests.proxy.wire import sse

MESSAGES, MESSAGE_STREAM = ALL[:2]
MEGABYTE = 1024**2
ROOM = 90 * MEGABYTE
"""What a proxy may grow by meanwhile: its buffers, and what the allocator keeps."""


@pytest.fixture
def vendor() -> Iterator[RawVendor]:
    server = RawVendor()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def apart(house: House, vendor: RawVendor, database_url: str, tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A proxy in a process of its own: its address and its process."""
    port = free_port()
    running = start(port, database_url, vendor, tmp_path)  # type: ignore[arg-type]
    yield f"http://127.0.0.1:{port}", psutil.Process(running.pid)
    running.kill()
    running.wait()


class Watch(threading.Thread):
    """The most memory a process has had meanwhile, in bytes above where it began."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process, self._is_over = process, threading.Event()
        self._began = self._most = process.memory_info().rss

    def run(self) -> None:
        while not self._is_over.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)

    @property
    def grown(self) -> int:
        self._is_over.set()
        return self._most - self._began


def text_event(size: int) -> bytes:
    return sse("content_block_delta", index=0, delta={"type": "text_delta", "text": "word \\n" * (size // 7)})


@pytest.mark.parametrize("event_size", [4_000, 3_000_000, 40_000_000])
def test_a_stream_of_any_size_passes_in_bounded_memory(
    house: House, vendor: RawVendor, apart: tuple[str, psutil.Process], event_size: int
) -> None:
    event = text_event(event_size)
    count = max(1, 100_000_000 // len(event))

    async def script(wire: Wire) -> None:
        await wire.send(stream_head() + chunk(MESSAGE_STREAM.content.partition(b"\n\n")[0] + b"\n\n"))
        for _ in range(count):
            for place in range(0, len(event), 65_536):
                await wire.send(chunk(event[place : place + 65_536]))
        await wire.send(chunk(b"\n\n".join(MESSAGE_STREAM.content.split(b"\n\n")[-3:])) + chunk(b""))

    vendor.script = script
    url, process = apart
    watch = Watch(process)
    watch.start()
    passed = 0
    with httpx2.stream(
        "POST", url + "/v1/messages", json=MESSAGE_STREAM.body, headers={"x-api-key": KEY}, timeout=60
    ) as got:
        for piece in got.iter_raw(65_536):
            passed += len(piece)
    assert passed > count * len(event)
    assert watch.grown < ROOM
    row = house.last_call()
    assert (row.output_tokens, row.is_estimated) == (77, False)


def test_an_answer_that_is_too_long_is_cut_in_bounded_memory(
    house: House, vendor: RawVendor, apart: tuple[str, psutil.Process]
) -> None:
    async def script(wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3000):
            await wire.send(chunk(b" " * 65_536))

    vendor.script = script
    url, process = apart
    watch = Watch(process)
    watch.start()
    got = httpx2.post(url + "/v1/messages", json=MESSAGES.body, headers={"x-api-key": KEY}, timeout=60)
    assert_error(MESSAGES, got.json(), got.status_code)
    assert watch.grown < 200 * MEGABYTE
    assert house.last_call().price_micros == 0


def test_embeddings_of_any_shape_pass_in_bounded_memory(
    house: House, vendor: RawVendor, apart: tuple[str, psutil.Process]
) -> None:
    piece = b'{"object":"embedding","index":0,"embedding":[' + b"-0.0123456789," * 4_000 + b"0]},"
    count = 140_000_000 // len(piece)

    async def script(wire: Wire) -> None:
        await wire.send(stream_head(kind="application/json") + chunk(b'{"object":"list","data":['))
        for _ in range(count):
            await wire.send(chunk(piece))
        await wire.send(chunk(b'{}],"usage":{"prompt_tokens":77,"total_tokens":77}}') + chunk(b""))

    vendor.script = script
    url, process = apart
    watch = Watch(process)
    watch.start()
    body, passed = {"model": "text-embedding-3-large", "input": ["x"] * 2_048}, 0
    with httpx2.stream("POST", url + "/v1/embeddings", json=body, headers={"x-api-key": KEY}, timeout=60) as got:
        for part in got.iter_raw(65_536):
            passed += len(part)
    assert passed > count * len(piece)
    assert watch.grown < ROOM
    row = house.last_call()
    assert (row.input_tokens, row.is_estimated) == (77, False)


def test_a_client_that_does_not_read_holds_its_vendor_back(
    house: House, vendor: RawVendor, apart: tuple[str, psutil.Process]
) -> None:
    sent = 0

    async def script(wire: Wire) -> None:
        nonlocal sent
        event = chunk(text_event(65_536))
        await wire.send(stream_head() + chunk(MESSAGE_STREAM.content.partition(b"\n\n")[0] + b"\n\n"))
        while sent < 200 * MEGABYTE:
            await wire.send(event)
            sent += len(event)

    vendor.script = script
    url, process = apart
    body = json.dumps(MESSAGE_STREAM.body).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    host, port = url.removeprefix("http://").split(":")
    watch = Watch(process)
    watch.start()
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + body)
        assert b"200 OK" in client.recv(1000)
        before = -1
        while before < sent:
            before = sent
            time.sleep(0.7)
        assert sent < 60 * MEGABYTE
    assert watch.grown < ROOM
