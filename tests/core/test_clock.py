"""The clock is aware, in UTC, and moves only forward when told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from clawhaven.core.clock import Clock, month_after


def test_now_is_aware_and_can_be_advanced() -> None:
    clock, other = Clock(), Clock()
    before = clock.now()
    assert before.tzinfo is UTC
    assert abs(before - datetime.now(UTC)) < timedelta(seconds=5)
    clock.advance(timedelta(days=20))
    assert clock.now() - before >= timedelta(days=20)
    assert other.now() - before < timedelta(days=1)


def test_a_month_later_is_the_same_day_or_the_last_one() -> None:
    last = datetime(2027, 1, 31, 12, tzinfo=UTC)
    assert month_after(last, 1) == datetime(2027, 2, 28, 12, tzinfo=UTC)
    assert month_after(last, 13) == datetime(2028, 2, 29, 12, tzinfo=UTC)
    assert month_after(last, 0) == last
