"""Requests with a name are done once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from clawhaven.core import idempotency
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict
from clawhaven.core.idempotency import LIFE, Answer, IdempotencyKey, fingerprint

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE, OTHER = fingerprint("POST", "/a", "{}"), fingerprint("POST", "/a", '{"b": 1}')
DONE = Answer(201, {"id": "ins_1", "list": [1, None]})


def begin(db: Database, key: str = "k", scope: str = "acc_1", request: str = ONE, now: datetime = NOW) -> Answer | None:
    with db.tx() as tx:
        return idempotency.begin(tx, scope, key, request, now)


def test_the_second_gets_the_answer_of_the_first(db: Database) -> None:
    assert begin(db) is None
    with db.tx() as tx:
        idempotency.finish(tx, "acc_1", "k", DONE)
    assert begin(db) == begin(db, now=NOW + LIFE - timedelta(seconds=1)) == DONE
    assert begin(db, key="K") is None
    assert begin(db, scope="acc_2") is None


def test_another_request_with_the_same_key_is_refused(db: Database) -> None:
    begin(db)
    with pytest.raises(Conflict) as refused:
        begin(db, request=OTHER)
    assert refused.value.error_code == "key_of_another"


def test_while_the_first_is_under_way_the_second_is_told_so(db: Database) -> None:
    begin(db)
    with pytest.raises(Conflict) as refused:
        begin(db, now=NOW + LIFE - timedelta(seconds=1))
    assert refused.value.error_code == "in_progress"


def test_what_was_refused_may_be_sent_again_and_what_was_done_may_not(db: Database) -> None:
    begin(db)
    with db.tx() as tx:
        idempotency.release(tx, "acc_1", "k")
    assert begin(db) is None
    with db.tx() as tx:
        idempotency.finish(tx, "acc_1", "k", DONE)
        idempotency.release(tx, "acc_1", "k")
    assert begin(db) == DONE


def test_of_many_at_once_one_does_it(db: Database) -> None:
    def attempt(_: int) -> str:
        try:
            return str(begin(db))
        except Conflict as refused:
            return refused.error_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(16))) == ["None"] + ["in_progress"] * 15


def test_a_key_lives_a_day_swept_or_not(db: Database) -> None:
    begin(db)
    begin(db, key="younger", now=NOW + timedelta(seconds=1))
    assert begin(db, request=OTHER, now=NOW + LIFE) is None
    with db.tx() as tx:
        idempotency.sweep(tx, NOW + LIFE + timedelta(seconds=1))
        assert tx.scalars(sa.select(IdempotencyKey.key)).all() == ["k"]


def test_a_fingerprint_knows_where_its_parts_end() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("ab", "c") == fingerprint("ab", "c")
