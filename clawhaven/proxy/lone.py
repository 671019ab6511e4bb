"""A lone call is counted where it arrived: while nobody else waits, the way to the counter and back costs more than the
transaction. Whatever cannot be counted at once goes to the counter, as do all that come together.

On SQLite alone: there a small transaction that waits neither for the disk nor for other writers takes a third of a
millisecond, for which the event loop stands still.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from clawhaven.core.db import Busy
from clawhaven.proxy.counter import MISTAKES, Counter, CounterContext, Flusher, Job

SLOW_SECONDS = 0.01
"""A transaction as long as this: the disk is busy, and the event loop should not wait for it."""

REST_SECONDS = 1.0
"""For so long all go to the counter then."""


class LoneCounter:
    """Opens and closes single calls on the event loop's own thread."""

    def __init__(self, counter: Counter, flusher: Flusher) -> None:
        self._counter, self._flusher = counter, flusher
        self._loop = asyncio.get_running_loop()
        self._rests_until = 0.0
        self._is_lone = True

    def count(self, job: Job) -> Any:
        """The job's result as Counter.run gives it; None: it is for the counter, and nothing is known of it."""
        begun = time.perf_counter()
        if not self._is_lone or begun < self._rests_until:
            return None
        self._is_lone = False
        self._loop.call_soon(self._turn)
        try:
            result = self._counter.run_at_once(job)
        except (Busy, *MISTAKES):
            # What is wrong with it the counter finds out, and where a commit went through all the same it finds that.
            self._rests_until = begun + REST_SECONDS
            return None
        self._flusher.mark()
        if (ended := time.perf_counter()) - begun > SLOW_SECONDS:
            self._rests_until = ended + REST_SECONDS
        return result

    def close(self) -> None:
        """Flush what was counted."""
        self._flusher.close()

    def _turn(self) -> None:
        """The next turn of the event loop: whoever asks first in it is alone for all that is known."""
        self._is_lone = True


def lone_counter(ctx: CounterContext) -> LoneCounter | None:
    """This front's own, where it may have one."""
    if not ctx.db.is_sqlite or ctx.settings.proxy_waits_for_disk:
        return None
    return LoneCounter(Counter(ctx), Flusher(ctx.db.flush))
