"""Credit: granted once, expired once, spent before money; what is taken back is exactly what is left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven import ledger
from clawhaven.accounts import signup
from clawhaven.billing import credits
from clawhaven.billing.credits import Span
from clawhaven.core.db import Database

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DOLLAR = 1_000_000


class Purse:
    """An account with a wallet whose floor is ten dollars."""

    def __init__(self, db: Database) -> None:
        self.db = db
        with db.tx() as tx:
            self.account_id = signup.register(tx, "ada@example.com", NOW).account.id
            self.id = ledger.open_account(tx, "wallet", self.account_id, 10 * DOLLAR, now=NOW)

    def grant(self, key: str, dollars: int, at: datetime, expires_at: datetime | None) -> bool:
        with self.db.tx() as tx:
            return credits.grant(
                tx,
                key=key,
                account_id=self.account_id,
                wallet_id=self.id,
                amount_micros=dollars * DOLLAR,
                source="period",
                expires_at=expires_at,
                note="Credit",
                now=at,
            )

    def top_up(self, dollars: int) -> None:
        with self.db.tx() as tx:
            ledger.credit(tx, key="top", ledger_account_id=self.id, amount_micros=dollars * DOLLAR, now=NOW)

    def use(self, dollars: int, at: datetime, kind: str = "usage") -> None:
        with self.db.tx() as tx:
            ledger.debit(
                tx,
                key=f"use:{at}:{kind}",
                ledger_account_id=self.id,
                amount_micros=dollars * DOLLAR,
                now=at,
                kind=kind,
                below_floor=True,
            )

    def expire(self, at: datetime) -> list[int]:
        with self.db.tx() as tx:
            taken = [credits.expire(tx, grant.id, self.id, at) // DOLLAR for grant in credits.due(tx, at)]
            assert ledger.check_books(tx) == []
        return taken

    def take_back(self, key: str, at: datetime) -> int:
        with self.db.tx() as tx:
            taken = credits.take_back(tx, key, self.id, at, "The period was paid back")
            assert ledger.check_books(tx) == []
        return taken // DOLLAR

    def balance(self) -> float:
        with self.db.read() as tx:
            return ledger.balance(tx, self.id).balance_micros / DOLLAR


@pytest.fixture
def purse(db: Database) -> Purse:
    return Purse(db)


def test_a_credit_is_granted_once_per_key(purse: Purse) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: purse.grant("period:1", 10, NOW, None), range(8))) == 1
    assert not purse.grant("period:1", 99, NOW + DAY, None)
    assert purse.grant("period:2", 10, NOW, None)
    assert purse.balance() == 20
    with purse.db.read() as tx:
        line = ledger.list_entries(tx, purse.account_id).lines[0]
        assert (line.kind, line.note) == ("included_credit", "Credit")
        assert [one.key for one in credits.of_account(tx, purse.account_id)] != []


def test_nothing_and_less_is_no_credit(purse: Purse) -> None:
    with pytest.raises(ValueError, match="positive"):
        purse.grant("zero", 0, NOW, None)


@pytest.mark.parametrize(
    ("topped_up", "used", "taken", "left"),
    [(0, 0, 10, 0), (50, 0, 10, 50), (50, 4, 6, 50), (50, 10, 0, 50), (50, 25, 0, 35), (0, 4, 6, 0)],
)
def test_what_is_left_is_taken_back_once(purse: Purse, topped_up: int, used: int, taken: int, left: int) -> None:
    if topped_up:
        purse.top_up(topped_up)
    purse.grant("p", 10, NOW, NOW + 30 * DAY)
    if used:
        purse.use(used, NOW + DAY)
    assert purse.expire(NOW + 29 * DAY) == []
    assert purse.expire(NOW + 30 * DAY) == [taken]
    assert purse.expire(NOW + 31 * DAY) == []
    assert purse.balance() == left


def test_credit_that_rolls_over_stays(purse: Purse) -> None:
    purse.grant("p", 10, NOW, None)
    assert purse.expire(NOW + 1000 * DAY) == []
    assert purse.balance() == 10


def test_never_more_than_there_is_without_what_is_held(purse: Purse) -> None:
    purse.grant("p", 10, NOW, NOW + DAY)
    purse.use(3, NOW + timedelta(hours=1), kind="correction")
    with purse.db.tx() as tx:
        ledger.set_floor(tx, purse.id, 0)
        ledger.hold(tx, "call", purse.id, 5 * DOLLAR, NOW + 2 * DAY, now=NOW)
    assert purse.expire(NOW + DAY) == [2]
    assert purse.balance() == 5
    with purse.db.tx() as tx:
        assert ledger.settle(tx, "call", 5 * DOLLAR, to="usage_revenue", now=NOW).uncovered_micros == 0


def test_a_wallet_in_debt_is_left_alone(purse: Purse) -> None:
    purse.grant("p", 10, NOW, NOW + DAY)
    purse.use(15, NOW + timedelta(hours=1), kind="refund")
    assert purse.expire(NOW + DAY) == [0]
    assert purse.balance() == -5


def test_use_after_the_end_is_not_of_this_credit(purse: Purse) -> None:
    purse.top_up(20)
    purse.grant("p", 10, NOW, NOW + DAY)
    purse.use(4, NOW + 2 * DAY)
    assert purse.expire(NOW + 3 * DAY) == [10]
    assert purse.balance() == 16


def test_of_several_credits_the_one_that_ends_first_is_spent_first(purse: Purse) -> None:
    purse.grant("long", 10, NOW, NOW + 30 * DAY)
    purse.grant("short", 10, NOW + DAY, NOW + 10 * DAY)
    purse.use(12, NOW + 2 * DAY)
    assert purse.expire(NOW + 10 * DAY) == [0]
    assert purse.expire(NOW + 30 * DAY) == [8]
    assert purse.balance() == 0


def test_the_next_period_granted_late_or_early_keeps_both_exact(purse: Purse) -> None:
    purse.top_up(100)
    purse.grant("one", 10, NOW, NOW + 30 * DAY)
    purse.use(2, NOW + DAY)
    purse.grant("two", 10, NOW + 29 * DAY, NOW + 60 * DAY)
    purse.use(3, NOW + 29 * DAY + timedelta(hours=1))
    assert purse.expire(NOW + 30 * DAY) == [5]
    purse.use(1, NOW + 40 * DAY)
    assert purse.expire(NOW + 60 * DAY) == [9]
    assert purse.balance() == 100


def test_credit_is_taken_back_before_its_time_once(purse: Purse) -> None:
    purse.top_up(20)
    purse.grant("p", 10, NOW, NOW + 30 * DAY)
    purse.use(4, NOW + DAY)
    assert purse.take_back("q", NOW + 2 * DAY) == 0, "there is no such credit"
    purse.use(1, NOW + 2 * DAY)
    assert [purse.take_back("p", NOW + 2 * DAY), purse.take_back("p", NOW + 3 * DAY)] == [5, 0]
    assert purse.expire(NOW + 31 * DAY) == []
    assert purse.balance() == 20
    with purse.db.read() as tx:
        line = ledger.list_entries(tx, purse.account_id).lines[0]
        (grant,) = credits.of_account(tx, purse.account_id)
    assert (line.kind, line.note) == ("credit_expired", "The period was paid back")
    assert grant.expired_micros == 5 * DOLLAR


def test_taking_back_keeps_the_order_in_which_credit_is_spent(purse: Purse) -> None:
    """The short one is spent before the long one, also once the long one was ended first."""
    purse.grant("long", 10, NOW, NOW + 30 * DAY)
    purse.grant("short", 10, NOW, NOW + 20 * DAY)
    purse.use(5, NOW + DAY)
    assert purse.take_back("long", NOW + 10 * DAY) == 10
    purse.use(2, NOW + 11 * DAY)
    assert purse.expire(NOW + 20 * DAY) == [3]
    assert purse.balance() == 0


def test_credit_that_rolls_over_is_taken_back_as_far_as_the_older_is_spent(purse: Purse) -> None:
    purse.top_up(50)
    purse.grant("one", 10, NOW, None)
    purse.grant("two", 10, NOW + DAY, None)
    purse.grant("gift", 10, NOW + DAY, NOW + 30 * DAY)
    purse.use(24, NOW + 2 * DAY)
    assert purse.take_back("two", NOW + 3 * DAY) == 6
    assert purse.take_back("one", NOW + 3 * DAY) == 0
    assert purse.expire(NOW + 30 * DAY) == [0]
    assert purse.balance() == 50


def test_what_was_taken_back_is_given_again_once_and_ends_as_ever(purse: Purse) -> None:
    def again(key: str, at: datetime) -> int:
        with purse.db.tx() as tx:
            return credits.give_again(tx, key, purse.id, at, "It was paid after all") // DOLLAR

    purse.grant("p", 10, NOW, NOW + 30 * DAY)
    purse.use(4, NOW + DAY)
    assert again("p", NOW + DAY) == 0, "nothing was taken"
    for day in (2, 3):
        assert purse.take_back("p", NOW + day * DAY) == 6
        assert [again("p", NOW + day * DAY), again("p", NOW + day * DAY)] == [6, 0]
    assert purse.expire(NOW + 30 * DAY) == [6]
    assert again("p", NOW + 30 * DAY) == 0, "its time is over"
    assert again("q", NOW) == 0
    purse.grant("ever", 5, NOW, None)
    assert purse.take_back("ever", NOW + 2 * DAY) == 5
    assert again("ever", NOW + 400 * DAY) == 5


def test_credit_is_taken_back_without_what_is_held_or_gone(purse: Purse) -> None:
    purse.grant("p", 10, NOW, NOW + 30 * DAY)
    purse.use(3, NOW + DAY, kind="correction")
    with purse.db.tx() as tx:
        ledger.set_floor(tx, purse.id, 0)
        ledger.hold(tx, "call", purse.id, 5 * DOLLAR, NOW + 2 * DAY, now=NOW)
    assert purse.take_back("p", NOW + DAY) == 2


def test_many_sweeps_at_once_take_it_back_once(purse: Purse) -> None:
    purse.top_up(50)
    purse.grant("p", 10, NOW, NOW + DAY)
    with purse.db.read() as tx:
        (grant,) = credits.due(tx, NOW + DAY)

    def once(number: int) -> int:
        with purse.db.tx() as tx:
            return credits.expire(tx, grant.id, purse.id, NOW + DAY)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(once, range(8))) == [0] * 7 + [10 * DOLLAR]
    assert purse.balance() == 50


SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(1, 30)), min_size=1, max_size=5)


@given(SPANS, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12))
def test_what_expires_is_what_a_day_by_day_account_says(
    drawn: list[tuple[int, int, int]], uses: list[tuple[int, int]]
) -> None:
    """The same history once by spans and stretches, once one dollar after the other."""
    spans = [
        Span(f"{n}", NOW + since * DAY, NOW + (since + days) * DAY, amount)
        for n, (since, days, amount) in enumerate(drawn)
    ]
    order = sorted(spans, key=lambda one: (one.until, one.since, one.id))
    rest = {one.id: one.amount_micros for one in spans}
    for day, amount in sorted(uses):
        for _ in range(amount):
            live = (one for one in order if one.since <= NOW + day * DAY < one.until and rest[one.id])
            spent = next(live, None)
            if spent is not None:
                rest[spent.id] -= 1
    for target in spans:
        bearing = credits.overlapping(spans, target)
        moments = sorted({m for one in bearing for m in (one.since, one.until) if m <= target.until})
        used = [
            (begin, sum(amount for day, amount in uses if begin <= NOW + day * DAY < end))
            for begin, end in pairwise(moments)
        ]
        assert credits.left_of(target, bearing, used) == rest[target.id]
