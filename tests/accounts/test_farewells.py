"""Links that confirm the end of an account: one use, one hour, the newest alone; and what proves more than a link."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from clawhaven.accounts import apikeys, farewells, links, sessions, signup
from clawhaven.accounts.models import DeletionLink
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.errors import Unauthorized


def test_one_use_one_hour_and_the_newest_alone(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as session:
        owner = signup.register(session, "ada@example.com", now)
        first = farewells.issue(session, owner.user.id, now)
        second = farewells.issue(session, owner.user.id, now)
        hashes = session.scalars(select(DeletionLink.token_hash)).all()
        assert len(hashes) == 1
        assert second not in hashes
        for token, at in ((first, now), (second, now + farewells.LIFE), ("unknown", now)):
            with pytest.raises(Unauthorized):
                farewells.redeem(session, token, at)
        assert farewells.is_waiting(session, owner.user.id, now)
        assert farewells.redeem(session, second, now).account.id == owner.account.id
        assert not farewells.is_waiting(session, owner.user.id, now)
        with pytest.raises(Unauthorized):
            farewells.redeem(session, second, now)


def test_whoever_is_shut_out_leaves_no_link_behind(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as session:
        owner = signup.register(session, "ada@example.com", now)
        links.verify(session, owner.user.id, now)
        key, _ = apikeys.issue(session, owner, "ci", ["read"], now)
        sessions.open_session(session, owner.user.id, now, days=1)
        session.flush()
        (one,) = sessions.list_sessions(session, owner.user.id, now)
        shuts = (
            lambda: apikeys.revoke(session, owner.account.id, key.id, now),
            lambda: sessions.end_session(session, owner.user.id, one.id),
            lambda: sessions.close_all(session, owner.user.id),
        )
        for shut in shuts:
            token = farewells.issue(session, owner.user.id, now)
            shut()
            with pytest.raises(Unauthorized):
                farewells.redeem(session, token, now)


def test_a_session_proves_the_mailbox_for_half_an_hour(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as session:
        owner = signup.register(session, "ada@example.com", now)
        assert not farewells.is_proof(owner, now, now), "nobody has opened a link"
        links.verify(session, owner.user.id, now)
        session.refresh(owner.user)
    assert farewells.is_proof(owner, now, now + farewells.FRESH)
    assert not farewells.is_proof(owner, now, now + farewells.FRESH + timedelta(seconds=1))
    assert not farewells.is_proof(owner, None, now)
