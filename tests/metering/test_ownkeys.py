"""Customers' own keys at rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.core.db import Database
from clawhaven.core.secrets import KeyRing, SealBroken
from clawhaven.metering import OWN_KEY_PURPOSE, ownkeys
from tests.metering.conftest import NOW

KEYS = KeyRing([b"k" * 32])


def test_put_find_replace_remove(db: Database) -> None:
    with db.tx() as tx:
        assert ownkeys.find(tx, "ins_1") is None
        assert ownkeys.remove(tx, "ins_1") is False
        first = ownkeys.put(tx, "ins_1", "anthropic", "sk-ant-first", KEYS, NOW)
        assert (first.upstream, first.hint, first.checked_at) == ("anthropic", "irst", NOW)
        ownkeys.put(tx, "ins_2", "openai", "sk-other", KEYS, NOW)
    later = NOW + timedelta(days=1)
    with db.tx() as tx:
        second = ownkeys.put(tx, "ins_1", "openai", "sk-second", KEYS, later)
        assert (second.upstream, second.hint, second.checked_at) == ("openai", "cond", later)
        assert KEYS.open(second.sealed, OWN_KEY_PURPOSE) == "sk-second"
    with db.tx() as tx:
        assert ownkeys.remove(tx, "ins_1") is True
        assert ownkeys.find(tx, "ins_1") is None
        assert ownkeys.find(tx, "ins_2") is not None


def test_nothing_of_a_key_but_its_end_is_in_the_clear(db: Database) -> None:
    with db.tx() as tx:
        ownkeys.put(tx, "ins_1", "anthropic", "sk-ant-secret-part-1234", KEYS, NOW)
    with db.read() as tx:
        row = tx.execute(sa.text("SELECT * FROM own_key")).mappings().one()
    assert "secret-part" not in str(dict(row))
    assert row["hint"] == "1234"
    with pytest.raises(SealBroken):
        KEYS.open(row["sealed"], "something else")
