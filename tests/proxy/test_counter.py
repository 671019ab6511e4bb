"""Group commit: jobs that wait share a transaction, one bad job harms no other, and the end loses none."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from clawhaven import ledger, metering
from clawhaven.core.errors import Unauthorized
from clawhaven.core.secrets import hash_token
from clawhaven.metering import Ask, Closing, OpenCall, Opening, UsageRow
from clawhaven.ports.upstream import Usage
from clawhaven.proxy import desk as module
from clawhaven.proxy.counter import Counter, CounterThread, CountingFailed, Flusher, count_in_a_thread
from clawhaven.proxy.desk import Desk
from tests.proxy.conftest import KEY, House

ASK = Ask("sandbox-1", "openai-chat", 100, 100)
ONE = Opening(ASK, hash_token(KEY), ("sandbox",))


class Remembering(Counter):
    """Notes how many jobs came together; the first batch waits until it is let go."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.sizes: list[int] = []
        self.go = threading.Event()

    def run(self, jobs: Any) -> list[Any]:
        self.sizes.append(len(jobs))
        assert self.go.wait(10)
        return super().run(jobs)


def test_what_waits_shares_the_next_transaction(house: House) -> None:
    house.grant(max_in_flight=None)
    counter = Remembering(house)
    thread = CounterThread(counter)

    async def use() -> list[OpenCall]:
        first = asyncio.create_task(thread.do(ONE))
        while not counter.sizes:  # noqa: ASYNC110  it is another thread that sets it
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(thread.do(ONE)) for _ in range(40)]
        await asyncio.sleep(0.1)
        counter.go.set()
        return list(await asyncio.gather(first, *others))

    calls = asyncio.run(use())
    assert counter.sizes == [1, 40]
    assert len({call.id for call in calls}) == 41

    async def end() -> None:
        await asyncio.gather(*(thread.do(Closing(call.id, Usage(10, 5), 200)) for call in calls))

    asyncio.run(end())
    thread.close()
    house.assert_books_balance()


def test_refusals_and_results_come_to_those_who_asked(house: House) -> None:
    house.grant()
    thread = count_in_a_thread(house)

    async def use() -> list[Any]:
        jobs = [ONE, replace(ONE, key_hash="nobody"), Closing("call_none", None), ONE]
        return list(await asyncio.gather(*(thread.do(job) for job in jobs), return_exceptions=True))

    results = asyncio.run(use())
    thread.close()
    assert isinstance(results[0], OpenCall)
    assert isinstance(results[1], Unauthorized)
    assert type(results[2]).__name__ == "NotFound"
    assert isinstance(results[3], OpenCall)


def test_when_the_database_refuses_a_batch_each_is_tried_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.grant()
    real = metering.run_batch

    def deadlocks(db: Any, openings: Any, closings: Any, **rest: Any) -> Any:
        if len(openings) + len(closings) > 1:
            raise OperationalError("…", {}, Exception("deadlock detected"))
        outcome = real(db, openings, closings, **rest)
        if openings and openings[0].ask.model == "sandbox-1" and openings[0].ask.trace_id == "bad":
            db.execute(sa.text("SELECT no_such_column"))
        return outcome

    monkeypatch.setattr(metering, "run_batch", deadlocks)
    bad = replace(ONE, ask=replace(ASK, trace_id="bad"))
    results = Counter(house).run([ONE, bad, ONE])
    assert [type(one) for one in results] == [OpenCall, CountingFailed, OpenCall]
    with house.db.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(UsageRow)) == 2
        assert ledger.check_books(db, metering.held_by_calls(db)) == []


def test_a_bug_is_told_to_everybody_who_waits_and_the_next_batch_works(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.grant()
    thread = count_in_a_thread(house)
    with monkeypatch.context() as patch:
        patch.setattr(metering, "run_batch", lambda *_, **__: 1 / 0)
        with pytest.raises(CountingFailed, match="ZeroDivisionError"):
            asyncio.run(thread.do(ONE))
    assert isinstance(asyncio.run(thread.do(ONE)), OpenCall)
    thread.close()


def test_what_was_asked_for_is_done_though_nobody_waits_any_more(house: House) -> None:
    house.grant()
    thread = count_in_a_thread(house)

    async def use() -> None:
        task = asyncio.create_task(thread.do(ONE))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(use())
    thread.close()
    with house.db.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(UsageRow)) == 1


def test_commits_are_flushed_soon_and_at_the_end() -> None:
    flushed: list[float] = []
    flusher = Flusher(lambda: flushed.append(time.monotonic()))
    for _ in range(20):
        flusher.mark()
        time.sleep(0.01)
    assert 2 <= len(flushed) <= 8
    before = len(flushed)
    flusher.close()
    assert len(flushed) > before


def test_a_settlement_may_wait_for_the_disk(house: House) -> None:
    house.grant()
    house.settings = house.settings.model_copy(update={"proxy_waits_for_disk": True})
    (call,) = Counter(house).run([ONE])
    (closed,) = Counter(house).run([Closing(call.id, Usage(10, 5), 200)])
    assert closed.is_new
    house.db.flush()
    house.assert_books_balance()


def test_one_customers_wrong_books_fail_that_customer_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.grant()
    real = metering.run_batch

    def breaks(db: Any, openings: Any, closings: Any, **rest: Any) -> Any:
        if any(one.ask.trace_id == "bad" for one in openings):
            raise RuntimeError("ledger account lac_1 holds less than its calls")
        return real(db, openings, closings, **rest)

    monkeypatch.setattr(metering, "run_batch", breaks)
    bad = replace(ONE, ask=replace(ASK, trace_id="bad"))
    assert [type(one) for one in Counter(house).run([ONE, bad, ONE])] == [OpenCall, CountingFailed, OpenCall]


def test_a_database_that_is_away_is_asked_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def away(*_: Any, **__: Any) -> Any:
        asked.append(1)
        raise OperationalError("…", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(metering, "run_batch", away)
    assert [type(one) for one in Counter(house).run([ONE] * 100)] == [CountingFailed] * 100
    assert len(asked) == 1


def test_a_call_that_nobody_waits_for_is_closed_again(house: House) -> None:
    house.grant()
    counter = Remembering(house)
    thread = CounterThread(counter)

    async def use() -> None:
        task = asyncio.create_task(thread.do(ONE))
        while not counter.sizes:  # noqa: ASYNC110  it is another thread that sets it
            await asyncio.sleep(0.01)
        task.cancel()
        counter.go.set()
        await asyncio.gather(task, return_exceptions=True)
        while len(counter.sizes) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    asyncio.run(use())
    thread.close()
    row = house.last_call()
    assert (row.state, row.error, row.price_micros) == ("closed", "nobody waits", 0)
    house.assert_books_balance()


def test_a_settlement_that_failed_is_tried_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.grant()
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.05, 0.05, 0.05))
    real, failures = metering.run_batch, [1, 1]

    def fails_twice(db: Any, openings: Any, closings: Any, **rest: Any) -> Any:
        if closings and failures:
            failures.pop()
            raise OperationalError("…", {}, Exception("disk full"))
        return real(db, openings, closings, **rest)

    async def use() -> None:
        desk = Desk(house)
        grant = await desk.recognise(hash_token(KEY), None)
        call = await desk.admit(grant, ASK)
        with pytest.raises(CountingFailed):
            await desk.settle(call.id, Usage(10, 5), 200)
        async with asyncio.timeout(30):
            await asyncio.gather(*desk._tasks)
        desk.close()

    monkeypatch.setattr(metering, "run_batch", fails_twice)
    asyncio.run(use())
    row = house.last_call()
    assert (row.state, row.input_tokens, row.output_tokens) == ("closed", 10, 5)
    house.assert_books_balance()


def test_who_ask_at_once_who_a_key_belongs_to_share_one_look(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.grant()
    real, looks = metering.find_bearer, list[str]()

    def look(db: Any, key_hash: str) -> Any:
        looks.append(key_hash)
        time.sleep(0.05)
        return real(db, key_hash)

    async def use() -> list[Any]:
        desk, known = Desk(house), hash_token(KEY)
        asks = [(known, None)] * 50 + [(known, house.instance), (known, "ins_other"), ("a" * 64, None)]
        tasks = [asyncio.create_task(desk.recognise(*ask)) for ask in asks]
        await asyncio.sleep(0.01)
        tasks[0].cancel()  # who came first leaves; the others still want to know
        found = await asyncio.gather(*tasks, return_exceptions=True)
        found.append(await desk.recognise(known, None))
        desk.close()
        assert not desk._looks
        return found

    monkeypatch.setattr(metering, "find_bearer", look)
    first, *found, other, stranger, later = asyncio.run(use())
    assert isinstance(first, asyncio.CancelledError)
    assert {one.grant.instance_id for one in [*found, later]} == {house.instance}
    assert isinstance(other, Unauthorized)
    assert isinstance(stranger, Unauthorized)
    assert sorted(looks) == sorted([hash_token(KEY), "a" * 64])


def cut_after_commit(house: House, monkeypatch: pytest.MonkeyPatch, reason: str) -> list[int]:
    """The next commit of a batch goes through, and nobody hears of it."""
    dialect: Any = house.db._eager.dialect
    real, cuts = dialect.do_commit, list[int]()

    def commit(connection: Any) -> None:
        real(connection)
        if not cuts:
            cuts.append(1)
            raise dialect.loaded_dbapi.OperationalError(reason)

    monkeypatch.setattr(dialect, "do_commit", commit)
    return cuts


def test_a_batch_whose_commit_nobody_heard_of_is_opened_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.grant()
    two = [replace(ONE, call_id="call_1"), replace(ONE, call_id="call_2")]
    cuts = cut_after_commit(house, monkeypatch, "disk I/O error")
    results = Counter(house).run(two)
    assert [one.id for one in results] == ["call_1", "call_2"]
    assert cuts
    with house.db.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(UsageRow)) == 2
        assert ledger.balance(db, house.account).held_micros == 2 * results[0].held_micros


def test_an_admission_whose_commit_nobody_heard_of_gives_its_hold_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.grant()
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.1, 0.1))
    desk = Desk(house)

    async def use() -> None:
        grant = await desk.authenticate(ONE.key_hash, None)
        cut_after_commit(house, monkeypatch, "server closed the connection unexpectedly")
        with pytest.raises(CountingFailed):
            await desk.admit(grant, ASK)
        with house.db.read() as db:
            assert db.scalars(sa.select(UsageRow.state)).all() == ["open"]
        await asyncio.gather(*desk._tasks)

    asyncio.run(use())
    desk.close()
    assert house.last_call().price_micros == 0
    with house.db.read() as db:
        assert ledger.balance(db, house.account).held_micros == 0


def test_a_settlement_is_told_when_the_disk_has_it_and_an_admission_at_once(house: House) -> None:
    house.grant()
    has_come, is_let = threading.Event(), threading.Event()

    def flush() -> None:
        has_come.set()
        assert is_let.wait(10)

    thread = CounterThread(Counter(house), Flusher(flush, is_awaited=True))

    async def use() -> None:
        call = await thread.do(ONE)
        closing = asyncio.create_task(thread.do(Closing(call.id, Usage(10, 5), 200)))
        await asyncio.to_thread(has_come.wait, 10)
        assert isinstance(await thread.do(ONE), OpenCall)
        await asyncio.sleep(0.1)
        assert not closing.done()
        is_let.set()
        assert (await closing).is_new

    asyncio.run(use())
    thread.close()


def test_a_settlement_that_the_disk_did_not_take_can_be_asked_for_again(house: House) -> None:
    house.grant()
    failures = [OSError("no space left on device")]

    def flush() -> None:
        if failures and house.last_call().state == "closed":
            raise failures.pop()

    thread = CounterThread(Counter(house), Flusher(flush, is_awaited=True))

    async def use() -> None:
        (call,) = Counter(house).run([ONE])
        with pytest.raises(CountingFailed, match="disk"):
            await thread.do(Closing(call.id, Usage(10, 5), 200))
        again = await thread.do(Closing(call.id, Usage(10, 5), 200))
        assert not again.is_new

    asyncio.run(use())
    thread.close()
    assert not failures
    house.assert_books_balance()
