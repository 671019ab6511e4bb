"""An operator's look at a customer's pages: begun, ended, and both written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from clawhaven.accounts import sessions, signup, views
from clawhaven.accounts.signup import Owner
from clawhaven.core.audit import AuditEntry
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, NotFound, Unauthorized

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def people(db: Database) -> tuple[Owner, Owner, str]:
    with db.tx() as tx:
        boss, ada = (signup.register(tx, f"{name}@example.com", NOW, verified_at=NOW) for name in ("boss", "ada"))
        return boss, ada, sessions.open_session(tx, boss.user.id, NOW, days=1)


def lines(db: Database) -> list[tuple[str, str | None]]:
    with db.read() as tx:
        found = tx.scalars(sa.select(AuditEntry).where(AuditEntry.action.startswith("account.view")))
        return sorted((one.action, one.details.get("why")) for one in found)


def test_it_ends_by_the_operator_by_time_and_with_the_session(db: Database) -> None:
    boss, ada, token = people(db)
    with db.tx() as tx:
        view = views.begin(tx, boss, token, ada.account.id, NOW)
    with db.tx() as tx:
        entry = sessions.look_up(tx, token, NOW)
        assert entry is not None
        assert entry.view is not None
        assert (entry.owner.user.id, entry.view.account_id) == (boss.user.id, ada.account.id)
        late = sessions.look_up(tx, token, view.until_at)
        assert late is not None
        assert late.view is None, "its time is over, whether the sweep came by or not"
        assert views.end(tx, entry.session.id, NOW)
        assert not views.end(tx, entry.session.id, NOW)
        views.begin(tx, boss, token, ada.account.id, NOW)
    with db.tx() as tx:
        assert views.sweep(tx, NOW + timedelta(minutes=29)) == 0
        assert views.sweep(tx, NOW + timedelta(minutes=30)) == 1
        views.begin(tx, boss, token, ada.account.id, NOW)
        sessions.close_session(tx, token)
        assert views.sweep(tx, NOW) == 1
    assert lines(db) == [
        ("account.view_begin", None),
        ("account.view_begin", None),
        ("account.view_begin", None),
        ("account.view_end", "ended by the operator"),
        ("account.view_end", "its time was over"),
        ("account.view_end", "the operator signed out"),
    ]


def test_it_ends_with_the_account(db: Database) -> None:
    boss, ada, token = people(db)
    for account_id, user_id in ((ada.account.id, "usr_x"), ("acc_x", boss.user.id)):
        with db.tx() as tx:
            views.begin(tx, boss, token, ada.account.id, NOW)
            assert views.end_all(tx, "acc_x", "usr_x", NOW) == 0
            assert views.end_all(tx, account_id, user_id, NOW) == 1
    assert [why for action, why in lines(db) if action == "account.view_end"] == ["the account was deleted"] * 2


def test_one_at_a_time_and_of_somebody_else(db: Database) -> None:
    boss, ada, token = people(db)
    with db.tx() as tx:
        views.begin(tx, boss, token, ada.account.id, NOW)
        views.begin(tx, boss, token, ada.account.id, NOW)
    assert [action for action, _ in lines(db)].count("account.view_end") == 1
    for account_id, cookie, error in (
        (boss.account.id, token, Conflict),
        ("acc_nobody", token, NotFound),
        (ada.account.id, "x", Unauthorized),
    ):
        with db.tx() as tx, pytest.raises(error):
            views.begin(tx, boss, cookie, account_id, NOW)
