"""A wallet, a grant and a clock for the tests of metering."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from clawhaven import ledger, metering
from clawhaven.core.db import Database
from clawhaven.core.money import MICROS_PER_DOLLAR
from clawhaven.core.secrets import hash_token
from clawhaven.metering import GrantTerms, PlanMode

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY_HASH = hash_token("chk_test")


@pytest.fixture
def give(db: Database) -> Callable[..., str]:
    """Makes an account with `dollars` in it and an active grant for instance `ins_1`; returns the account's id."""

    def make(mode: PlanMode = PlanMode.METERED, dollars: int = 100, floor_micros: int = 0, **terms: object) -> str:
        included = mode is PlanMode.INCLUDED
        with db.tx() as tx:
            kind = "included" if included else "wallet"
            account = ledger.open_account(tx, kind, "acc_1", None if included else floor_micros, now=NOW)
            if dollars and not included:
                amount = dollars * MICROS_PER_DOLLAR
                ledger.credit(tx, key="topup", ledger_account_id=account, amount_micros=amount, now=NOW)
            if mode is PlanMode.OWN_KEY:
                terms = {"own_key_upstream": "anthropic", "own_key_sealed": "v1.sealed", **terms}
            else:
                terms = {"ledger_account_id": account, **terms}
            given = {"key_hash": KEY_HASH, "is_active": True, **terms}
            metering.put_grant(tx, GrantTerms("ins_1", "acc_1", plan_mode=mode, **given), now=NOW)  # type: ignore[arg-type]
        return account

    return make
