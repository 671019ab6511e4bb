"""Calls counted in a front: only lone ones, only where nobody has to be waited for, and never twice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from clawhaven.core.errors import Unauthorized
from clawhaven.core.secrets import hash_token
from clawhaven.metering import Ask, Closing, OpenCall, Opening
from clawhaven.ports.upstream import Usage
from clawhaven.proxy.counter import Counter, CountingFailed, Flusher
from clawhaven.proxy.lone import LoneCounter, lone_counter
from clawhaven.proxy.messages import PriceMemory, write_results
from clawhaven.proxy.remote import RemoteCounter
from tests.proxy.conftest import KEY, House
from tests.proxy.test_counter import cut_after_commit
from tests.proxy.test_remote import received

pytestmark = pytest.mark.timeout(60)
ASK = Ask("sandbox-1", "openai-chat", 100, 100)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""On PostgreSQL all calls go to the counter."""

ONE = Opening(ASK, hash_token(KEY), ("sandbox",), "call_1")


@pytest.fixture
def lone_house(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """An installation on SQLite with one customer; no machine is too slow for it."""
    monkeypatch.setattr("clawhaven.proxy.lone.SLOW_SECONDS", 60.0)
    house.grant()
    return house


@contextlib.contextmanager
def writing_elsewhere(house: House) -> Iterator[None]:
    """Another process is writing."""
    with contextlib.closing(sqlite3.connect(str(house.db.engine.url.database), isolation_level=None)) as elsewhere:
        elsewhere.execute("BEGIN IMMEDIATE")
        yield
        elsewhere.execute("ROLLBACK")


@ON_SQLITE
def test_a_lone_call_is_counted_where_it_is(lone_house: House) -> None:
    async def use() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        loop, lone = asyncio.get_running_loop(), lone_counter(lone_house)
        _, remote = await loop.create_connection(lambda: RemoteCounter(lambda: None, lone), sock=ours)
        opened = await remote.do(ONE)
        assert isinstance(opened, OpenCall)
        await asyncio.sleep(0)
        closed = await remote.do(Closing(opened.id, Usage(10, 5), 200))
        assert closed.is_new
        await asyncio.sleep(0)
        with pytest.raises(Unauthorized):
            await remote.do(replace(ONE, key_hash="nobody", call_id="call_2"))
        await asyncio.sleep(0)
        again = await remote.do(Closing(opened.id, Usage(10, 5), 200))
        assert (again.is_new, again.price_micros) == (False, closed.price_micros)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)  # nothing of it went to the counter
        # Of those that come together all but the first go there.
        several = [asyncio.create_task(remote.do(replace(ONE, call_id=f"call_{number}"))) for number in (3, 4, 5)]
        jobs = await received(theirs, 2)
        results = Counter(lone_house).run([job for _, job in jobs])
        memory = PriceMemory()
        told = [memory.write(number, result) for (number, _), result in zip(jobs, results, strict=True)]
        await loop.sock_sendall(theirs, write_results(told))
        calls = await asyncio.gather(*several)
        assert [call.id for call in calls] == ["call_3", "call_4", "call_5"]
        for call in calls:
            Counter(lone_house).run([Closing(call.id, Usage(10, 5), 200)])
        remote.close()
        theirs.close()

    asyncio.run(use())
    assert len(lone_house.calls()) == 4
    lone_house.assert_books_balance()


@ON_SQLITE
def test_a_front_with_many_calls_under_way_counts_none_itself(
    lone_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawhaven.proxy.remote.FEW_CALLS", 2)

    async def use() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        loop, lone = asyncio.get_running_loop(), lone_counter(lone_house)
        _, remote = await loop.create_connection(lambda: RemoteCounter(lambda: None, lone), sock=ours)
        for number in (1, 2):
            await remote.do(replace(ONE, call_id=f"call_{number}"))
            await asyncio.sleep(0)
        third = asyncio.create_task(remote.do(replace(ONE, call_id="call_3")))
        ((number, job),) = await received(theirs, 1)
        (result,) = Counter(lone_house).run([job])
        await loop.sock_sendall(theirs, write_results([PriceMemory().write(number, result)]))
        assert (await third).id == "call_3"
        for call_id in ("call_1", "call_2", "call_3"):
            Counter(lone_house).run([Closing(call_id, None)])
        remote.close()
        theirs.close()

    asyncio.run(use())
    lone_house.assert_books_balance()


@ON_SQLITE
def test_nobody_is_waited_for_on_the_event_loop(lone_house: House) -> None:
    async def use() -> None:
        lone = lone_counter(lone_house)
        assert lone is not None
        with writing_elsewhere(lone_house):
            begun = time.monotonic()
            assert lone.count(ONE) is None
            assert time.monotonic() - begun < 5  # others are waited for for half a minute
        await asyncio.sleep(0)
        assert lone.count(ONE) is None  # it rests
        lone._rests_until = 0.0
        with lone_house.db.tx() as tx:
            tx.connection()
            await asyncio.sleep(0)
            assert lone.count(ONE) is None  # in this process too
        lone._rests_until = 0.0
        await asyncio.sleep(0)
        assert lone.count(ONE).id == "call_1"
        await asyncio.sleep(0)
        assert lone.count(Closing("call_1", Usage(10, 5), 200)).is_new
        lone.close()

    asyncio.run(use())
    lone_house.assert_books_balance()


@ON_SQLITE
def test_after_a_slow_one_all_go_to_the_counter(lone_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawhaven.proxy.lone.SLOW_SECONDS", 0.0)

    async def use() -> None:
        lone = LoneCounter(Counter(lone_house), Flusher(lone_house.db.flush))
        assert lone.count(ONE).id == "call_1"
        await asyncio.sleep(0)
        assert lone.count(Closing("call_1", None)) is None
        lone.close()

    asyncio.run(use())


@ON_SQLITE
def test_a_commit_that_nobody_heard_of_is_no_second_call(lone_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = cut_after_commit(lone_house, monkeypatch, "disk I/O error")

    async def use() -> None:
        lone = lone_counter(lone_house)
        assert lone is not None
        assert lone.count(ONE) is None
        lone.close()

    asyncio.run(use())
    assert cuts
    counter = Counter(lone_house)
    result: Any = counter.run([ONE])[0]
    if isinstance(result, CountingFailed):  # the desk answers that it is overloaded, and closes it
        result = counter.run([Closing("call_1", None, 499, "not admitted")])[0]
        assert result.is_new
    assert len(lone_house.calls()) == 1
    lone_house.assert_books_balance()


def test_only_where_a_commit_waits_for_nothing(house: House) -> None:
    async def use() -> LoneCounter | None:
        house.settings = house.settings.model_copy(update={"proxy_waits_for_disk": True})
        return lone_counter(house)

    assert asyncio.run(use()) is None
