"""API keys: scoped, shown once, ended at once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from clawhaven.accounts import apikeys, signup
from clawhaven.core.db import Database
from clawhaven.core.errors import Invalid, NotFound
from clawhaven.core.logs import MASK, redact

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_a_key_from_making_to_end(db: Database) -> None:
    with db.tx() as tx:
        ada, eve = (signup.register(tx, f"{name}@example.com", NOW, verified_at=NOW) for name in ("ada", "eve"))
        key, secret = apikeys.issue(tx, ada, "ci", ["write", "read", "read"], NOW)
    assert (key.scopes, key.prefix) == ("read write", secret[:10])
    assert secret not in (key.key_hash, key.prefix)
    assert redact(f"key {secret}") == f"key {MASK}"
    with db.tx() as tx:
        found = apikeys.find_key(tx, secret)
        assert found is not None
        assert (found[0].account.id, found[1].id) == (ada.account.id, key.id)
        assert apikeys.find_key(tx, secret[:-1]) is None
        for account, key_id in ((eve.account.id, key.id), (ada.account.id, "key_unknown")):
            with pytest.raises(NotFound):
                apikeys.revoke(tx, account, key_id, NOW)
        assert found[1].last_used_at is None
        apikeys.touch(tx, key.id, NOW)
        tx.refresh(found[1])
        assert found[1].last_used_at == NOW
        apikeys.revoke(tx, ada.account.id, key.id, NOW)
        apikeys.revoke(tx, ada.account.id, key.id, NOW)
        assert apikeys.find_key(tx, secret) is None
        assert apikeys.list_keys(tx, ada.account.id) == []


@pytest.mark.parametrize("scopes", [[], ["admin"], ["read", "READ"], ["read "], ["read write"]])
def test_only_scopes_that_exist(db: Database, scopes: list[str]) -> None:
    with db.tx() as tx:
        owner = signup.register(tx, "ada@example.com", NOW, verified_at=NOW)
        with pytest.raises(Invalid) as caught:
            apikeys.issue(tx, owner, "x", scopes, NOW)
    assert caught.value.details["field"] == "scopes"
