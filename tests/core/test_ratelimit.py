"""Limits: who counts as one, and how often one may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from clawhaven.core import ratelimit
from clawhaven.core.db import Database
from clawhaven.core.errors import RateLimited
from clawhaven.core.ratelimit import RateWindow, client_key

NOW = datetime(2026, 1, 1, 12, 0, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("peer", "lines", "hops", "expected"),
    [
        ("9.9.9.9", ["1.1.1.1"], 0, "9.9.9.9"),
        ("9.9.9.9", ["6.6.6.6, 1.1.1.1"], 1, "1.1.1.1"),
        ("9.9.9.9", ["6.6.6.6", "1.1.1.1"], 1, "1.1.1.1"),
        ("9.9.9.9", ["6.6.6.6", "1.1.1.1", "2.2.2.2"], 2, "1.1.1.1"),
        ("9.9.9.9", ["6.6.6.6, 1.1.1.1", "2.2.2.2"], 2, "1.1.1.1"),
        ("9.9.9.9", ["1.1.1.1"], 2, "9.9.9.9"),
        ("9.9.9.9", [" , ,", ""], 1, "9.9.9.9"),
        ("9.9.9.9", [], 3, "9.9.9.9"),
        ("9.9.9.9", ["1.1.1.1:4242"], 1, "1.1.1.1"),
        ("9.9.9.9", ["[2001:db8:1:2::9]:4242"], 1, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", [], 0, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", [], 0, "2001:db8:1:2::/64"),
        ("2001:db8:1:3::4", [], 0, "2001:db8:1:3::/64"),
        ("fe80::1%eth0", [], 0, "fe80::/64"),
        ("::ffff:9.9.9.9", [], 0, "9.9.9.9"),
        ("unknown", [], 0, "unknown"),
        ("x" * 500, [], 0, "x" * 64),
    ],
)
def test_who_counts_as_one(peer: str, lines: list[str], hops: int, expected: str) -> None:
    assert client_key(peer, lines, hops) == expected


def test_so_many_and_no_more_until_the_window_ends(db: Database) -> None:
    for _ in range(3):
        with db.tx() as tx:
            ratelimit.hit(tx, "k", 3, 60, NOW)
    with db.tx() as tx:
        with pytest.raises(RateLimited) as refused:
            ratelimit.hit(tx, "k", 3, 60, NOW)
        assert refused.value.details == {"retry_after": 40}
        ratelimit.hit(tx, "other", 3, 60, NOW)
        ratelimit.hit(tx, "k", 3, 60, NOW + timedelta(seconds=40))


def test_many_at_once_are_counted_one_by_one(db: Database) -> None:
    def use(_: int) -> bool:
        try:
            with db.tx() as tx:
                ratelimit.hit(tx, "k", 5, 60, NOW)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(20))) == 5


def test_a_long_key_still_counts(db: Database) -> None:
    with db.tx() as tx:
        ratelimit.hit(tx, "k" * 5000, 1, 60, NOW)
        with pytest.raises(RateLimited):
            ratelimit.hit(tx, "k" * 5000, 1, 60, NOW)


def test_old_windows_are_forgotten(db: Database) -> None:
    with db.tx() as tx:
        ratelimit.hit(tx, "old", 1, 60, NOW - timedelta(days=1, minutes=2))
        ratelimit.hit(tx, "new", 1, 60, NOW - timedelta(hours=23))
        ratelimit.sweep(tx, NOW)
        assert tx.scalars(sa.select(RateWindow.key)).all() == ["new"]


def test_what_was_noted_is_found_by_its_second(db: Database) -> None:
    at = datetime(2026, 11, 21, 12, 0, 5, 700_000, tzinfo=UTC)
    with db.tx() as session:
        assert (ratelimit.last_noted(session, "k"), ratelimit.first_noted(session, "k", None)) == (None, None)
        for seconds in (0, 0, 7, 3):
            ratelimit.note(session, "k", at + timedelta(seconds=seconds))
        first = at.replace(microsecond=0)
        assert ratelimit.last_noted(session, "k") == first + timedelta(seconds=7)
        assert ratelimit.first_noted(session, "k", None) == first
        assert ratelimit.first_noted(session, "k", at) == first + timedelta(seconds=3)
        assert ratelimit.first_noted(session, "k", at + timedelta(seconds=7)) is None


def test_a_used_up_limit_is_seen_without_a_use(db: Database) -> None:
    with db.tx() as tx:
        for is_over in (False, False, True):
            assert ratelimit.is_used_up(tx, "k" * 500, 2, 60, NOW) is is_over
            assert ratelimit.is_used_up(tx, "k" * 500, 2, 60, NOW) is is_over
            if not is_over:
                ratelimit.hit(tx, "k" * 500, 2, 60, NOW)
        assert not ratelimit.is_used_up(tx, "k" * 500, 2, 60, NOW + timedelta(seconds=60))
