"""Bounds in memory: a minute's turns, turns at once, and a line of bounded length."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from clawhaven.proxy.turns import Lane, Lanes, TooMany, Turns


def test_a_minute_has_so_many_turns_for_each() -> None:
    now = 100.0
    turns = Turns(lambda: now)
    for _ in range(2):
        with turns.turn("a", 2):
            pass
    now = 130.5
    with pytest.raises(TooMany) as caught, turns.turn("a", 2):
        pass
    assert caught.value.retry_after == 30
    with turns.turn("b", 2):
        pass
    now = 160.0
    with turns.turn("a", 2):
        pass


def test_turns_at_once_end_with_their_block_and_outlast_the_sweep() -> None:
    now = 0.0
    turns = Turns(lambda: now)
    with ExitStack() as stack:
        stack.enter_context(turns.turn("a", 9, at_once=1))
        now = 600.0
        with pytest.raises(TooMany) as caught:
            stack.enter_context(turns.turn("a", 9, at_once=1))
        assert caught.value.retry_after == 1
    with turns.turn("a", 9, at_once=1):
        pass


async def _crowd() -> tuple[list[int], int]:
    lane, order, refused, gate = Lane(1, 2), list[int](), 0, asyncio.Event()

    async def come(number: int) -> None:
        async with lane.place():
            await gate.wait()
            order.append(number)

    tasks = [asyncio.ensure_future(come(number)) for number in range(4)]
    await asyncio.sleep(0)
    gate.set()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        refused += isinstance(ended, TooMany)
    assert lane.inside == 0
    return order, refused


def test_a_lane_lets_a_few_wait_in_order_and_turns_the_rest_away() -> None:
    assert asyncio.run(_crowd()) == ([0, 1, 2], 1)


async def _flood() -> tuple[list[str], int, int]:
    """Ten of a's at once, then one of b's: who came in, how many of a's at most, and what is kept in the end."""
    lanes, came, inside, most = Lanes(2), list[str](), 0, 0

    async def go(key: str) -> None:
        nonlocal inside, most
        async with lanes.place(key):
            came.append(key)
            inside += key == "a"
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= key == "a"

    tasks = [asyncio.create_task(go(key)) for key in "a" * 10 + "b"]
    await asyncio.sleep(0)
    tasks[5].cancel()  # one that waits leaves
    await asyncio.gather(*tasks, return_exceptions=True)
    return came, most, len(lanes)


def test_each_key_has_a_lane_of_its_own() -> None:
    came, most, kept = asyncio.run(_flood())
    assert came[:3] == ["a", "a", "b"], "b waits for none of those of a that wait"
    assert (len(came), most, kept) == (10, 2, 0)
