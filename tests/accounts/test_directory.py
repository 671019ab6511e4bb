"""All accounts, by page and by address."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clawhaven.accounts import directory, signup
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.errors import Invalid, NotFound

NAMES = ["ada", "bea_x", "beaxx", "cleo", "dora"]


@pytest.fixture
def people(db: Database, clock: Clock) -> Database:
    """Five accounts; the last two are of the same moment."""
    with db.tx() as tx:
        for number, name in enumerate(NAMES):
            signup.register(tx, f"{name}@example.com", clock.now().replace(microsecond=0) + timedelta(min(number, 3)))
    return db


def test_every_account_once_over_the_pages(people: Database) -> None:
    seen, cursor = [], None
    with people.read() as db:
        for _ in range(3):
            page = directory.list_accounts(db, cursor=cursor, limit=2)
            seen += [owner.user.email.partition("@")[0] for owner in page.owners]
            cursor = page.next_cursor
        assert cursor is None
        assert sorted(seen) == NAMES
        assert set(seen[:2]) == {"cleo", "dora"}
        assert directory.count(db) == 5


def test_searched_by_address(people: Database) -> None:
    with people.read() as db:
        assert len(directory.list_accounts(db, " BEA").owners) == 2
        assert [one.user.email for one in directory.list_accounts(db, "a_x").owners] == ["bea_x@example.com"]
        assert directory.list_accounts(db, "%").owners == []


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "MjAyNg==", "MjAyNi0xMS0yMVQwMDowMDowMHxhY2M=", "é"])
def test_a_cursor_that_is_not_ours(people: Database, cursor: str) -> None:
    with people.read() as db, pytest.raises(Invalid) as refused:
        directory.list_accounts(db, cursor=cursor)
    assert refused.value.details["field"] == "cursor"


def test_one_account_and_addresses(people: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with people.read() as db:
        ids = {one.account.id: one.user.email for one in directory.list_accounts(db).owners}
        assert directory.emails_of(db, set(ids)) == ids
        some = set(list(ids)[:1])
        assert directory.emails_of(db, some) == {one: ids[one] for one in some}
        monkeypatch.setattr(directory, "MANY", 0)
        assert directory.emails_of(db, some) == ids, "for many, everybody is read"
        assert directory.get(db, next(iter(ids))).user.email == ids[next(iter(ids))]
        with pytest.raises(NotFound):
            directory.get(db, "acc_nobody")


def test_one_account_by_its_id_or_its_owner_s_address(people: Database) -> None:
    with people.read() as db:
        (ada,) = directory.list_accounts(db, "ada").owners
        for name in (ada.account.id, f" {ada.account.id}", "ada@example.com", " ADA@Example.com "):
            assert directory.find(db, name).account.id == ada.account.id
        for unknown in ("acc_nobody", "", "nobody@example.com"):
            with pytest.raises(NotFound):
                directory.find(db, unknown)
        with pytest.raises(Invalid):
            directory.find(db, "ada@")
