"""One address, one account; every account its own name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.accounts import signup
from clawhaven.accounts.models import Account, User
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, Invalid

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_ten_at_once_make_one_account(db: Database) -> None:
    def register(_: int) -> bool:
        try:
            with db.tx() as tx:
                signup.register(tx, "one@example.com", NOW)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(register, range(10))) == [False] * 9 + [True]
    with db.read() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(User)) == 1
        assert tx.scalar(sa.select(sa.func.count()).select_from(Account)) == 1


def test_addresses_that_read_the_same_get_different_slugs(db: Database) -> None:
    same = ["a.b@example.com", "a-b@example.com", "a_b@example.com", "a+b@example.com", "á.b@example.com"]

    def register(email: str) -> str:
        with db.tx() as tx:
            return signup.register(tx, signup.normalise_email(email), NOW).account.slug

    with ThreadPoolExecutor(5) as pool:
        slugs = list(pool.map(register, same))
    assert len(set(slugs)) == 5
    assert "a-b-example-com" in slugs
    assert all(slug.startswith("a-b-example-com") and len(slug) <= 63 for slug in slugs)


def test_a_refused_address_leaves_the_transaction_usable(db: Database) -> None:
    with db.tx() as tx:
        signup.register(tx, "one@example.com", NOW)
        with pytest.raises(Conflict):
            signup.register(tx, "one@example.com", NOW)
        other = signup.register(tx, "two@example.com", NOW)
    with db.read() as tx:
        found = signup.find_owner(tx, "two@example.com")
        assert found is not None
        assert found.user.id == other.user.id
        assert signup.owner_of(tx, other.account.id).user.email == "two@example.com"
        assert signup.find_owner(tx, "three@example.com") is None


def test_a_deleted_user_is_nobody(db: Database) -> None:
    with db.tx() as tx:
        signup.register(tx, "one@example.com", NOW).user.deleted_at = NOW
    with db.read() as tx:
        assert signup.find_owner(tx, "one@example.com") is None


@pytest.mark.parametrize(
    ("given_address", "kept"),
    [
        (" Ada@Example.COM ", "ada@example.com"),
        ("ADA@xn--bcher-kva.example", "ada@bücher.example"),
        ("ada@BÜCHER.example", "ada@bücher.example"),
        ("ada+tag@example.com", "ada+tag@example.com"),
    ],
)
def test_one_person_has_one_spelling(given_address: str, kept: str) -> None:
    assert signup.normalise_email(given_address.strip()) == kept


@given(st.emails() | st.text(max_size=60) | st.builds("{}@example.com".format, st.text(min_size=1, max_size=20)))
def test_an_address_is_refused_or_kept_for_good(text: str) -> None:
    try:
        kept = signup.normalise_email(text)
    except Invalid as error:
        told = error.details
    else:
        told = {"field": "email", "reason": "fine"}
        assert signup.normalise_email(kept) == kept
        assert len(kept) <= 320
        assert not any(c.isspace() or ord(c) < 32 for c in kept)
    assert told["field"] == "email"
    assert told["reason"]
