"""Comparisons of the money: one at a time, how far it is, what it found, and for how long it is kept."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clawhaven.billing import comparisons
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.errors import NotFound


def test_one_at_a_time_and_its_result_is_kept(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as session:
        assert comparisons.newest(session) is None
        row = comparisons.begin(session, "user:boss", now, is_repair=False)
        assert row is not None
        assert comparisons.begin(session, "user:boss", now, is_repair=True) is None
        for done in (3, 2):
            comparisons.advance(session, row.id, done)
        session.refresh(row)
        assert (row.done, comparisons.running(session, now)) == (3, row)
        comparisons.finish(session, row.id, [{"subject": "x"}], now)
        comparisons.finish(session, row.id, [], now)
        session.refresh(row)
        assert comparisons.running(session, now) is None
        assert comparisons.newest(session) == row
        assert comparisons.found_by(row) == [{"subject": "x"}]
        with pytest.raises(NotFound):
            comparisons.get(session, "cmp_x")


def test_one_that_broke_or_never_ended_is_in_nobodys_way(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as session:
        first = comparisons.begin(session, "user:boss", now, is_repair=False)
        assert first is not None
        comparisons.finish(session, first.id, None, now)
        assert comparisons.newest(session) is None
        second = comparisons.begin(session, "user:boss", now, is_repair=False)
        assert second is not None
        later = now + comparisons.BROKEN
        third = comparisons.begin(session, "user:boss", later, is_repair=False)
        assert third is not None
        comparisons.finish(session, third.id, [], later + comparisons.LIFE + timedelta(days=1))
        assert comparisons.newest(session) is None, "and old ones are not kept"
