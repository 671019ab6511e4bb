"""Browser sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from clawhaven.accounts import sessions, signup
from clawhaven.accounts.models import LoginSession
from clawhaven.core.db import Database

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_a_session_lives_for_its_days_and_is_known_by_hash_only(db: Database) -> None:
    with db.tx() as tx:
        owner = signup.register(tx, "ada@example.com", NOW)
        token = sessions.open_session(tx, owner.user.id, NOW, days=7, user_agent="x" * 1000)
    with db.read() as tx:
        row = tx.scalars(sa.select(LoginSession)).one()
        assert token not in (row.token_hash, row.id, row.user_agent)
        assert len(row.user_agent) == 300
        for moment, is_known in ((0, True), (6.99, True), (7, False), (8, False)):
            found = sessions.find_session(tx, token, NOW + timedelta(days=moment))
            assert (found is not None) is is_known
            assert found is None or found.account.id == owner.account.id
        for wrong in ("", token[:-1], token.lower(), row.token_hash, "\0", "😀"):
            assert sessions.find_session(tx, wrong, NOW) is None


def test_closing_ends_one_and_sweeping_ends_the_old(db: Database) -> None:
    with db.tx() as tx:
        user = signup.register(tx, "ada@example.com", NOW).user
        first, second = (sessions.open_session(tx, user.id, NOW, days=days) for days in (1, 2))
        sessions.close_session(tx, "unknown")
    with db.tx() as tx:
        sessions.sweep(tx, NOW + timedelta(days=1))
        assert sessions.find_session(tx, first, NOW) is None
        assert sessions.find_session(tx, second, NOW) is not None
        sessions.close_session(tx, second)
        assert sessions.find_session(tx, second, NOW) is None


def test_a_deleted_user_is_signed_out(db: Database) -> None:
    with db.tx() as tx:
        owner = signup.register(tx, "ada@example.com", NOW)
        token = sessions.open_session(tx, owner.user.id, NOW, days=1)
        owner.user.deleted_at = NOW
    with db.read() as tx:
        assert sessions.find_session(tx, token, NOW) is None


def test_last_use_is_written_down_now_and_then(db: Database) -> None:
    with db.tx() as tx:
        owner = signup.register(tx, "ada@example.com", NOW)
        token = sessions.open_session(tx, owner.user.id, NOW, days=1)
    with db.tx() as tx:
        entry = sessions.look_up(tx, token, NOW)
        assert entry is not None
        assert not entry.is_worn(NOW + timedelta(minutes=9))
        later = NOW + timedelta(minutes=10)
        assert entry.is_worn(later)
        sessions.touch(tx, entry.session.id, later)
        sessions.touch(tx, entry.session.id, later + timedelta(minutes=1))
        assert sessions.look_up(tx, "x", NOW) is None
    with db.read() as tx:
        assert tx.scalars(sa.select(LoginSession.seen_at)).one() == later
