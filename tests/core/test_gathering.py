"""Callers that come at the same time share a commit, and nobody's failure is another's."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.db import Database
from clawhaven.core.gathering import MOST_TOGETHER, commit_together


@pytest.fixture
def table(db: Database) -> Database:
    with db.tx() as tx:
        tx.execute(sa.text("CREATE TABLE guest (name VARCHAR(20) PRIMARY KEY, at_once VARCHAR(40))"))
    return db


seen: WeakKeyDictionary[Session, str] = WeakKeyDictionary()
numbers = itertools.count()


def write(name: str) -> Callable[[Session], str]:
    """Write a name, and the transaction that wrote it."""

    def work(db: Session) -> str:
        values = {"name": name, "id": str(next(numbers)) if (found := seen.get(db)) is None else found}
        seen[db] = values["id"]
        db.execute(sa.text("INSERT INTO guest VALUES (:name, :id)"), values)
        return name

    return work


def names(db: Database) -> list[str]:
    with db.read() as tx:
        return list(tx.scalars(sa.text("SELECT name FROM guest ORDER BY name")))


def test_one_alone_is_committed_when_it_is_answered(table: Database) -> None:
    assert commit_together(table, "x", write("a")) == "a"
    assert names(table) == ["a"]


def test_who_comes_while_another_commits_shares_the_next_transaction(table: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(db: Session) -> str:
        began.set()
        assert go_on.wait(30)
        return write("slow")(db)

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(commit_together, table, "x", slow)
        assert began.wait(30)
        rest = [pool.submit(commit_together, table, "x", write(f"n{number:02}")) for number in range(12)]
        if table.is_sqlite:
            time.sleep(0.3)
            assert not any(one.done() for one in rest)
        go_on.set()
        assert [one.result(30) for one in rest] == [f"n{number:02}" for number in range(12)]
        assert first.result(30) == "slow"
    with table.read() as tx:
        transactions = tx.scalar(sa.text("SELECT count(DISTINCT at_once) FROM guest"))
    assert transactions == 2 if table.is_sqlite else transactions > 2
    assert len(names(table)) == 13


def test_one_that_fails_fails_alone(table: Database) -> None:
    """Whoever is in a transaction with one that breaks it is written all the same, exactly once."""

    def break_it(db: Session) -> str:
        write("broken")(db)
        raise LookupError("mine")

    def come(number: int) -> Any:
        work = break_it if number % 10 == 3 else write(f"n{number:02}")
        try:
            return commit_together(table, "x", work)
        except LookupError as error:
            return error

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(come, range(60)))
    assert sum(isinstance(one, LookupError) for one in outcomes) == 6
    assert names(table) == sorted(one for one in outcomes if isinstance(one, str))
    assert len(names(table)) == 54


def test_a_death_of_the_leader_leaves_nobody_behind(table: Database) -> None:
    class Death(BaseException):
        pass

    began, go_on = threading.Event(), threading.Event()

    def die(_: Session) -> str:
        began.set()
        assert go_on.wait(30)
        raise Death

    def outlive() -> str:
        try:
            return commit_together(table, "x", die)
        except Death:
            return "dead"

    with ThreadPoolExecutor(4) as pool:
        leader = pool.submit(outlive)
        assert began.wait(30)
        other = pool.submit(commit_together, table, "x", write("other"))
        time.sleep(0.1)
        go_on.set()
        assert (leader.result(30), other.result(30)) == ("dead", "other")
    assert commit_together(table, "x", write("later")) == "later"
    assert names(table) == ["later", "other"]


def test_a_database_that_is_away_is_said_to_each_and_the_next_one_is_served(
    table: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(table, "_urgent", None)
        with pytest.raises(AttributeError):
            commit_together(table, "x", write("lost"))
    assert commit_together(table, "x", write("kept")) == "kept"
    assert names(table) == ["kept"]


def test_many_are_served_in_several_transactions_of_a_bounded_size(table: Database) -> None:
    total = 3 * MOST_TOGETHER
    with ThreadPoolExecutor(total) as pool:
        list(pool.map(lambda number: commit_together(table, "x", write(f"n{number:03}")), range(total)))
    with table.read() as tx:
        sizes = list(tx.scalars(sa.text("SELECT count(*) FROM guest GROUP BY at_once")))
    assert sum(sizes) == total
    assert max(sizes) <= MOST_TOGETHER
    assert table.is_sqlite or max(sizes) == 1
