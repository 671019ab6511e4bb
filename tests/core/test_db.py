"""The database layer: durability pragmas, UTC times, transactions, locks."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from clawhaven.core import db as module
from clawhaven.core import ratelimit
from clawhaven.core.clock import Clock
from clawhaven.core.db import MOST_URGENT_IN_A_ROW, Busy, Database, _Turns, in_transaction, lock, make_engine
from clawhaven.core.errors import RateLimited


def test_sqlite_is_durable(tmp_path):
    engine = make_engine(f"sqlite:///{tmp_path}/x.sqlite3")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y"])
def test_refuses_databases_that_would_lose_money(url):
    with pytest.raises(ValueError, match=r"SQLite needs a file|must be sqlite"):
        make_engine(url)


def test_rolls_back_on_error_and_knows_it_is_in_a_transaction(db: Database, clock: Clock):
    def write_then_fail() -> None:
        with db.tx() as session:
            assert in_transaction()
            ratelimit.hit(session, "k", 5, 60, clock.now())
            raise LookupError

    with pytest.raises(LookupError):
        write_then_fail()
    assert not in_transaction()
    with db.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(ratelimit.RateWindow)) == 0


def test_rate_limit_is_exact_under_concurrency(db: Database):
    now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    outcomes: list[bool] = []
    waits: set[int] = set()

    def use() -> None:
        for _ in range(5):
            try:
                with db.tx() as session:
                    ratelimit.hit(session, "sign-in:1.2.3.4", 12, 60, now)
                outcomes.append(True)
            except RateLimited as error:
                outcomes.append(False)
                waits.add(error.details["retry_after"])

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A refused hit rolls its own count back, so exactly twelve ever pass.
    assert outcomes.count(True) == 12
    assert waits == {60}
    with db.tx() as session:
        ratelimit.hit(session, "sign-in:1.2.3.4", 12, 60, now + timedelta(seconds=60))
        ratelimit.sweep(session, now + timedelta(days=3))
    with db.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(ratelimit.RateWindow)) == 0


def test_lock_admits_one_at_a_time(db: Database):
    inside: list[int] = []
    most: list[int] = []

    def enter(n: int) -> None:
        with db.tx() as session:
            lock(session, "one")
            inside.append(n)
            most.append(len(inside))
            inside.remove(n)

    threads = [threading.Thread(target=enter, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 8


def test_writers_of_a_process_wait_their_turn_and_nobody_is_forgotten(db: Database) -> None:
    """Each of many threads gets to write, also when others fail or roll back between them."""
    with db.tx() as tx:
        tx.execute(sa.text("CREATE TABLE turn (n INTEGER)"))
    waits: list[float] = []

    def write(number: int) -> None:
        for again in range(10):
            began = time.monotonic()
            with contextlib.suppress(ZeroDivisionError), db.tx() as tx:
                tx.execute(sa.text("INSERT INTO turn VALUES (:n)"), {"n": number})
                waits.append(time.monotonic() - began)
                if (number + again) % 5 == 0:
                    raise ZeroDivisionError

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with db.read() as tx:
        assert tx.scalar(sa.text("SELECT count(*) FROM turn")) == 80
    assert len(waits) == 100


def test_a_writer_that_another_process_refuses_gives_its_turn_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawhaven.core.db.BUSY_TIMEOUT_MS", 200)
    path = tmp_path / "shared.sqlite3"
    database = Database(make_engine(f"sqlite:///{path}"))
    with database.tx() as tx:
        tx.execute(sa.text("CREATE TABLE turn (n INTEGER)"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as elsewhere:
        elsewhere.execute("BEGIN IMMEDIATE")
        with pytest.raises(sa.exc.OperationalError), database.tx() as tx:
            tx.execute(sa.text("INSERT INTO turn VALUES (1)"))
        elsewhere.execute("ROLLBACK")
    monkeypatch.setattr("clawhaven.core.db.BUSY_TIMEOUT_MS", 60_000)  # a turn that was kept would be waited for
    with database.tx() as tx:
        tx.execute(sa.text("INSERT INTO turn VALUES (2)"))
        assert tx.scalar(sa.text("SELECT n FROM turn")) == 2
    database.close()


def test_who_does_not_want_to_wait_hears_at_once_that_somebody_writes(tmp_path: Path) -> None:
    path = tmp_path / "shared.sqlite3"
    database = Database(make_engine(f"sqlite:///{path}"))
    with database.tx() as tx:
        tx.execute(sa.text("CREATE TABLE turn (n INTEGER)"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as elsewhere:
        elsewhere.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(Busy), database.hurried_tx(waits=False):
                raise AssertionError
        elsewhere.execute("ROLLBACK")
    with database.tx() as tx:
        tx.connection()
        with pytest.raises(Busy), database.hurried_tx(waits=False):
            raise AssertionError
    for number in range(2):
        with database.hurried_tx(waits=False) as tx:
            tx.execute(sa.text("INSERT INTO turn VALUES (:n)"), {"n": number})
        with database.hurried_tx() as tx:
            assert tx.scalar(sa.text("SELECT count(*) FROM turn")) == number + 1
    database.close()


def test_the_log_begins_anew_though_somebody_writes_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LOG_BYTES", 2**20)
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    path, rows, is_over = tmp_path / "x.sqlite3", 0, threading.Event()
    database = Database(make_engine(f"sqlite:///{path}"))
    with database.tx() as tx:
        tx.execute(sa.text("CREATE TABLE t (v TEXT)"))

    def write() -> None:
        nonlocal rows
        while not is_over.is_set():
            with database.hurried_tx() as tx:
                tx.execute(sa.text("INSERT INTO t VALUES (:v)"), {"v": "x" * 20_000})
            rows += 1

    writer = threading.Thread(target=write)
    writer.start()
    sizes = list[int]()
    while rows < 1500:
        database.flush()
        sizes.append(path.with_name("x.sqlite3-wal").stat().st_size)
    is_over.set()
    writer.join(30)
    assert max(sizes) < 10 * 2**20, "of 30 MB that were written"
    assert any(later < before for before, later in pairwise(sizes)), "what is not needed any more is given back"
    with database.read() as tx:
        assert tx.scalar(sa.text("SELECT count(*) FROM t")) == rows
        tx.execute(sa.text("SELECT v FROM t LIMIT 1"))
        for _ in range(100):
            with database.hurried_tx() as other:
                other.execute(sa.text("INSERT INTO t VALUES (:v)"), {"v": "x" * 20_000})
        begun = time.monotonic()
        database.flush()  # somebody still reads from the log: it stays, and nobody waits for long
        assert time.monotonic() - begun < 5
    database.close()


def test_urgent_writers_go_first_and_nobody_waits_for_ever() -> None:
    turns, order = _Turns(), list[str]()
    ended = turns.ending(lambda connection: None)

    def write(name: str) -> None:
        connection = object()
        turns.take(connection, is_urgent=name.startswith("urgent"))
        order.append(name)
        ended(connection)

    first = object()
    turns.take(first)
    names = ["other 1", "other 2", *(f"urgent {number}" for number in range(MOST_URGENT_IN_A_ROW + 2))]
    threads = []
    for count, name in enumerate(names, 1):
        threads.append(threading.Thread(target=write, args=(name,)))
        threads[-1].start()
        while len(turns._urgent) + len(turns._others) < count:
            time.sleep(0.001)
    ended(first)
    for thread in threads:
        thread.join(30)
    urgent = [name for name in names if name.startswith("urgent")]
    assert order == [*urgent[:MOST_URGENT_IN_A_ROW], "other 1", *urgent[MOST_URGENT_IN_A_ROW:], "other 2"]
