"""Long answers have threads and places of their own, and give both back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from clawhaven.core import carrying
from clawhaven.core.carrying import Seats, carry
from clawhaven.core.errors import Invalid, RateLimited, Unavailable


async def collect(seats: Seats, items: Iterator[int], key: str = "a") -> list[int | None]:
    return [item async for item in await carry(seats, key, lambda: items)]


def until_free(seats: Seats) -> None:
    """Until no thread has a place any more."""
    for _ in range(3000):
        if not seats._taken:
            return
        time.sleep(0.01)
    raise AssertionError("a place was never given back")


@pytest.fixture
def seats() -> Iterator[Seats]:
    """Two places for one, three in all; every test must leave them free."""
    made = Seats(most_of_one=2, most=3)
    yield made
    until_free(made)


def test_items_keep_their_order_however_many(seats: Seats) -> None:
    assert asyncio.run(collect(seats, iter(range(1000)))) == list(range(1000))


def test_what_fails_fails_where_it_is_awaited(seats: Seats) -> None:
    def refuse() -> Iterator[int]:
        raise Invalid("no")

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("broken")

    async def begin() -> None:
        await carry(seats, "a", refuse)

    with pytest.raises(Invalid):
        asyncio.run(begin())
    got: list[int | None] = []

    async def read() -> None:
        async for item in await carry(seats, "a", broken):
            got.append(item)

    with pytest.raises(LookupError, match="broken"):
        asyncio.run(read())
    assert got == [1]


def test_a_silent_source_is_bridged_with_heartbeats(seats: Seats) -> None:
    heard = threading.Event()

    def slow() -> Iterator[int]:
        heard.wait(30)
        yield 7

    async def run() -> list[int | None]:
        got: list[int | None] = []
        async for item in await carry(seats, "a", slow, quiet_seconds=0.01):
            got.append(item)
            heard.set()
        return got

    got = asyncio.run(run())
    assert got[0] is None
    assert got[-1] == 7


def test_one_key_has_its_places_and_all_have_theirs(seats: Seats) -> None:
    go = threading.Event()

    def held() -> Iterator[int]:
        go.wait(30)
        yield 1

    async def run() -> list[list[int | None]]:
        under_way = [await carry(seats, key, held) for key in ("a", "a")]
        with pytest.raises(RateLimited) as refused:
            await carry(seats, "a", held)
        assert refused.value.details["retry_after"] > 0
        under_way.append(await carry(seats, "b", held))
        with pytest.raises(Unavailable):
            await carry(seats, "c", held)
        go.set()
        return [[item async for item in items] for items in under_way]

    assert asyncio.run(run()) == [[1], [1], [1]]
    until_free(seats)
    assert asyncio.run(collect(seats, iter([5]))) == [5]


def test_a_reader_who_leaves_keeps_the_place_until_the_thread_has_ended(seats: Seats) -> None:
    go, closed = threading.Event(), threading.Event()

    def endless() -> Iterator[int]:
        try:
            yield 1
            go.wait(30)
            while True:
                yield 2
        finally:
            closed.set()

    async def leave() -> None:
        for _ in range(2):
            items = await carry(seats, "a", endless)
            assert await anext(items) == 1
            await items.aclose()
        with pytest.raises(RateLimited):  # coming and going makes no further threads
            await carry(seats, "a", endless)
        go.set()
        await asyncio.to_thread(until_free, seats)

    asyncio.run(leave())
    assert closed.wait(30)


def test_a_reader_who_takes_nothing_is_let_go(seats: Seats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "READER_SECONDS", 0.05)

    def endless() -> Iterator[int]:
        while True:
            yield 1

    async def sleep() -> None:
        items = await carry(seats, "a", endless)
        await asyncio.to_thread(until_free, seats)
        await items.aclose()

    asyncio.run(sleep())
