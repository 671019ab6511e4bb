"""The waitlist: first come, first invited, each once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawhaven.billing import waitlist
from clawhaven.billing.models import Waiting
from clawhaven.core.db import Database

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(joins=st.lists(st.integers(0, 5), max_size=12), free=st.integers(-1, 4))
def test_the_order_is_that_of_the_first_joining(db: Database, joins: list[int], free: int) -> None:
    with db.tx() as tx:
        tx.query(Waiting).delete()
        order: list[str] = []
        for second, number in enumerate(joins):
            email = f"p{number}@example.com"
            if email not in order:
                order.append(email)
            assert waitlist.join(tx, email, NOW + timedelta(seconds=second)) == order.index(email) + 1
        invited = [email for email, _ in waitlist.invite_next(tx, free, NOW)]
        assert invited == order[: max(free, 0)]
        assert [email for email, _ in waitlist.invite_next(tx, 100, NOW)] == order[max(free, 0) :]
        assert waitlist.invite_next(tx, 100, NOW) == []


def test_everybody_has_a_place_of_their_own_also_in_the_same_moment(db: Database) -> None:
    def join(number: int) -> int:
        with db.tx() as tx:
            return waitlist.join(tx, f"p{number % 8}@example.com", NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(join, range(24)))
    assert sorted(join(number) for number in range(8)) == list(range(1, 9))
    with db.tx() as tx:
        ((first, _),) = waitlist.invite_next(tx, 1, NOW)
    assert join(int(first[1])) == 1
    with db.read() as tx:
        assert tx.query(Waiting).count() == 8
