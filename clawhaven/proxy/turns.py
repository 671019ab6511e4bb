"""Bounds on what costs no money: so many a minute, so many at once. Counted in this process's memory.

They keep one customer from taking everybody's share. Not exact: a proxy of several fronts allows each bound once in
every front, and a restart begins anew. Used in one event loop only.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

MINUTE = 60.0


class TooMany(Exception):
    """No turn for this one now; `retry_after` in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many; try again in {retry_after} s.")
        self.retry_after = retry_after


@dataclass(slots=True)
class _Used:
    since: float
    count: int = 0
    under_way: int = 0


class Turns:
    """Turns by key, in windows of a minute that begin with a key's first turn."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._swept_at = clock, clock()
        self._used: dict[str, _Used] = {}

    @contextmanager
    def turn(self, key: str, per_minute: int, at_once: int | None = None) -> Iterator[None]:
        """One turn, which lasts as long as the block. Raises TooMany; `at_once` None: any number at the same time."""
        now = self._clock()
        self._sweep(now)
        used = self._used.setdefault(key, _Used(now))
        if now - used.since >= MINUTE:
            used.since, used.count = now, 0
        if used.count >= per_minute:
            raise TooMany(max(1, math.ceil(used.since + MINUTE - now)))
        if at_once is not None and used.under_way >= at_once:
            raise TooMany(1)
        used.count += 1
        used.under_way += 1
        try:
            yield
        finally:
            used.under_way -= 1

    def _sweep(self, now: float) -> None:
        """Once a minute, forget who has not come for one."""
        if now - self._swept_at < MINUTE:
            return
        self._swept_at = now
        self._used = {key: one for key, one in self._used.items() if one.under_way or now - one.since < MINUTE}


class Lane:
    """So many at once; a few more wait in the order they came, and the rest are turned away."""

    def __init__(self, at_once: int, most_waiting: float = math.inf) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most = at_once + most_waiting
        self.inside = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for as long as the block lasts. Raises TooMany."""
        if self.inside >= self._most:
            raise TooMany(1)
        self.inside += 1
        try:
            async with self._free:
                yield
        finally:
            self.inside -= 1


class Lanes:
    """A lane for each key, with so many places: a flood of one key waits for itself, and nobody else does."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lanes: dict[str, Lane] = {}

    @asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[None]:
        """A place in this key's lane for as long as the block lasts; who comes first is first."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(self._at_once)
        try:
            async with lane.place():
                yield
        finally:
            if not lane.inside:
                self._lanes.pop(key, None)

    def __len__(self) -> int:
        """Keys that somebody has a place of, or waits for one."""
        return len(self._lanes)
