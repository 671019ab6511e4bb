"""A front's end of the way to the counter: a job that cannot be told harms no other, a lost counter is told at once."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from clawhaven.metering import Closing
from clawhaven.ports.upstream import Usage
from clawhaven.proxy.counter import CountingFailed
from clawhaven.proxy.messages import Frames, PriceMemory, read_jobs, write_results
from clawhaven.proxy.remote import RemoteCounter


async def connected(losses: list[int]) -> tuple[RemoteCounter, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    _, remote = await loop.create_connection(lambda: RemoteCounter(lambda: losses.append(1)), sock=ours)
    return remote, theirs


async def received(theirs: socket.socket, count: int) -> list[tuple[int, Any]]:
    frames, found = Frames(), []
    async with asyncio.timeout(10):
        while len(found) < count:
            data = await asyncio.get_running_loop().sock_recv(theirs, 65536)
            for frame in frames.feed(data):
                found += read_jobs(frame)
    return found


def test_a_job_that_cannot_be_written_fails_alone() -> None:
    async def use() -> None:
        remote, theirs = await connected([])
        jobs = [Closing("call_1", None), Closing("call_2", Usage(input_tokens=10**30)), Closing("call_3", None)]
        tasks = [asyncio.create_task(remote.do(job)) for job in jobs]
        sent = await received(theirs, 2)
        assert [job.call_id for _, job in sent] == ["call_1", "call_3"]
        with pytest.raises(CountingFailed):
            await tasks[1]
        refusal = CountingFailed("no")
        data = write_results([PriceMemory().write(number, refusal) for number, _ in sent])
        await asyncio.get_running_loop().sock_sendall(theirs, data)
        for task in (tasks[0], tasks[2]):
            with pytest.raises(CountingFailed, match="no"):
                await task
        remote.close()
        theirs.close()

    asyncio.run(use())


def test_a_lost_counter_is_told_to_all_who_wait_and_to_the_front() -> None:
    losses: list[int] = []

    async def use() -> None:
        remote, theirs = await connected(losses)
        task = asyncio.create_task(remote.do(Closing("call_1", None)))
        await received(theirs, 1)
        theirs.close()
        with pytest.raises(CountingFailed, match="gone"):
            await task
        with pytest.raises(CountingFailed, match="gone"):
            await remote.do(Closing("call_2", None))

    asyncio.run(use())
    assert losses == [1]
