"""People, couriers and a bank act at once on the same customers, beside a worker that is killed -9.

What is asked is the same for the same seed: who does what to whom, and how they choose among what is there. In which
order it happens, and where it is cut off, is up to the machine. Then everybody stops, and what is left open comes to
its end in this process, where the truths are looked for.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from clawhaven.billing import coupons
from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.notifier import Message
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_events import due, mark
from clawhaven.providers.payments.sandbox_trouble import Trouble
from clawhaven.workflows import payments
from tests.journeys.installation import Installation
from tests.money.histories import Tale
from tests.money.mortality import Fate, Killed, mortal
from tests.money.people import COUPONS, DEEDS, Customer, View
from tests.money.truths import find_lies
from tests.money.world import World, write_plans
from tests.workflows.scene import Scene, set_up

PEOPLE = 4
CUSTOMERS = 5
PACE = 0.12
"""The longest that one waits between two deeds, in seconds."""

RISK = 0.05
"""The share of commits and vendor calls at which the process dies in which somebody acts."""

LETTERS_AT_ONCE = 4
"""So many letters may be sent and not yet noted when a worker dies (the queue's concurrency)."""

Deed = Callable[[Customer, View], None]


@dataclass(frozen=True)
class Ask:
    """Somebody does this to this customer; `seed` is of the choices within. Who is not there yet signs up instead."""

    customer: int
    deed: Deed
    seed: int


def asks_of(seed: int, person: int, deeds: int) -> list[Ask]:
    """Everything one person asks for, in order: each begins with customers to sign up and to pay for."""
    random = Random(f"{seed}:{person}")
    mine = [number for number in range(CUSTOMERS) if number % PEOPLE == person]
    begin: list[tuple[int, Deed]] = [(number, Customer.visit_page) for number in mine for _ in range(2)]
    kinds, weights = zip(*DEEDS, strict=True)
    chosen = random.choices(kinds, weights, k=deeds)
    return [
        Ask(number, deed, random.getrandbits(32))
        for number, deed in [*begin, *((random.randrange(CUSTOMERS), deed) for deed in chosen)]
    ]


class Corner:
    """Where one person's deeds happen: a process of its own, as it were, that may die and be started again."""

    def __init__(self, scene: Scene, fate: Fate) -> None:
        self.fate, self.random, self.vendor = fate, Random(), scene.vendor
        fate.risk = RISK
        self.ctx = mortal(scene.ctx, fate)
        self.told: list[tuple[float, str]] = []
        self.actions, self.done = 0, Counter[str]()

    @property
    def now(self) -> datetime:
        """The time there."""
        return self.ctx.clock.now()

    def say(self, sentence: str) -> None:
        """Remember what happens."""
        self.told.append((time.monotonic(), sentence))

    def vendor_rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What the vendor's own file says."""
        return rows_of(self.vendor, query, *values)


class Neighbour(Customer):
    """A customer to whom things happen that were chosen before."""

    def meet(self, deed: Deed) -> None:
        """This happens; who is not there yet signs up."""
        self.world.actions += 1
        view = self._look()
        if view is None:
            self._deed = "sign_up"
            self.sign_up()
        else:
            self._deed = deed.__name__
            deed(self, view)


class Crowd:
    """Everybody who acts at once. `broken` is what nobody expected."""

    def __init__(self, scene: Scene, seed: int, deeds: int) -> None:
        self._scene, self._seed, self._over = scene, seed, threading.Event()
        self.corners = [Corner(scene, Fate(Random(f"{seed}:fate:{one}"))) for one in range(PEOPLE)]
        self.people = [
            self._thread(self._act, person, corner, asks_of(seed, person, deeds))
            for person, corner in enumerate(self.corners)
        ]
        self._others = [self._thread(self._carry), self._thread(self._bank)]
        self.broken: list[str] = []
        self.events = 0

    def begin(self) -> None:
        """Everybody at once."""
        for thread in (*self.people, *self._others):
            thread.start()

    def end(self, seconds: float) -> None:
        """Wait until every person has done everything, then stop the others."""
        deadline = time.monotonic() + seconds
        for thread in self.people:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._over.set()
        for thread in (*self.people, *self._others):
            thread.join(30)
            if thread.is_alive():
                self.broken.append(f"{thread.name} does not come to an end")

    def _thread(self, work: Callable[..., None], *args: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(*args)
            except Exception:
                self.broken.append(traceback.format_exc())

        return threading.Thread(target=run, name=f"{work.__name__}{args[:1]}", daemon=True)

    def _act(self, person: int, corner: Corner, asks: list[Ask]) -> None:
        customers = [Neighbour(corner, number) for number in range(CUSTOMERS)]
        pace = Random(f"{self._seed}:pace:{person}")
        for one in asks:
            if self._over.is_set():
                return
            corner.random.seed(one.seed)
            try:
                customers[one.customer].meet(one.deed)
            except Killed as death:
                corner.say(f"killed {death}")
            except Exception:
                corner.say(f"broke: {one.deed.__name__} of {one.customer}")
                self.broken.append(traceback.format_exc())
            time.sleep(pace.random() * PACE)

    def _carry(self) -> None:
        """A second courier, which brings events out of order, and whose own notes of them get lost."""
        random, scene = Random(f"{self._seed}:courier"), self._scene
        while not self._over.wait(0.2):
            with scene.vendor._store.read() as db:
                waiting = due(db, scene.ctx.clock.now())
            random.shuffle(waiting)
            for one in waiting:
                payments.receive(scene.ctx, "sandbox", scene.vendor._courier.headers(one.body), one.body)
                self.events += 1
                with scene.vendor._store.tx() as db:
                    mark(db, one, random.random() < 0.8, scene.ctx.clock.now())

    def _bank(self) -> None:
        random = Random(f"{self._seed}:bank")
        while not self._over.wait(random.random() * 4 * PACE):
            go_on(random, self._scene.vendor)


def tell_beside(folder: Path, database_url: str, seed: int, *, kills: int, deeds: int) -> Tale:
    """Play one installation in `folder`, its database migrated, with so many deaths of its worker and so many deeds of
    each person, to its end."""
    house = Installation(folder, database_url)
    try:
        plans = write_plans(house.settings)
        with set_up(house.settings, plans_file=plans, max_parallel_boots=1_000) as scene:
            _offer_coupons(scene)
            crowd = _play(house, scene, seed, kills, deeds, plans)
            return _settle(house, scene, seed, kills, crowd)
    finally:
        house.close()


def _play(house: Installation, scene: Scene, seed: int, kills: int, deeds: int, plans: Path) -> Crowd:
    random, settings = Random(f"{seed}:kills"), {"WEBHOOKS_PER_MINUTE": "100000", "MAX_CUSTOMERS": "1000"}
    settings |= {"MAX_PARALLEL_BOOTS": "1000", "DRAIN_SECONDS": "0", "PLANS_FILE": str(plans)}
    process = house.start(**settings)
    scene.vendor.make_trouble(Trouble(duplicate=1, is_reordering=True))
    crowd = Crowd(scene, seed, deeds)
    crowd.begin()
    for _ in range(kills):
        time.sleep(0.5 + 2.5 * random.random())
        kill_worker(house, process)
        process = house.start(**settings)
    crowd.end(60)
    kill_worker(house, process)
    return crowd


def _settle(house: Installation, scene: Scene, seed: int, kills: int, crowd: Crowd) -> Tale:
    """Nobody asks for anything any more: all that waits is done here, and then the truths hold."""
    with pytest.MonkeyPatch.context() as patch:
        world = World(scene, Random(seed), patch, scene.ctx.clock.now())
        world.mailbox.letters[:0] = _letters(house.settings)
        world.fate.deaths["after send"] = (kills + 1) * LETTERS_AT_ONCE
        world.calm_down()
        lies = [f"something broke: {one}" for one in crowd.broken] + find_lies(world)
    told = sorted(line for corner in crowd.corners for line in corner.told)
    tale = Tale(seed, lies, [f"{at:.3f} {sentence}" for at, sentence in told] + world.told)
    tale.deaths, tale.events = Counter({"worker": kills}), crowd.events + world.events
    for corner in crowd.corners:
        tale.deaths += corner.fate.deaths
        tale.done += corner.done
        tale.deeds += corner.actions
    tale.workflows = world.hands.done
    return tale


def _offer_coupons(scene: Scene) -> None:
    with scene.ctx.db.tx() as db:
        for code, (kind, value) in COUPONS.items():
            coupons.create(db, code, kind, value, now=scene.ctx.clock.now(), months=None if kind == "amount" else 0)


def _letters(settings: Settings) -> list[Message]:
    """What the processes sent."""
    path = settings.data_dir / "mail.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [Message(one["key"], one["to"], one["subject"], one["text"]) for one in map(json.loads, lines)]


def kill_worker(house: Installation, process: Any) -> None:
    """kill -9, and the next worker need not wait for its lease, which lasts a minute."""
    house.kill(process)
    with house.db.tx() as db:
        db.connection().exec_driver_sql("UPDATE executor_lease SET seen = 0")


def go_on(random: Random, vendor: Sandbox) -> None:
    """Something happens to a subscription at the vendor."""
    rows = rows_of(vendor, "SELECT reference FROM subscriptions WHERE state <> 'canceled' ORDER BY rowid")
    if not rows:
        return
    reference = random.choice(rows)["reference"]
    paid = rows_of(vendor, "SELECT reference FROM payments WHERE subscription = ? ORDER BY rowid", reference)
    with suppress(ProviderError):  # refused for good: given back already, or failed
        match random.randrange(6):
            case 0 | 1:
                vendor.renew(reference)
            case 2:
                vendor.fail_renewal(reference)
            case 3:
                vendor.pay_owed(reference)
            case 4:
                vendor.cancel(reference, at_period_end=True)
            case _ if paid:  # of a trial nothing is paid yet
                vendor.refund_rest(random.choice(paid)["reference"])


def rows_of(vendor: Sandbox, query: str, *values: Any) -> list[sqlite3.Row]:
    """What the vendor's own file says."""
    with vendor._store.read() as db:
        return db.execute(query, values).fetchall()
