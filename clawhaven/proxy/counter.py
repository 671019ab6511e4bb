"""Group commit: whatever waits for the database while one transaction runs shares the next.

A model call waits for the database twice, and thousands of calls a second cannot each have a transaction of their own.
Calls are opened and closed in batches by one thread; a batch is as large as what arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from clawhaven import metering
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.logs import get_logger
from clawhaven.core.settings import Settings
from clawhaven.metering import Closing, OpenCall, Opening, PriceTable
from clawhaven.proxy.metrics import METER

MOST_AT_ONCE = 256
"""Calls in one transaction."""

MISTAKES = (
    SQLAlchemyError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a bug in counting may raise."""

FLUSH_SECONDS = 0.05
"""How long a settled call may wait for the disk, where commits do not wait for it themselves."""

log = get_logger(__name__)

Job = Opening | Closing
T = TypeVar("T")
Results = list[tuple[T, Any]]
"""Whoever asked, and what came of it."""


class CounterContext(Protocol):
    """What counting needs."""

    @property
    def settings(self) -> Settings:
        """The product's settings."""

    @property
    def db(self) -> Database:
        """The one database."""

    @property
    def clock(self) -> Clock:
        """The current time."""

    @property
    def prices(self) -> PriceTable:
        """What models cost here."""


class CountingFailed(Exception):
    """The database could not open or close a call; nothing of it was kept."""


class Counts(Protocol):
    """Whoever opens and closes calls for the tasks of an event loop."""

    async def do(self, job: Job) -> Any:
        """The OpenCall or ClosedCall; raises the AppError it was refused with, or CountingFailed."""

    def close(self) -> None:
        """Finish what is waiting."""


@dataclass(slots=True)
class _Waiting:
    job: Job
    future: asyncio.Future[Any]
    """Where the result goes."""


class Counter:
    """Opens and closes calls in common transactions."""

    def __init__(self, ctx: CounterContext) -> None:
        self._ctx = ctx

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """The result of each job: an OpenCall or ClosedCall, or the exception that tells why not.

        When the batch fails (two that met in a deadlock, a row that somebody else holds, a value the database cannot
        take, wrong books of one customer), each is tried alone; when the database is gone, none is.
        """
        try:
            return self._together(jobs)
        except MISTAKES as error:
            failed = _failed(error)
            if len(jobs) == 1 or _is_away(error):
                return [failed] * len(jobs)
        results: list[Any] = []
        for place, job in enumerate(jobs):
            try:
                results += self._together([job], is_again=True)
            except MISTAKES as error:
                results.append(_failed(error))
                if _is_away(error):
                    return results + [results[-1]] * (len(jobs) - place - 1)
        return results

    def run_at_once(self, job: Job) -> Any:
        """The same for one job, on SQLite, without waiting for anybody. Raises Busy where somebody else is writing, and
        what went wrong (one of MISTAKES)."""
        return self._together([job], waits=False)[0]

    def _together(self, jobs: Sequence[Job], *, is_again: bool = False, waits: bool = True) -> list[Any]:
        openings = [job for job in jobs if isinstance(job, Opening)]
        closings = [job for job in jobs if isinstance(job, Closing)]
        begun = time.perf_counter()
        with self._ctx.db.hurried_tx(waits=waits) as db:
            outcome = self._count(db, openings, closings, is_again=is_again)
        METER.batch(len(jobs), time.perf_counter() - begun)
        opened, closed = iter(outcome.opened), iter(outcome.closed)
        return [next(opened) if isinstance(job, Opening) else next(closed) for job in jobs]

    def _count(
        self, db: Session, openings: Sequence[Opening], closings: Sequence[Closing], *, is_again: bool
    ) -> metering.Outcome:
        now, prices = self._ctx.clock.now(), self._ctx.prices
        return metering.run_batch(db, openings, closings, now=now, prices=prices, is_again=is_again)


Told = Callable[[bool], None]
"""Hears whether the disk has what was committed."""


class Flusher:
    """Has commits that did not wait for the disk flushed to it, in a thread of its own.

    `is_awaited`: results wait for it. So one batch waits for the disk while the next is counted. Else it flushes every
    FLUSH_SECONDS.
    """

    def __init__(self, flush: Callable[[], None], *, is_awaited: bool = False) -> None:
        self._flush, self.is_awaited = flush, is_awaited
        self._waiting: list[Told] = []
        self._mutex = threading.Lock()
        self._is_dirty, self._is_over = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="proxy-flush", daemon=True)
        self._thread.start()

    def mark(self) -> None:
        """Something was committed."""
        self._is_dirty.set()

    def tell(self, told: Told) -> None:
        """Something was committed; call `told`, in the flusher's thread, when the disk has it or failed to take it."""
        with self._mutex:
            self._waiting.append(told)
        self._is_dirty.set()

    def close(self) -> None:
        """Flush what is left and end the thread."""
        self._is_over = True
        self._is_dirty.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            self._is_dirty.wait()
            self._is_dirty.clear()
            is_last = self._is_over
            with self._mutex:
                waiting, self._waiting = self._waiting, []
            is_kept = True
            try:
                self._flush()
            except (OSError, SQLAlchemyError):
                is_kept = False
                log.exception("flush_failed")
            for told in waiting:
                told(is_kept)
            if is_last:
                return
            if not self.is_awaited:
                time.sleep(FLUSH_SECONDS)


class CounterThread:
    """A counter at work in a thread of its own, for tasks of an event loop."""

    def __init__(self, counter: Counter, flusher: Flusher | None = None) -> None:
        self._counter, self._flusher = counter, flusher
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._is_over = False
        self._thread = threading.Thread(target=self._work, name="proxy-counter", daemon=True)
        self._thread.start()

    async def do(self, job: Job) -> Any:
        """The job's result; raises what it was refused with. Once asked for it is carried through, whoever waits."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put(_Waiting(job, future))
        return await future

    def _undo(self, closing: Closing) -> None:
        """Close a call that nobody waits for. On the event loop's thread."""
        self._queue.put(_Waiting(closing, asyncio.get_running_loop().create_future()))

    def close(self) -> None:
        """Finish what is waiting and end the threads."""
        self._is_over = True
        self._queue.put(None)
        self._thread.join()
        if self._flusher is not None:
            self._flusher.close()

    def _work(self) -> None:
        while not (self._is_over and self._queue.empty()):
            waiting = self._gather()
            if not waiting:
                continue
            try:
                results = self._counter.run([one.job for one in waiting])
            except MISTAKES as error:  # a bug must not leave every call of this process waiting for ever
                log.exception("batch_failed", jobs=len(waiting))
                results = [CountingFailed(type(error).__name__)] * len(waiting)
            done = [(one, one.job, result) for one, result in zip(waiting, results, strict=True)]
            tell_when_kept(self._flusher, done, partial(_deliver, undo=self._undo))

    def _gather(self) -> list[_Waiting]:
        first = self._queue.get()
        waiting = [] if first is None else [first]
        while len(waiting) < MOST_AT_ONCE:
            try:
                one = self._queue.get_nowait()
            except Empty:
                break
            if one is not None:
                waiting.append(one)
        return waiting


def count_in_a_thread(ctx: CounterContext) -> CounterThread:
    """A counter beside the event loop of this process."""
    return CounterThread(Counter(ctx), flusher_of(ctx))


def flusher_of(ctx: CounterContext) -> Flusher:
    """What flushes this installation's commits. PostgreSQL's would not outlive its server, so results wait for it."""
    return Flusher(ctx.db.flush, is_awaited=not ctx.db.is_sqlite or ctx.settings.proxy_waits_for_disk)


def tell_when_kept(
    flusher: Flusher | None, done: Sequence[tuple[T, Job, Any]], tell: Callable[[Results[T]], None]
) -> None:
    """Give `tell` the results: of admissions at once, of settlements when the disk has them, where that is awaited.

    A settlement that the disk may not have is CountingFailed: it can be asked for again.
    """
    if flusher is None or not flusher.is_awaited:
        tell([(one, result) for one, _, result in done])
        if flusher is not None:
            flusher.mark()
        return
    tell([(one, result) for one, job, result in done if isinstance(job, Opening)])
    late = [(one, result) for one, job, result in done if not isinstance(job, Opening)]

    def told(is_kept: bool) -> None:
        tell(late if is_kept else [(one, CountingFailed("the disk did not take it")) for one, _ in late])

    if late:
        flusher.tell(told)


def _failed(error: Exception) -> CountingFailed:
    reason = type(error.orig if isinstance(error, DBAPIError) else error).__name__
    log.error("not_counted", reason=reason, exc_info=error)
    return CountingFailed(reason)


def _is_away(error: Exception) -> bool:
    """True when the database itself cannot be used at the moment, whatever it is asked."""
    if not isinstance(error, DBAPIError):
        return False
    text = str(error.orig)
    return error.connection_invalidated or "database is locked" in text or "connection" in text.lower()


def _deliver(results: Results[_Waiting], undo: Callable[[Closing], None]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for one, result in results:
        by_loop.setdefault(one.future.get_loop(), []).append((one.future, result))
    for loop, pairs in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, pairs, undo)


def _resolve(pairs: Sequence[tuple[asyncio.Future[Any], Any]], undo: Callable[[Closing], None]) -> None:
    for future, result in pairs:
        if future.done():  # its task was cancelled; what it asked for is done all the same
            if isinstance(result, OpenCall):
                undo(Closing(result.id, None, 499, "nobody waits"))
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
