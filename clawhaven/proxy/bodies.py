"""Reading a request's body before anybody knows whether its call is admitted: a share of large ones for each caller.

Without it one assistant could fill the memory of a proxy that serves all of them, or keep its event loop busy. Bodies
up to LARGE_BYTES cost nothing here. Like the bounds of turns.py, these are this process's own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from clawhaven.proxy.callers import Caller
from clawhaven.proxy.turns import MINUTE, TooMany

MAX_BODY_BYTES = 32 * 1024 * 1024
LARGE_BYTES = 256 * 1024
LARGE_AT_ONCE = 16
"""Large bodies of one caller that are read or wait to be admitted."""

HELD_BYTES = 64 * 1024 * 1024
"""What they may take together."""

BYTES_A_MINUTE = 1024 * 1024 * 1024
"""Of large bodies: to look through so much takes the event loop some ten seconds."""

MOST_PARTS, MOST_LISTS = 1_000_000, 300_000
"""Commas, lists and objects of a body. A context window of a million tokens has room for fewer, and every one of them
takes memory and time when the body is decoded: 32 MB of empty lists take a gigabyte and a quarter of a minute."""


class TooMuch(Exception):
    """The request body is longer than the limit."""


class TooDense(Exception):
    """The request body has more parts than any model reads."""


class ClientGone(Exception):
    """The client went away before its request was complete."""


@dataclass(slots=True)
class _Share:
    since: float
    passed: int = 0
    held: int = 0
    bodies: int = 0


class Shares:
    """What large bodies of each caller take now, and have taken within a minute. Used in one event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._swept_at = clock, clock()
        self._shares: dict[Hashable, _Share] = {}

    def of(self, whose: Hashable) -> _Share:
        """A caller's."""
        now = self._clock()
        if now - self._swept_at >= MINUTE:
            self._swept_at = now
            self._shares = {one: share for one, share in self._shares.items() if share.bodies or _is_new(share, now)}
        share = self._shares.setdefault(whose, _Share(now))
        if not _is_new(share, now):
            share.since, share.passed = now, 0
        return share

    def seconds_left(self, share: _Share) -> int:
        """Until a share's minute is over."""
        return max(1, math.ceil(share.since + MINUTE - self._clock()))


class Room:
    """What one body takes of its caller's share, from `take` to `free`."""

    __slots__ = ("_share", "_shares", "_size", "_whose")

    def __init__(self, shares: Shares, whose: Hashable) -> None:
        self._shares, self._whose = shares, whose
        self._share: _Share | None = None
        self._size = 0

    def take(self, size: int) -> None:
        """Room for a body of this size, or for so much of it as has come. Raises TooMany."""
        more = size - self._size
        if size <= LARGE_BYTES or more <= 0:
            return
        share = self._share or self._shares.of(self._whose)
        if share.held + more > HELD_BYTES or (self._share is None and share.bodies >= LARGE_AT_ONCE):
            raise TooMany(1)
        if share.passed + more > BYTES_A_MINUTE:
            raise TooMany(self._shares.seconds_left(share))
        if self._share is None:
            self._share = share
            share.bodies += 1
        share.held += more
        share.passed += more
        self._size = size

    def free(self) -> None:
        """The body is gone, or its call is admitted and counts there; once more is success."""
        if self._share is not None:
            self._share.bodies -= 1
            self._share.held -= self._size
            self._share, self._size = None, 0


async def read(caller: Caller, room: Room) -> bytes:
    """The whole body. Raises TooMuch, TooDense, TooMany (no room for it now), ClientGone."""
    declared = caller.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit():
        # int() refuses numbers of thousands of digits.
        if len(declared) > 18 or int(declared) > MAX_BODY_BYTES:
            raise TooMuch
        room.take(int(declared))
    body = bytearray()
    while True:
        message = await caller.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size = len(body) + len(piece)
        if size > MAX_BODY_BYTES:
            raise TooMuch
        room.take(size)
        if not message.get("more_body"):
            whole = bytes(body + piece) if body else bytes(piece)
            _refuse_dense(whole)
            return whole
        body += piece


def _refuse_dense(body: bytes) -> None:
    if len(body) <= LARGE_BYTES:
        return
    lists = body.count(b"[") + body.count(b"{")
    if lists > MOST_LISTS or lists + body.count(b",") > MOST_PARTS:
        raise TooDense


def _is_new(share: _Share, now: float) -> bool:
    return now - share.since < MINUTE
