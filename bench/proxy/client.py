"""The benchmark's own client: requests at a steady pace that wait for nobody, and many streams at once.

One asyncio.Protocol per connection, on uvloop: it looks only for the end of an answer. Times are seconds from the
moment a request was written, by the clock of this process.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

from bench.proxy.questions import Question

GRACE_SECONDS = 60.0
CONNECT_SECONDS = 1.0
"""Between connecting and asking. Event loops on libuv (uvloop, Node.js) accept one connection in each of their rounds;
a connection that is still waiting when a thousand streams begin waits until they are through."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Times:
    """Seconds of every whole answer: until its first byte of body, and until its end. `failures`: the others."""

    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class _Asker(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, marks: Sequence[bytes], times: Times) -> None:
        self._marks, self._times = marks, times
        self.is_open = False
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class
        self.is_open = True

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send; the future is done when the answer is whole, or is not going to be."""
        self._parts: list[bytes] = []
        self._size, self._end, self._head = 0, -1, b""
        self._first = 0.0
        self.done = asyncio.get_running_loop().create_future()
        self._began = time.perf_counter()
        self._transport.write(request)
        return self.done

    def data_received(self, data: bytes) -> None:
        if self.done is None:
            return
        self._parts.append(data)
        self._size += len(data)
        if not self._head:
            self._read_head()
        if self._head and not self._first and self._size > len(self._head):
            self._first = time.perf_counter() - self._began
        if self._size == self._end or (self._end < 0 and self._head and self._is_last(data)):
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self.done is not None:
            self._fail("the connection was cut")

    def close(self) -> None:
        """Close the connection; an answer that is still awaited has failed."""
        if self.done is not None:
            self._fail("no answer in time")
        self._transport.close()

    def _read_head(self) -> None:
        data = b"".join(self._parts)
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            self._head = data[: end + 4]
            found = _LENGTH.search(data, 0, end)
            self._end = end + 4 + int(found[1]) if found else -1

    def _is_last(self, data: bytes) -> bool:
        if len(data) < 7 and len(self._parts) > 1:
            data = b"".join(self._parts[-4:])
        return data.endswith(b"\r\n0\r\n\r\n")

    def _finish(self) -> None:
        total = time.perf_counter() - self._began
        data = b"".join(self._parts)
        if not data.startswith(b"HTTP/1.1 200"):
            self._fail(data[:300].decode(errors="replace"))
        elif not all(mark in data for mark in self._marks):
            self._fail(f"not whole: {data[-200:]!r}")
        else:
            self._times.first.append(self._first)
            self._times.total.append(total)
            self._end_turn()

    def _fail(self, reason: str) -> None:
        self._times.failures.append(reason)
        self._end_turn()

    def _end_turn(self) -> None:
        assert self.done
        if not self.done.done():
            self.done.set_result(None)
        self.done = None


def request_bytes(question: Question, port: int, headers: Mapping[str, str]) -> bytes:
    """The question as it goes over the wire."""
    lines = [f"POST {question.path} HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"content-length: {len(question.body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + question.body


def pace(
    port: int, question: Question, headers: Sequence[Mapping[str, str]], per_second: float, seconds: float
) -> Times:
    """Ask `per_second` times a second, whatever the answers do: an answer that is late delays no other request."""
    return uvloop.run(_pace(port, question, headers, per_second, seconds))


def stream(port: int, question: Question, headers: Sequence[Mapping[str, str]], streams: int, seconds: float) -> Times:
    """Open so many connections, then ask on all of them at once; each stream lasts about `seconds`."""
    return uvloop.run(_stream(port, question, headers, streams, seconds))


async def _pace(
    port: int, question: Question, headers: Sequence[Mapping[str, str]], per_second: float, seconds: float
) -> Times:
    loop, times = asyncio.get_running_loop(), Times()
    marks = [mark.encode() for mark in question.marks]
    requests = [request_bytes(question, port, one) for one in headers]
    everybody = [await _connect(port, marks, times) for _ in range(4)]
    idle, waiting = deque(everybody), set[asyncio.Future[None]]()

    def ask(asker: _Asker, request: bytes) -> None:
        done = asker.ask(request)
        waiting.add(done)
        done.add_done_callback(waiting.discard)
        done.add_done_callback(lambda _: idle.append(asker))

    began = loop.time()
    for number in range(round(per_second * seconds)):
        await asyncio.sleep(began + number / per_second - loop.time())
        while idle and not idle[0].is_open:
            idle.popleft()
        if not idle:
            idle.append(await _connect(port, marks, times))
            everybody.append(idle[-1])
        ask(idle.popleft(), requests[number % len(requests)])
    if waiting:
        await asyncio.wait(set(waiting), timeout=GRACE_SECONDS)
    for asker in everybody:
        asker.close()
    return times


async def _stream(
    port: int, question: Question, headers: Sequence[Mapping[str, str]], streams: int, seconds: float
) -> Times:
    times, marks = Times(), [mark.encode() for mark in question.marks]
    requests = [request_bytes(question, port, one) for one in headers]
    askers = [await _connect(port, marks, times) for _ in range(streams)]
    await asyncio.sleep(CONNECT_SECONDS)
    waiting = {asker.ask(requests[number % len(requests)]) for number, asker in enumerate(askers)}
    await asyncio.wait(waiting, timeout=seconds + GRACE_SECONDS)
    for asker in askers:
        asker.close()
    return times


async def _connect(port: int, marks: Sequence[bytes], times: Times) -> _Asker:
    loop = asyncio.get_running_loop()
    _, asker = await loop.create_connection(lambda: _Asker(marks, times), "127.0.0.1", port)
    return asker


def percentile(values: Sequence[float], at: float) -> float:
    """The value that the share `at` of all does not exceed; nan without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * at))] if ordered else float("nan")
