"""The real thing: API, worker and courier in a process that is killed -9 while the vendor's events arrive."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_trouble import Trouble
from tests.fakes.world import FolderRuntime
from tests.journeys.installation import Installation
from tests.money.beside import go_on, kill_worker, rows_of
from tests.money.facts import Facts
from tests.money.truths import TRUTHS

CUSTOMERS = 24
KILLS = 5
UNDONE = (("payment_event", "state = 'received'"), ("operation", "state <> 'done'"), ("notice", "state <> 'sent'"))


class Outside:
    """The same installation as the truths see it: the vendor's file, the gateways, the time."""

    def __init__(self, house: Installation, vendor: Sandbox) -> None:
        self._house, self._vendor = house, vendor

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def gateways(self) -> FolderRuntime:
        return self._house.world

    def vendor_rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        return rows_of(self._vendor, query, *values)


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    installation = Installation(tmp_path, database_url)
    yield installation
    installation.close()


def test_killed_at_any_moment_while_events_arrive(house: Installation) -> None:
    random, process = Random(11), _start(house)
    pages = []
    for number in range(CUSTOMERS):
        plan = random.choice(["personal", "metered", "monthly"])
        pages.append(house.sign_up(f"c{number}@example.com", plan=plan).json()["checkout_url"].rsplit("/", 1)[1])
    vendor = Sandbox(Sandbox.Options(), house.settings)
    vendor.make_trouble(Trouble(duplicate=2, is_reordering=True))
    outside = Outside(house, vendor)
    for _ in range(KILLS):
        for _ in range(CUSTOMERS // KILLS + 1):
            if pages:
                vendor.complete(pages.pop(), "paid")
            go_on(random, vendor)
            time.sleep(random.random() * 0.4)
        kill_worker(house, process)
        process = _start(house)
    for page in pages:
        vendor.complete(page, "paid")
    house.wait(lambda: vendor.stage().waiting_events == 0, "every event to be delivered", 90)
    for table, where in UNDONE:
        house.wait(partial(_is_done, house, table, where), f"{table}: {where}", 120)
    assert house.count("subscription") == CUSTOMERS
    assert house.count("payment_event", "state = 'handled'") > 4 * CUSTOMERS
    with house.db.read() as db:
        facts = Facts(outside, db)
        assert [lie for truth in TRUTHS for lie in truth(facts)] == []


def _start(house: Installation) -> Any:
    return house.start(WEBHOOKS_PER_MINUTE="100000", MAX_CUSTOMERS="1000", MAX_PARALLEL_BOOTS="8")


def _is_done(house: Installation, table: str, where: str) -> bool:
    return house.count(table, where) == 0
