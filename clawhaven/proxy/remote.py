"""The counter in a process of its own: its side, which serves many fronts, and the side of a front.

One process counts for all fronts of this machine: their calls share transactions, and none of them waits for the
interpreter lock while the database works.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

from clawhaven.core.logs import get_logger
from clawhaven.metering import Closing, OpenCall
from clawhaven.proxy.counter import (
    MISTAKES,
    MOST_AT_ONCE,
    Counter,
    CountingFailed,
    Flusher,
    Job,
    Results,
    tell_when_kept,
)
from clawhaven.proxy.lone import LoneCounter
from clawhaven.proxy.messages import Frames, PriceMemory, read_jobs, read_results, write_jobs, write_results

FEW_CALLS = 4
"""A front with fewer calls under way counts lone ones itself; with more of them its time is worth more."""

_READ_BYTES = 1 << 20
log = get_logger(__name__)


class _Front:
    """The counter's end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.frames, self.prices = Frames(), PriceMemory()
        self._mutex = threading.Lock()

    def answer(self, results: list[tuple[int, Any]]) -> None:
        """Send results, from any thread; a front that is gone needs none."""
        try:
            with self._mutex:
                self.connection.sendall(
                    write_results([self.prices.write(number, result) for number, result in results])
                )
        except OSError:
            log.warning("front_gone", unsent=len(results))


class CountingServer:
    """Runs the jobs of all fronts, as many as are waiting in one transaction."""

    def __init__(self, counter: Counter, flusher: Flusher | None = None) -> None:
        self._counter, self._flusher = counter, flusher
        self._selector = selectors.DefaultSelector()
        self._waiting: list[tuple[_Front, int, Job]] = []
        self._fronts = 0

    def add(self, connection: socket.socket) -> None:
        """Serve the front at the other end."""
        connection.setblocking(True)
        self._selector.register(connection, selectors.EVENT_READ, _Front(connection))
        self._fronts += 1

    def serve(self, tick: Callable[[], None]) -> None:
        """Until the last front has gone. `tick` is called between batches, at least every half second."""
        while self._fronts:
            self._receive(0 if self._waiting else 0.5)
            if self._waiting:
                batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                self._run(batch)
            tick()

    def _receive(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            front: _Front = key.data
            try:
                data = front.connection.recv(_READ_BYTES)
            except OSError:
                data = b""
            if not data:
                self._selector.unregister(front.connection)
                front.connection.close()
                self._fronts -= 1
            for frame in front.frames.feed(data):
                self._waiting += [(front, number, job) for number, job in read_jobs(frame)]

    def _run(self, batch: list[tuple[_Front, int, Job]]) -> None:
        try:
            results = self._counter.run([job for _, _, job in batch])
        except MISTAKES as error:  # a bug must not leave every call waiting for ever
            log.exception("batch_failed", jobs=len(batch))
            results = [CountingFailed(type(error).__name__)] * len(batch)
        whose = [((front, number), job, result) for (front, number, job), result in zip(batch, results, strict=True)]
        tell_when_kept(self._flusher, whose, _answer)


def _answer(results: Results[tuple[_Front, int]]) -> None:
    by_front: dict[_Front, list[tuple[int, Any]]] = {}
    for (front, number), result in results:
        by_front.setdefault(front, []).append((number, result))
    for front, mine in by_front.items():
        front.answer(mine)


class RemoteCounter(asyncio.Protocol):
    """A front's way to the counter. Jobs of one turn of the event loop travel together."""

    def __init__(self, on_lost: Callable[[], None], lone: LoneCounter | None = None) -> None:
        self._on_lost, self._lone = on_lost, lone
        self._frames, self._prices = Frames(), PriceMemory()
        self._next = 0
        self._under_way: set[str] = set()
        self._unsent: list[tuple[int, Job]] = []
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    async def do(self, job: Job) -> Any:
        """The OpenCall or ClosedCall; raises the AppError it was refused with, or CountingFailed."""
        if self._transport is None:
            raise CountingFailed("the counter is gone")
        if self._lone is None:
            return await self._ask(job)
        if isinstance(job, Closing):
            self._under_way.discard(job.call_id)
        is_lone = not self._waiting and len(self._under_way) < FEW_CALLS
        result = self._lone.count(job) if is_lone else None
        if result is None:
            result = await self._ask(job)
        if isinstance(result, Exception):
            raise result
        if isinstance(result, OpenCall):
            self._under_way.add(result.id)
        return result

    def close(self) -> None:
        """Hang up once what was asked for is sent."""
        self._send()
        if self._transport is not None:
            self._transport.close()
        if self._lone is not None:
            self._lone.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        for frame in self._frames.feed(data):
            for message in read_results(frame):
                result = self._prices.read(message)
                future = self._waiting.pop(message.number)
                if future.done():  # its task was cancelled; what it asked for is done all the same
                    if isinstance(result, OpenCall):
                        self._ask(Closing(result.id, None, 499, "nobody waits"))
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._transport = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(CountingFailed("the counter is gone"))
        self._waiting.clear()
        self._on_lost()

    def _ask(self, job: Job) -> asyncio.Future[Any]:
        self._next += 1
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[self._next] = future
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append((self._next, job))
        return future

    def _send(self) -> None:
        jobs, self._unsent = self._unsent, []
        if not jobs or self._transport is None:
            return
        try:
            self._transport.write(write_jobs(jobs))
        except MISTAKES:  # one that cannot be written takes none of the others with it
            for number, job in jobs:
                self._send_alone(number, job)

    def _send_alone(self, number: int, job: Job) -> None:
        try:
            data = write_jobs([(number, job)])
        except MISTAKES as error:
            log.exception("job_not_sent")
            future = self._waiting.pop(number)
            if not future.done():
                future.set_exception(CountingFailed(type(error).__name__))
            return
        cast(asyncio.Transport, self._transport).write(data)
