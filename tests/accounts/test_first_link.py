"""Whoever typed an address at sign-up may be anybody; the first mailed link settles whose account it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.accounts import apikeys, links, sessions, signup
from clawhaven.accounts.models import LoginSession, User
from clawhaven.core.audit import AuditEntry
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.errors import Forbidden, Unauthorized


def test_the_first_link_ends_what_was_opened_without_proof(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as tx:
        typed = signup.register(tx, "victim@example.com", now)
        other = signup.register(tx, "other@example.com", now, verified_at=now)
        strangers = [sessions.open_session(tx, typed.user.id, now, days=7) for _ in range(2)]
        others = sessions.open_session(tx, other.user.id, now, days=7)
        _, kept = apikeys.issue(tx, other, "mine", ["read"], now)
        # A key from before keys needed proof.
        typed.user.verified_at = now
        _, planted = apikeys.issue(tx, typed, "planted", ["read", "write"], now)
        typed.user.verified_at = None
        token = links.issue(tx, typed.user.id, now)
    with db.tx() as tx:
        mine = links.sign_in(tx, token, now, days=7)
    with db.read() as tx:
        assert [sessions.find_session(tx, one, now) for one in strangers] == [None, None]
        assert apikeys.find_key(tx, planted) is None
        found = sessions.find_session(tx, mine, now)
        assert found is not None
        assert found.user.verified_at == now
        assert sessions.find_session(tx, others, now) is not None
        assert apikeys.find_key(tx, kept) is not None
        entry = tx.scalars(sa.select(AuditEntry).where(AuditEntry.action == "user.verify")).one()
        assert entry.details == {"sessions_ended": 2, "keys_revoked": 1}


def test_later_links_end_nothing_but_the_session_they_replace(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as tx:
        owner = signup.register(tx, "ada@example.com", now)
        first = links.sign_in(tx, links.issue(tx, owner.user.id, now), now, days=7)
    with db.tx() as tx:
        signed = sessions.find_session(tx, first, now)
        assert signed is not None
        _, key = apikeys.issue(tx, signed, "mine", ["read"], now)
    later = now + timedelta(days=1)
    with db.tx() as tx:
        second = links.sign_in(tx, links.issue(tx, owner.user.id, later), later, days=7)
        third = links.sign_in(tx, links.issue(tx, owner.user.id, later), later, days=7, replaces=second)
    with db.read() as tx:
        alive = [sessions.find_session(tx, one, later) is not None for one in (first, second, third)]
        assert alive == [True, False, True]
        assert apikeys.find_key(tx, key) is not None
        assert tx.get_one(User, owner.user.id).verified_at == now


def test_no_key_without_proof_not_even_with_a_session_from_before_it(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as tx:
        owner = signup.register(tx, "victim@example.com", now)
        stranger = sessions.open_session(tx, owner.user.id, now, days=7)
    with db.read() as tx:
        let_in = sessions.find_session(tx, stranger, now)
        assert let_in is not None
    with db.tx() as tx:
        assert links.verify(tx, owner.user.id, now) is True
        assert links.verify(tx, owner.user.id, now) is False
    with db.tx() as tx, pytest.raises(Forbidden) as refused:
        apikeys.issue(tx, let_in, "late", ["read"], now)
    assert refused.value.error_code == "email_not_verified"


def test_a_link_that_does_not_open_ends_nothing(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as tx:
        owner = signup.register(tx, "ada@example.com", now)
        session = sessions.open_session(tx, owner.user.id, now, days=7)
        token = links.issue(tx, owner.user.id, now)
    with pytest.raises(Unauthorized), db.tx() as tx:
        links.sign_in(tx, token, now + links.LIFE, days=7, replaces=session)
    with db.read() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(LoginSession)) == 1
        assert tx.get_one(User, owner.user.id).verified_at is None
