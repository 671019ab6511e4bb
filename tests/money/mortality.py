"""Where a process dies: before or after a commit, before or after a call outside, after a workflow's last step."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, cast

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core.db import Database
from clawhaven.wiring import PURE


class Killed(BaseException):
    """kill -9, as far as one process can play it: nothing in the product catches it, what was not committed is gone."""


class Fate:
    """Kills at a share `risk` of the places that are passed; 0 while nobody dies."""

    def __init__(self, random: Random) -> None:
        self._random, self.risk = random, 0.0
        self.deaths: Counter[str] = Counter()

    def pass_by(self, place: str) -> None:
        """Maybe the last thing this process does."""
        if self.risk and self._random.random() < self.risk:
            self.deaths[place] += 1
            raise Killed(place)


class MortalDatabase(Database):
    """Every writing transaction may be the last: rolled back just before its commit, or committed and nobody knows."""

    def __init__(self, database: Database, fate: Fate) -> None:
        super().__init__(database.engine)
        self._fate = fate

    @contextmanager
    def tx(self, *, is_urgent: bool = False) -> Iterator[Session]:
        with super().tx(is_urgent=is_urgent) as session:
            yield session
            self._fate.pass_by("before a commit")
        self._fate.pass_by("after a commit")


class MortalProvider:
    """A provider whose every call may be the last: not made, or made and its answer never seen."""

    def __init__(self, provider: Any, fate: Fate) -> None:
        self._provider, self._fate = provider, fate

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._provider, name)
        if not callable(value) or name in PURE:
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._fate.pass_by(f"before {name}")
            answer = value(*args, **kwargs)
            self._fate.pass_by(f"after {name}")
            return answer

        return call


def mortal(ctx: Context, fate: Fate) -> Context:
    """The same installation seen by a process with this fate."""
    return dataclasses.replace(
        ctx,
        db=MortalDatabase(ctx.db, fate),
        payments={name: cast(Any, MortalProvider(one, fate)) for name, one in ctx.payments.items()},
        runtimes={name: cast(Any, MortalProvider(one, fate)) for name, one in ctx.runtimes.items()},
        notifier=cast(Any, MortalProvider(ctx.notifier, fate)),
    )
