"""Answers that take minutes: each in a thread of its own, so that no other request waits for one.

The doors' ordinary requests share a few dozen threads. A customer whose chats sat in those would stop the pages of
everybody else; here one customer has a few places, and all together have a bounded number.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from clawhaven.core.errors import RateLimited, Unavailable

T = TypeVar("T")

HEARTBEAT_SECONDS = 15.0
READER_SECONDS = 60.0
"""A reader that takes nothing for so long is taken for gone."""

_AHEAD = 16
"""Items that wait for a slow reader."""


class Seats:
    """How many long answers may be under way at once in this process: for one key, and in all."""

    def __init__(self, most_of_one: int, most: int) -> None:
        self._most_of_one, self._most = most_of_one, most
        self._taken: Counter[str] = Counter()
        self._changing = threading.Lock()

    def take(self, key: str) -> None:
        """Take a place. Raises RateLimited when this key has all of its own, Unavailable when there is none left."""
        with self._changing:
            if self._taken[key] >= self._most_of_one:
                message = f"{self._most_of_one} answers are still being written. Please wait for one of them."
                raise RateLimited(message, retry_after=10)
            if self._taken.total() >= self._most:
                raise Unavailable("Too many answers are being written at the moment. Please try again.", retry_after=10)
            self._taken[key] += 1

    def leave(self, key: str) -> None:
        """Give a place back."""
        with self._changing:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


LONG_ANSWERS: Final = Seats(most_of_one=3, most=64)
"""The places of every door of this process, by account id."""


async def carry(
    seats: Seats, key: str, start: Callable[[], Iterator[T]], *, quiet_seconds: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[T | None, None]:
    """Run `start`, and all of the iterator it returns, in a thread of their own; the items as they come.

    Returns once `start` has, and raises what it raises, RateLimited or Unavailable; the iterator's own exceptions come
    out of the generator. None is yielded whenever nothing came for `quiet_seconds`. A reader who leaves stops the
    iterator at its next item; the place is given back when the thread has ended, not before.
    """
    seats.take(key)
    try:
        crossing: _Crossing[T] = _Crossing(asyncio.get_running_loop())
        run = contextvars.copy_context().run

        def work() -> None:
            try:
                crossing.carry(start)
            finally:
                seats.leave(key)
                crossing.end()  # after the place is free: who has heard the end may ask again

        threading.Thread(target=run, args=(work,), name="long-answer", daemon=True).start()
    except BaseException:
        seats.leave(key)
        raise
    try:
        await crossing.begun
    except BaseException:
        crossing.inlet.close()
        raise
    return _arriving(crossing.inlet, quiet_seconds)


class _Failed:
    """What ended the iterator, on its way to the reader."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Crossing(Generic[T]):
    """The way from the thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._has_begun = False
        self._failure: BaseException | None = None
        self.begun: asyncio.Future[None] = loop.create_future()
        self._outlet: MemoryObjectSendStream[T | _Failed]
        self.inlet: MemoryObjectReceiveStream[T | _Failed]
        self._outlet, self.inlet = anyio.create_memory_object_stream[T | _Failed](_AHEAD)

    def carry(self, start: Callable[[], Iterator[T]]) -> None:
        """Everything the thread does but tell the end; never raises."""
        try:
            items = start()
            self._has_begun = True
            self._tell(self._begin, None)
            try:
                for item in items:
                    self._send(item)
            finally:
                if isinstance(items, Generator):
                    items.close()
        except _Left:
            pass
        except BaseException as error:  # whoever waits for the beginning, or reads, gets it
            self._failure = error

    def end(self) -> None:
        """Tell the reader that this was all, or what went wrong."""
        if not self._has_begun:
            self._tell(self._begin, self._failure)
        elif self._failure is not None:
            with suppress(_Left):
                self._send(_Failed(self._failure))
        self._tell(self._outlet.close)

    def _begin(self, error: BaseException | None) -> None:
        if self.begun.done():  # the waiting request was given up
            return
        if error is None:
            self.begun.set_result(None)
        else:
            self.begun.set_exception(error)

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended, and everybody who waited with it
            self._loop.call_soon_threadsafe(what, *args)

    def _send(self, item: T | _Failed) -> None:
        sending = self._outlet.send(item)
        try:
            sent = asyncio.run_coroutine_threadsafe(sending, self._loop)
        except RuntimeError:  # the loop has ended
            sending.close()
            raise _Left from None
        try:
            sent.result(READER_SECONDS)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError, CancelledError):
            sent.cancel()
            raise _Left from None


class _Left(Exception):
    """The reader is gone."""


async def _arriving(
    inlet: MemoryObjectReceiveStream[T | _Failed], quiet_seconds: float
) -> AsyncGenerator[T | None, None]:
    try:
        while True:
            coming = asyncio.ensure_future(inlet.receive())
            try:
                while not coming.done():
                    await asyncio.wait({coming}, timeout=quiet_seconds)
                    if not coming.done():
                        yield None
                item = coming.result()
            except anyio.EndOfStream:
                return
            finally:
                coming.cancel()
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        inlet.close()
