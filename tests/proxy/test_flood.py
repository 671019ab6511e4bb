"""More calls at once than money or limits allow, at two proxies of one installation: exact in both, and fair."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from clawhaven import ledger
from clawhaven.core.secrets import hash_token
from clawhaven.metering import UsageRow
from tests.conftest import free_port
from tests.proxy.conftest import KEY, House
from tests.proxy.rawvendor import RawVendor, Wire, whole
from tests.proxy.test_kill import start
from tests.proxy.wire import claude_body

OTHER_KEY = "chk_test_other_0123456789"
USED = 9_000
"""Output tokens of every answer, of 10,000 that are asked for."""

BODY = json.dumps(claude_body(max_tokens=10_000)).encode()
ANSWER = json.dumps(
    {"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 10, "output_tokens": USED}}
).encode()


class Gate:
    """A script that lets nothing through until it is opened; `waiting` is how many calls the vendor has in hand."""

    def __init__(self, vendor: RawVendor) -> None:
        self.waiting, self._vendor, self._is_open = 0, vendor, asyncio.Event()

    async def __call__(self, wire: Wire) -> None:
        self.waiting += 1
        await self._is_open.wait()
        self.waiting -= 1
        await wire.send(whole(ANSWER))

    def open(self) -> None:
        """From now on calls are answered at once."""
        self._vendor.call(self._is_open.set)


@dataclass
class Counts:
    """What came back."""

    served: int = 0
    refused: int = 0
    busy: int = 0
    other: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.served + self.refused + self.busy + len(self.other)

    def note(self, status: int, body: str) -> None:
        if status == 200 and ("/topup" in body or "/usage" in body):
            self.refused += 1
        elif status == 200 and str(USED) in body:
            self.served += 1
        elif status == 429:
            self.busy += 1
        else:
            self.other.append(f"{status} {body[:100]}")


@pytest.fixture
def vendor() -> Iterator[RawVendor]:
    server = RawVendor()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxies(house: House, vendor: RawVendor, database_url: str, tmp_path: Path) -> Iterator[Sequence[str]]:
    """Two processes on one database."""
    ports = [free_port(), free_port()]
    running = [start(port, database_url, vendor, tmp_path / str(port)) for port in ports]  # type: ignore[arg-type]
    yield [f"http://127.0.0.1:{port}" for port in ports]
    for process in running:
        process.kill()
        process.wait()


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=240)) as session:
        yield session


async def call(session: aiohttp.ClientSession, url: str, counts: Counts, key: str = KEY) -> None:
    headers = {"x-api-key": key, "content-type": "application/json"}
    async with session.post(f"{url}/v1/messages", data=BODY, headers=headers) as answer:
        counts.note(answer.status, await answer.text())


async def until(check: Callable[[], bool]) -> None:
    """Wait for it, for the test's patience at most."""
    async with asyncio.timeout(120):
        while True:
            if check():
                return
            await asyncio.sleep(0.01)


async def flood(proxies: Sequence[str], how_many: int, gate: Gate, let_through: int) -> Counts:
    """So many calls at once; the vendor answers only once everybody else has been refused."""
    counts = Counts()
    async with client() as session, asyncio.timeout(200):
        tasks = [
            asyncio.create_task(call(session, proxies[number % len(proxies)], counts)) for number in range(how_many)
        ]
        while counts.total < how_many - let_through or gate.waiting < let_through:
            await asyncio.sleep(0.02)
            assert gate.waiting <= let_through, "more calls are under way than may be"
        await asyncio.sleep(0.2)
        assert (gate.waiting, counts.total) == (let_through, how_many - let_through)
        gate.open()
        await asyncio.gather(*tasks)
    return counts


def wallet_of(house: House, name: str, micros: int) -> str:
    """A wallet with so much in it."""
    now = house.clock.now()
    with house.db.tx() as db:
        account = ledger.open_account(db, "wallet", name, 0, now=now)
        if micros:
            ledger.credit(db, key=f"credit {name}", ledger_account_id=account, amount_micros=micros, now=now)
    return account


def held_for_one(house: House, vendor: RawVendor) -> int:
    """What is set aside for a call, seen while one is under way."""
    gate = vendor.script = Gate(vendor)

    async def look() -> int:
        async with client() as session:
            task = asyncio.create_task(call(session, house.url, Counts()))
            await until(lambda: gate.waiting == 1)
            held = house.balance().held_micros
            gate.open()
            await task
        return held

    return asyncio.run(look())


@pytest.mark.timeout(600)
def test_a_thousand_at_once_on_a_wallet_for_ten(house: House, vendor: RawVendor, proxies: Sequence[str]) -> None:
    house.grant(max_in_flight=None)
    each, price = held_for_one(house, vendor), 10 * 3 + USED * 15
    assert house.last_call().price_micros == price < each
    poor = house.account = wallet_of(house, "acc_poor", 10 * each + 5)
    house.grant(dollars=0, ledger_account_id=poor, max_in_flight=None)
    house.account = poor
    gate = vendor.script = Gate(vendor)

    counts = asyncio.run(flood(proxies, 1000, gate, 10))
    assert (counts.served, counts.refused, counts.busy, counts.other) == (10, 990, 0, [])
    left = 10 * each + 5 - 10 * price
    assert (house.balance().balance_micros, house.balance().held_micros) == (left, 0)

    # What came back goes on being spent, to the last call that its hold still fits in; no call is refused before.
    async def spend() -> Counts:
        found = Counts()
        async with client() as session:
            while not found.refused:
                await call(session, proxies[found.total % 2], found)
        return found

    more = asyncio.run(spend())
    assert more.served == (left - each) // price + 1
    assert 0 <= house.balance().balance_micros < each
    with house.db.read() as db:
        assert ledger.check_books(db) == []
        assert db.scalar(sa.select(sa.func.count()).where(UsageRow.state == "open")) == 0
        assert db.scalar(sa.select(sa.func.sum(UsageRow.uncovered_micros))) == 0


@pytest.mark.timeout(400)
def test_calls_in_flight_are_counted_exactly(house: House, vendor: RawVendor, proxies: Sequence[str]) -> None:
    house.grant(max_in_flight=7)
    for _ in range(2):  # and again once they are over
        gate = vendor.script = Gate(vendor)
        counts = asyncio.run(flood(proxies, 200, gate, 7))
        assert (counts.served, counts.refused, counts.busy, counts.other) == (7, 0, 193, [])
    assert house.balance().held_micros == 0


@pytest.mark.timeout(400)
def test_messages_an_hour_are_counted_exactly(house: House, vendor: RawVendor, proxies: Sequence[str]) -> None:
    house.grant(max_in_flight=None, messages_per_hour=20)
    gate = vendor.script = Gate(vendor)
    counts = asyncio.run(flood(proxies, 200, gate, 20))
    assert (counts.served, counts.refused, counts.busy, counts.other) == (20, 180, 0, [])
    assert house.balance().held_micros == 0


@pytest.mark.timeout(400)
def test_tokens_a_day_are_counted_exactly(house: House, vendor: RawVendor, proxies: Sequence[str]) -> None:
    """Of calls under way all that they may use is counted; what they did not use is there for others."""
    house.grant(max_in_flight=None, tokens_per_day=5 * USED + 4_000)
    most = 10_000 + len(BODY) // 2 + 2_000
    for let_through in (5, 1):
        assert 4 * most < 5 * USED + 4_000 <= 5 * most
        gate = vendor.script = Gate(vendor)
        counts = asyncio.run(flood(proxies, 200, gate, let_through))
        assert (counts.served, counts.refused, counts.busy, counts.other) == (let_through, 0, 200 - let_through, [])
        assert {row.held_tokens for row in house.calls()} == {most}
    counts = asyncio.run(flood(proxies, 200, gate, 0))
    assert (counts.refused, counts.busy, counts.other) == (200, 0, [])


def give_another(house: House) -> None:
    """A second instance with its own key and wallet."""
    other = wallet_of(house, "acc_other", 100_000_000)
    mine, house.instance = (house.instance, house.account), "ins_2"
    house.grant(dollars=0, key_hash=hash_token(OTHER_KEY), ledger_account_id=other, max_in_flight=None)
    house.instance, house.account = mine


@pytest.mark.timeout(400)
def test_one_whose_calls_all_hang_does_not_stop_another(house: House, vendor: RawVendor) -> None:
    house.grant(max_in_flight=None)
    give_another(house)
    gate = Gate(vendor)

    async def script(wire: Wire) -> None:
        is_flood = b"flood" in wire.seen.body
        await (gate(wire) if is_flood else wire.send(whole(ANSWER)))

    vendor.script = script

    async def both() -> tuple[Counts, Counts]:
        mine, flooding = Counts(), Counts()
        body = BODY.replace(b"hello", b"flood")
        async with client() as session:

            async def hang() -> None:
                headers = {"x-api-key": KEY}
                async with session.post(f"{house.url}/v1/messages", data=body, headers=headers) as answer:
                    flooding.note(answer.status, await answer.text())

            tasks = [asyncio.create_task(hang()) for _ in range(100)]
            await until(lambda: gate.waiting == 100)
            for _ in range(10):
                await call(session, house.url, mine, OTHER_KEY)
            assert gate.waiting == 100
            gate.open()
            await asyncio.gather(*tasks)
        return mine, flooding

    mine, flooding = asyncio.run(both())
    assert (mine.served, flooding.served) == (10, 100)


@pytest.mark.timeout(400)
def test_a_flood_leaves_others_their_turn(house: House, vendor: RawVendor, proxies: Sequence[str]) -> None:
    """While one instance calls through 100 connections without a pause, another does not wait behind them: while one of
    its calls is under way, at most half as many of the flood's end, in the median, as it has connections, and twice as
    many whatever else the machine does. Both have called before: to open a connection and to read who calls is not what
    is shared out here."""
    rich = wallet_of(house, "acc_rich", 100_000_000_000)
    house.grant(dollars=0, ledger_account_id=rich, max_in_flight=None)
    give_another(house)
    gate = vendor.script = Gate(vendor)
    gate.open()
    width, turns = 100, 20

    async def both() -> tuple[list[int], Counts, Counts]:
        mine, flooding, waits = Counts(), Counts(), []
        is_over = False
        async with client() as session, client() as other:
            await call(other, proxies[0], mine, OTHER_KEY)

            async def press() -> None:
                while not is_over:
                    await call(session, proxies[0], flooding)

            tasks = [asyncio.create_task(press()) for _ in range(width)]
            await until(lambda: flooding.total >= 2 * width)
            for _ in range(turns):
                before = flooding.total
                await call(other, proxies[0], mine, OTHER_KEY)
                waits.append(flooding.total - before)
            is_over = True
            await asyncio.gather(*tasks)
        return waits, mine, flooding

    waits, mine, flooding = asyncio.run(both())
    assert (mine.served, flooding.served) == (turns + 1, flooding.total)
    assert statistics.median(waits) <= width / 2, waits
    assert max(waits) <= 2 * width, waits
