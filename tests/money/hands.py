"""Runs what was enqueued, without DBOS: one workflow at a time, in a random order that its queues allow.

A workflow that dies is run again from its very beginning. That is harsher than DBOS, which keeps finished steps.
"""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any, cast

import pytest
import sqlalchemy as sa
from dbos import DBOSClient
from dbos._dbos import _get_or_create_dbos_registry

from clawhaven.context import Context
from clawhaven.workflows import attempts, engine, schedule
from tests.money.mortality import Fate, Killed

NO_END = 5_000
"""Workflows run at a stretch; more than that is work that makes work."""

WAITING = ["ENQUEUED", "PENDING", "DELAYED"]


class Hands:
    """The worker of a world."""

    def __init__(self, ctx: Context, fate: Fate, random: Random, patch: pytest.MonkeyPatch) -> None:
        self._ctx, self._fate, self._random = ctx, fate, random
        self._order: dict[str, int] = {}
        self.done: Counter[str] = Counter()
        self.broken: list[str] = []
        """Steps that ended in a way nobody expected."""
        registered = _get_or_create_dbos_registry().workflow_info_map
        self._functions = {
            name: cast(Callable[..., Any], cast(Any, found).__wrapped__) for name, found in registered.items()
        }
        self._watch(patch)

    def _watch(self, patch: pytest.MonkeyPatch) -> None:
        """Waiting moves the clock, the order of asking is remembered, and what breaks is heard of."""
        ask = DBOSClient.enqueue_in_transaction

        def remember(client: DBOSClient, db: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            self._order.setdefault(options["workflow_id"], len(self._order))
            return ask(client, db, options, *args, **kwargs)

        patch.setattr(DBOSClient, "enqueue_in_transaction", remember)
        for module in (engine, attempts):
            patch.setattr(module, "pause", self._wait)
        patch.setattr(engine, "sleep", self._wait)
        patch.setattr(engine, "_context", self._ctx)
        for module in (attempts, *schedule.WORKFLOWS):
            if hasattr(module, "log"):
                patch.setattr(module, "log", Ear(self.broken))

    def _wait(self, seconds: float) -> None:
        self._ctx.clock.advance(timedelta(seconds=seconds))

    def waiting(self) -> list[Any]:
        """What may run now: of each partition the oldest, in the order in which it was asked for."""
        found = engine._client(self._ctx).list_workflows(status=WAITING, load_output=False)
        heads: dict[str, Any] = {}
        for one in sorted(found, key=lambda one: self._order.get(one.workflow_id, 0)):
            heads.setdefault(one.queue_partition_key or one.workflow_id, one)
        return list(heads.values())

    def work(self, most: int = NO_END) -> int:
        """Run up to so many, in a random order; returns how many came to an end."""
        ended = tried = 0
        while tried < most and (heads := self.waiting()):
            self._random.shuffle(heads)
            for one in heads[: most - tried]:
                tried += 1
                ended += self._run(one)
            assert tried < NO_END, f"work makes work: {self.done.most_common(5)}"
        return ended

    def _run(self, one: Any) -> bool:
        try:
            word = self._functions[one.name](*one.input["args"])
            self._fate.pass_by("before a workflow's end is recorded")
        except Killed:
            return False
        self.done[one.name] += 1
        self._record_end(one.workflow_id, word)
        return True

    def _record_end(self, workflow_id: str, word: Any) -> None:
        table = "workflow_status" if self._ctx.db.is_sqlite else "dbos.workflow_status"
        now = int(self._ctx.clock.now().timestamp() * 1000)
        what = "status = 'SUCCESS', completed_at = :now, output = :word"
        values = {"now": now, "word": json.dumps(word), "id": workflow_id}
        with self._ctx.db.engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE {table} SET {what} WHERE workflow_uuid = :id"), values)

    def sweep(self, *names: str) -> None:
        """What a schedule does, killed in between as anything else."""
        for entry in schedule.SCHEDULES:
            if entry["name"] in names:
                try:
                    entry["function"].__wrapped__(self._ctx.clock.now(), None)
                except Killed:
                    continue


class Ear:
    """A module's log: remembers what broke, and nothing else."""

    def __init__(self, broken: list[str]) -> None:
        self._broken = broken

    def exception(self, sentence: str, **details: Any) -> None:
        """Something that nobody expected."""
        self._broken.append(f"{sentence} {details}\n{traceback.format_exc()}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None
