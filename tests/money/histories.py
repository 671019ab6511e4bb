"""Random histories of many customers in one world, from one seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from clawhaven.billing import coupons
from clawhaven.core.settings import Settings
from clawhaven.providers.payments.sandbox_trouble import Trouble
from tests.money.people import COUPONS, Customer
from tests.money.truths import find_lies
from tests.money.world import World, begin

RISK = 0.02
"""The share of commits, vendor calls and ends of workflows at which a process dies, while anything may go wrong."""

LEAPS = ((timedelta(minutes=30), 50), (timedelta(hours=12), 35), (timedelta(days=4), 10), (timedelta(days=20), 3))
"""The longest that passes between the visits of two customers, and how often."""


AFTERMATH = timedelta(days=23)
"""More than a time of grace and what follows it: whoever owed at its beginning has paid or is deleted."""


@dataclass
class Tale:
    """What came of one world. `lies` is empty when all is well, and `told` says what happened."""

    seed: int
    lies: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    deeds: int = 0
    events: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    workflows: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)


def tell(settings: Settings, seed: int, customers: int = 10, deeds: int = 15) -> Tale:
    """Play one world to its end, and look twice: as soon as it is calm, and when every grace is over."""
    tale = Tale(seed)
    with begin(settings, seed) as world:
        try:
            play(world, customers, deeds)
            world.calm_down()
            tale.lies = find_lies(world)
            if not tale.lies:
                world.live(AFTERMATH, timedelta(days=8))
                world.calm_down()
                tale.lies = find_lies(world)
        except Exception as problem:
            world.say(f"{type(problem).__name__}: {problem}")
            tale.told = world.told
            raise AssertionError(f"seed {seed}:\n" + "\n".join(world.told)) from problem
        tale.told, tale.deaths, tale.workflows = world.told, world.fate.deaths, world.hands.done
        tale.deeds, tale.events, tale.done = world.actions, world.events, world.done
    return tale


def play(world: World, customers: int, deeds: int) -> None:
    """So many customers with about so many deeds each, while vendor, network and processes fail."""
    with world.ctx.db.tx() as db:
        for code, (kind, value) in COUPONS.items():
            months = None if kind == "amount" else 0
            coupons.create(db, code, kind, value, now=world.now, months=months)
    people = [Customer(world, number) for number in range(customers)]
    left = customers * deeds
    while left > 0:
        who, several = world.random.choice(people), world.random.randint(1, 6)
        with world.risk(RISK):
            for _ in range(several):
                who.act()
                _go_on(world)
        left -= several
        with world.risk(RISK):
            _let_time_pass(world)


def _go_on(world: World) -> None:
    """Between two deeds: minutes pass, some of what waits is done, some is late, and something may go wrong."""
    random = world.random
    if random.random() < 0.03:
        _make_trouble(world, random)
    world.pass_time(timedelta(seconds=random.choice([1, 1, 60, 900])))
    if random.random() < 0.6:
        world.deliver(random.choice([1, 5, 100]), lost=0.1)
    if random.random() < 0.7:
        world.hands.work(random.choice([1, 4, 50]))
    if random.random() < 0.1:
        world.sweep()


def _let_time_pass(world: World) -> None:
    """Hours, days or weeks, most of which the installation is up."""
    random = world.random
    by = random.choices([one for one, _ in LEAPS], [weight for _, weight in LEAPS])[0] * random.random()
    if by > timedelta(days=1) and random.random() < 0.7:
        world.say(f"{by} pass")
        world.live(by)
    else:
        world.say(f"nothing runs for {by}")
        world.pass_time(by)
        if random.random() < 0.3:
            world.sweep(nightly=random.random() < 0.3)


def _make_trouble(world: World, random: Random) -> None:
    is_well = random.random() < 0.4
    trouble = Trouble(
        delay_seconds=random.choice([0, 0, 30, 86_400, 3 * 86_400]),
        duplicate=random.choice([0, 0, 1, 3]),
        is_reordering=random.random() < 0.5,
        is_dropping=random.random() < 0.25,
        is_down=random.random() < 0.2,
        next_card=random.choice([None, None, "declined", "needs_3ds"]),
    )
    world.vendor.make_trouble(Trouble() if is_well else trouble)
    world.say("the vendor is well again" if is_well else f"trouble: {trouble}")
