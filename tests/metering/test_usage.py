"""Sums of usage: from the hours, from the calls themselves, and both agree."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from clawhaven import metering
from clawhaven.core.db import Database
from clawhaven.core.errors import Invalid
from clawhaven.metering import Ask, Source
from clawhaven.metering.usage import empty, hour_of, live_usage, usage_by
from clawhaven.ports.upstream import Usage
from tests.metering.conftest import KEY_HASH, NOW

Give = Callable[..., str]


def _call(db: Database, source: Source, at: datetime, model: str = "sandbox-1", tokens: int = 100) -> None:
    ask = Ask(model, "anthropic-messages", 1_000, 1_000, source)
    with db.tx() as tx:
        call = metering.open_call(tx, ask, key_hash=KEY_HASH, upstreams=("sandbox", "anthropic"), now=at)
        metering.close_call(tx, call.id, Usage(tokens, 10, 5, 3, 2), now=at)


@pytest.fixture
def used(db: Database, give: Give) -> Database:
    """Five calls of two days, two models and three sources."""
    give(dollars=1_000)
    _call(db, Source.PERSON, NOW)
    _call(db, Source.PERSON, NOW + timedelta(minutes=30), tokens=200)
    _call(db, Source.CRON, NOW + timedelta(minutes=59))
    _call(db, Source.HEARTBEAT, NOW + timedelta(hours=11, minutes=59))
    _call(db, Source.PERSON, NOW + timedelta(hours=12), "claude-opus-5-5")
    return db


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        ((), {"total": 5}),
        (("day",), {"2026-11-21": 4, "2026-11-22": 1}),
        (("hour",), {"2026-11-21T12:00:00Z": 3, "2026-11-21T23:00:00Z": 1, "2026-11-22T00:00:00Z": 1}),
        (("source",), {"cron": 1, "heartbeat": 1, "person": 3}),
        (
            ("model", "source"),
            {"claude-opus-5-5 person": 1, "sandbox-1 cron": 1, "sandbox-1 heartbeat": 1} | {"sandbox-1 person": 2},
        ),
        (("instance",), {"ins_1": 5}),
    ],
)
def test_hours_and_calls_add_up_to_the_same(used: Database, ways: tuple[str, ...], expected: dict[str, int]) -> None:
    since, until = NOW - timedelta(hours=1), NOW + timedelta(days=2)
    with used.read() as db:
        by_hours = usage_by(db, "acc_1", ways, since, until)
        by_calls = usage_by(db, "acc_1", ways, since, until + timedelta(seconds=1))
    assert by_hours == by_calls
    assert {line.sum.key: line.sum.calls for line in by_hours} == expected
    assert sum(line.sum.cache_write_tokens for line in by_hours) == 25
    assert all(line.sum.key == (" ".join(line.keys) or "total") for line in by_hours)


def test_a_period_within_an_hour_counts_its_calls_only(used: Database) -> None:
    with used.read() as db:
        (line,) = usage_by(db, "acc_1", (), NOW, NOW + timedelta(minutes=20))
    assert (line.sum.calls, line.sum.input_tokens) == (1, 100)


def test_nothing_used_is_no_line(used: Database) -> None:
    late = NOW + timedelta(days=9)
    with used.read() as db:
        for until in (late + timedelta(hours=1), late + timedelta(minutes=1)):
            assert usage_by(db, "acc_1", (), late, until) == []
            assert usage_by(db, "acc_1", ("day",), late, until) == []
        assert usage_by(db, "acc_2", (), NOW, late) == []
        assert usage_by(db, "acc_1", (), NOW, late, instance_id="ins_2") == []
        assert usage_by(db, None, (), NOW, late)[0].sum.calls == 5


@pytest.mark.parametrize("ways", [("year",), ("day", "day")])
def test_unknown_ways_are_refused(used: Database, ways: tuple[str, ...]) -> None:
    with used.read() as db, pytest.raises(Invalid) as refused:
        usage_by(db, "acc_1", ways, NOW, NOW)
    assert refused.value.details["field"] == "by"


def test_live_shows_what_is_under_way(used: Database) -> None:
    now = NOW + timedelta(hours=12, minutes=5)
    ask = Ask("sandbox-1", "anthropic-messages", 1_000, 1_000, Source.PERSON)
    with used.tx() as db:
        opened = metering.open_call(db, ask, key_hash=KEY_HASH, upstreams=("sandbox",), now=now)
    with used.read() as db:
        live = live_usage(db, "acc_1", now)
        nobody = live_usage(db, "acc_2", now)
    assert (live.in_flight, live.held_micros) == (1, opened.held_micros)
    assert live.held_micros > 0
    assert (live.this_hour.calls, live.today.calls) == (1, 1)
    assert [(line.key, line.calls) for line in live.today_by_source] == [("person", 1)]
    assert (nobody.in_flight, nobody.held_micros, nobody.today) == (0, 0, empty("total"))
    with used.read() as db:
        earlier = live_usage(db, "acc_1", NOW + timedelta(hours=11, minutes=59))
    assert (earlier.this_hour.calls, earlier.today.calls) == (1, 4)


def test_an_hour_begins_in_utc() -> None:
    assert hour_of(NOW + timedelta(minutes=59, seconds=59)) == NOW
