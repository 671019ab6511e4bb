"""Who runs the platform."""

from __future__ import annotations

import pytest

from clawhaven.accounts import apikeys, links, operators, signup
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.errors import Forbidden, Invalid, NotFound

BOSS = frozenset({"boss@example.com"})


def test_only_a_proven_address_counts(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as tx:
        boss, other = (signup.register(tx, f"{name}@example.com", now).user for name in ("boss", "other"))
        assert not operators.is_operator(boss, BOSS), "somebody merely typed it"
        for user in (boss, other):
            links.verify(tx, user.id, now)
            tx.refresh(user)
        assert operators.is_operator(boss, BOSS)
        assert not operators.is_operator(boss, ())
        assert not operators.is_operator(other, BOSS)
        boss.deleted_at = now
        assert not operators.is_operator(boss, BOSS)


def test_appointed_and_dismissed_on_the_server(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as tx:
        owner = operators.appoint(tx, "new@example.com", now)
        assert not operators.is_operator(owner.user, ()), "not before a mailed link was used"
        links.verify(tx, owner.user.id, now)
        tx.refresh(owner.user)
        assert operators.is_operator(owner.user, ())
        assert operators.appoint(tx, "new@example.com", now).user.id == owner.user.id
        assert [user.email for user in operators.every(tx, BOSS)] == ["new@example.com"]
        _, secret = apikeys.issue(tx, owner, "k", ["read", "admin"], now, is_operator=True)
        operators.dismiss(tx, "new@example.com", now)
        assert not operators.is_operator(owner.user, ())
        assert apikeys.find_key(tx, secret) is None
        assert operators.every(tx, BOSS) == []
        operators.dismiss(tx, "new@example.com", now)
        with pytest.raises(NotFound):
            operators.dismiss(tx, "nobody@example.com", now)


def test_a_key_for_operators_only(db: Database, clock: Clock) -> None:
    now = clock.now()
    with db.tx() as tx:
        owner = signup.register(tx, "ada@example.com", now, verified_at=now)
        with pytest.raises(Invalid, match=r"^Scopes are read, write, keys\.$") as refused:
            apikeys.issue(tx, owner, "k", ["read", "admin"], now)
        assert refused.value.details["field"] == "scopes"
        key, _ = apikeys.issue(tx, owner, "k", ["read", "admin"], now, is_operator=True)
        assert key.scopes == "admin read"
        unproven = signup.register(tx, "eve@example.com", now)
        with pytest.raises(Forbidden):
            apikeys.issue(tx, unproven, "k", ["admin"], now, is_operator=True)
