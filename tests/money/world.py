"""A world in which many customers live at once: one installation, one vendor, one clock, one fate."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Protocol, cast

import pytest
import sqlalchemy as sa

from clawhaven.billing.patience import LONGEST
from clawhaven.context import Context
from clawhaven.core import ids
from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from clawhaven.ports.payments import BadSignature
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_events import due, mark
from clawhaven.providers.payments.sandbox_store import Store
from clawhaven.providers.payments.sandbox_trouble import Trouble
from clawhaven.workflows import payments
from tests.money.hands import Hands
from tests.money.mortality import Fate, Killed, mortal
from tests.workflows.scene import Mailbox, Scene, set_up

BEGAN_AT = datetime(2027, 1, 29, 9, 0, tzinfo=UTC)
"""Near the end of a month, where calendars differ."""

MINUTELY = ("calls", "wallets", "dunning")
SOMETIMES = ("reconcile", "refunds", "money-watch")
NIGHTLY = ("money",)


class SteadyClock(Clock):
    """Moves a millisecond at every look and otherwise when told: the same seed gives the same times."""

    def now(self) -> datetime:
        self._offset += timedelta(milliseconds=1)
        return BEGAN_AT + self._offset


class Ground(Protocol):
    """What customers act on."""

    ctx: Context
    vendor: Sandbox
    random: Random
    actions: int
    done: Counter[str]

    @property
    def now(self) -> datetime:
        """The time there."""

    def say(self, sentence: str) -> None:
        """Remember what happens."""

    def vendor_rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What the vendor's own file says."""


class World:
    """One installation with its vendor. `say` keeps the list of what happened, for a seed that fails."""

    def __init__(self, scene: Scene, random: Random, patch: pytest.MonkeyPatch, began_at: datetime = BEGAN_AT) -> None:
        self.random, self.fate = random, Fate(random)
        self.vendor = cast(Sandbox, scene.ctx.payments["sandbox"])
        self.mailbox: Mailbox = scene.mailbox
        self.gateways = scene.world
        self.ctx = mortal(scene.ctx, self.fate)
        self.clock = self.ctx.clock
        self._began_at = began_at
        self.hands = Hands(self.ctx, self.fate, random, patch)
        self.told: list[str] = []
        self.events = self.actions = 0
        self.done: Counter[str] = Counter()
        """Deeds that were not refused."""

    @property
    def now(self) -> datetime:
        """The time here; the vendor's is the same."""
        return self.clock.now()

    def say(self, sentence: str) -> None:
        """Remember what happens."""
        self.told.append(f"{self._began_at + self.clock._offset:%m-%d %H:%M:%S} {sentence}")

    @contextmanager
    def risk(self, share: float) -> Iterator[None]:
        """Inside, this share of the places kills."""
        before, self.fate.risk = self.fate.risk, share
        try:
            yield
        finally:
            self.fate.risk = before

    def pass_time(self, by: timedelta) -> None:
        """Nothing runs here meanwhile; the vendor's calendar goes on."""
        self.clock.advance(by)
        self.vendor.advance()

    def deliver(self, most: int = 1_000, lost: float = 0.0) -> int:
        """The vendor's courier: due events in their order, `lost` of our answers never reach it."""
        with self.vendor._store.read() as db:
            waiting = [] if self.vendor.trouble().is_down else due(db, self.now, most)
        if self.fate.risk:
            self.random.shuffle(waiting)
        for one in waiting:
            try:
                headers = self.vendor._courier.headers(one.body)
                payments.receive(self.ctx, "sandbox", headers, one.body)
                is_delivered = self.random.random() >= lost
            except Killed:
                is_delivered = False
            except BadSignature:  # pragma: no cover - says what is wrong with this test
                raise AssertionError("the courier signs what it sends") from None
            with self.vendor._store.tx() as db:
                mark(db, one, is_delivered, self.now)
            self.events += is_delivered
        return len(waiting)

    def sweep(self, *, nightly: bool = False) -> None:
        """Every schedule once."""
        self.hands.sweep(*MINUTELY, *SOMETIMES, *(NIGHTLY if nightly else ()))

    def live(self, by: timedelta, step: timedelta = timedelta(days=1)) -> None:
        """Time passes while the installation works."""
        until = self.now + by
        while (left := until - self.now) > timedelta():
            self.pass_time(min(step, left))
            self.deliver()
            self.hands.work()
            self.work_off()

    def work_off(self) -> None:
        """Every schedule and what it asks for; those that come every minute twice, as one asks and the next acts."""
        self.sweep(nightly=True)
        self.hands.work()
        self.hands.sweep(*MINUTELY)
        self.hands.work()

    def calm_down(self) -> None:
        """No trouble any more, and everything that waits is done: what must be true then is in truths.py."""
        self.say("settle")
        self.fate.risk = 0.0
        self.vendor.make_trouble(Trouble())
        for _ in range(2):
            self.pass_time(LONGEST + timedelta(minutes=65))
            while self.deliver():
                self.clock.advance(timedelta(seconds=61))
            self.hands.work()
            for _ in range(1 + self.count("subscription") // 25):
                self.work_off()
        while self.deliver():  # what the last round itself brought about
            self.clock.advance(timedelta(seconds=61))
            self.hands.work()
            self.work_off()
        self.hands.sweep("health")
        self.hands.work()

    def count(self, table: str) -> int:
        """Rows of a table of ours."""
        with self.ctx.db.read() as db:
            return int(db.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0)

    def vendor_rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What the vendor's own file says."""
        with self.vendor._store.read() as db:
            return db.execute(query, values).fetchall()


@contextmanager
def begin(settings: Settings, seed: int, **changes: Any) -> Iterator[World]:
    """A world over a migrated database. The same seed gives the same ids, times and choices."""
    random, letters = Random(seed), Random(seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        source = SimpleNamespace(
            token_bytes=letters.randbytes,
            token_urlsafe=lambda size: letters.randbytes(size).hex(),
            token_hex=lambda size: letters.randbytes(size).hex(),
            randbits=letters.getrandbits,
        )
        patch.setattr(ids, "secrets", source)
        patch.setattr(Store, "_open", _open_hastily)
        changes = {"max_parallel_boots": 10_000, "plans_file": write_plans(settings), **changes}
        with set_up(settings, SteadyClock(), **changes) as scene:
            if scene.ctx.db.is_sqlite:
                sa.event.listen(scene.ctx.db.engine, "connect", _hurry)
            yield World(scene, random, patch)


def disputed_part(reference: str, amount_micros: int) -> int | None:
    """How much of a payment its bank disputes: always the same; None: all of it."""
    is_part = sum(map(ord, reference)) % 3 == 0
    return amount_micros // 2 if is_part and amount_micros else None


def write_plans(settings: Settings) -> Path:
    """The built-in catalogue with trials: a week of `personal`, and `tryout`, which is `metered` with five days."""
    text = (files("clawhaven.billing") / "plans.toml").read_text().replace("trial_days = 0", "trial_days = 7", 1)
    metered = text[text.index("[metered]") :]
    tryout = metered.replace("[metered]", "[tryout]").replace('"Metered"', '"Tryout"').replace("days = 0", "days = 5")
    path = settings.data_dir.parent / "plans.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n{tryout}")
    return path


def _hurry(connection: sqlite3.Connection, _record: object = None) -> None:
    """Nobody pulls the plug here: what a dead process wrote is in the file."""
    connection.execute("PRAGMA synchronous=OFF").close()


def _open_hastily(store: Store) -> sqlite3.Connection:
    db = _open_vendor(store)
    _hurry(db)
    return db


_open_vendor = Store._open
