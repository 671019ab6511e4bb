"""The clock is aware, in UTC, and moves only forward when told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from clawhaven.core.clock import Clock


def test_now_is_aware_and_can_be_advanced() -> None:
    clock, other = Clock(), Clock()
    before = clock.now()
    assert before.tzinfo is UTC
    assert abs(before - datetime.now(UTC)) < timedelta(seconds=5)
    clock.advance(timedelta(days=20))
    assert clock.now() - before >= timedelta(days=20)
    assert other.now() - before < timedelta(days=1)
