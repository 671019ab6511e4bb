"""On SQLite, one transaction for all who wait at the same time: there is one turn to write, and twenty can share it.

The first caller leads: while it waits for its turn, others come, and it takes them along. Nobody is answered before the
commit. PostgreSQL lets all write at once and gathers their commits itself, so there everybody goes alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session

from clawhaven.core.db import Database

T = TypeVar("T")

MOST_TOGETHER = 32
"""Callers in one transaction; more would keep the other writers waiting."""


class _Word(Enum):
    """What a caller hears: lead the next transaction, yours is committed, or go alone."""

    LEAD = "lead"
    DONE = "done"
    ALONE = "alone"


class _Caller:
    def __init__(self, work: Callable[[Session], Any]) -> None:
        self.work = work
        self.heard, self.word = threading.Event(), _Word.ALONE
        self.result: Any = None

    def tell(self, word: _Word) -> None:
        self.word = word
        self.heard.set()


class _Gathering:
    """Callers that may share their transactions."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[_Caller] = deque()
        self._is_led = False

    def join(self, database: Database, mine: _Caller) -> None:
        """Until the word is DONE or ALONE. Raises what the work of a caller raised who was led by nobody else."""
        with self._mutex:
            self._waiting.append(mine)
            is_leader = not self._is_led
            self._is_led = True
        if not is_leader:
            mine.heard.wait()
        if is_leader or mine.word is _Word.LEAD:
            self._lead(database, mine)

    def _lead(self, database: Database, mine: _Caller) -> None:
        """Everybody's work in one transaction, the leader's among it; then somebody who came meanwhile leads."""
        together: list[_Caller] = []
        word = _Word.ALONE
        try:
            with database.tx(is_urgent=True) as db:
                db.connection()  # where the turn is waited for
                together = self._take()
                for one in together:
                    one.result = one.work(db)
            word = _Word.DONE
        except Exception:
            if len(together) < 2:
                raise
            # Whose fault it was, each finds out alone.
        finally:
            for one in together:
                one.tell(word)
            self._hand_over(mine)

    def _take(self) -> list[_Caller]:
        with self._mutex:
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]

    def _hand_over(self, mine: _Caller) -> None:
        with self._mutex:
            if mine in self._waiting:  # no transaction began
                self._waiting.remove(mine)
            following = self._waiting[0] if self._waiting else None
            self._is_led = following is not None
        if following:
            following.tell(_Word.LEAD)


_gatherings: WeakKeyDictionary[Database, dict[str, _Gathering]] = WeakKeyDictionary()
_mutex = threading.Lock()


def commit_together(database: Database, name: str, work: Callable[[Session], T]) -> T:
    """What `work` returns, once its writes are committed: urgent, and perhaps with others' of the same `name`.

    When one of them fails, each is tried again alone, so `work` may run twice and must not mind.
    """
    if database.is_sqlite:
        with _mutex:
            meeting = _gatherings.setdefault(database, {}).setdefault(name, _Gathering())
        mine = _Caller(work)
        meeting.join(database, mine)
        if mine.word is _Word.DONE:
            return cast(T, mine.result)
    with database.tx(is_urgent=True) as db:
        return work(db)
