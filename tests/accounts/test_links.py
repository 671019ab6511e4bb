"""One-time links: one use, also when eight people use it at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from clawhaven.accounts import links, signup
from clawhaven.accounts.models import SignInLink
from clawhaven.core.db import Database
from clawhaven.core.errors import Unauthorized

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def issue(db: Database) -> tuple[str, str]:
    with db.tx() as tx:
        user = signup.register(tx, "ada@example.com", NOW).user
        return user.id, links.issue(tx, user.id, NOW)


def test_one_of_eight_wins(db: Database) -> None:
    user_id, token = issue(db)

    def redeem(_: int) -> str | None:
        try:
            with db.tx() as tx:
                return links.redeem(tx, token, NOW)
        except Unauthorized:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(redeem, range(8)))
    assert [one for one in found if one] == [user_id]


@pytest.mark.parametrize("minutes", [15, 16, 10_000])
def test_late_is_too_late(db: Database, minutes: int) -> None:
    _, token = issue(db)
    with db.tx() as tx, pytest.raises(Unauthorized):
        links.redeem(tx, token, NOW + timedelta(minutes=minutes))


def test_the_database_knows_the_hash_and_a_rolled_back_use_is_none(db: Database) -> None:
    user_id, token = issue(db)
    with db.read() as tx:
        assert token not in str(tx.execute(sa.select(SignInLink.__table__)).one())

    def use_and_break() -> None:
        with db.tx() as tx:
            links.redeem(tx, token, NOW)
            raise LookupError

    with pytest.raises(LookupError):
        use_and_break()
    with db.tx() as tx:
        assert links.redeem(tx, token, NOW + timedelta(minutes=14, seconds=59)) == user_id
