"""Whoever locks many grants or wallets does so in the order of their ids, as batches of calls do: on PostgreSQL two
that meet would else wait for each other. SQLite's writers are alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven import ledger, metering
from clawhaven.core.db import Database
from clawhaven.core.errors import RateLimited
from clawhaven.core.secrets import hash_token
from clawhaven.ledger.models import LedgerAccount
from clawhaven.metering import GrantTerms, Opening, PlanMode, Source, pricebook, programs, spending
from clawhaven.metering.models import Grant
from tests.metering.conftest import NOW
from tests.metering.test_batches import ASK, UPSTREAMS

LATER = NOW + timedelta(hours=2)
CENT = 10_000


# SQLite's writers are alone: there is no order to keep.
pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def wallets(db: Database) -> list[str]:
    """Two customers of ids against the order in which their rows lie, each with money, a grant, a call and a hold that
    are both overdue; the wallets' ids in their order."""
    found = []
    for name in ("2", "1"):
        with db.tx() as tx:
            tx.execute(
                sa.insert(LedgerAccount).values(
                    id=f"lac_{name}",
                    kind="wallet",
                    owner_id=f"acc_{name}",
                    currency="USD",
                    balance_micros=0,
                    held_micros=0,
                    floor_micros=0,
                    created_at=NOW,
                )
            )
            wallet = f"lac_{name}"
            ledger.credit(tx, key=name, ledger_account_id=wallet, amount_micros=100 * 10**6, now=NOW)
            terms = GrantTerms(f"ins_{name}", f"acc_{name}", name, PlanMode.METERED, wallet, is_active=True)
            metering.put_grant(tx, terms, now=NOW)
        found.append(wallet)
    with db.tx() as tx:  # the overdue call is of the first wallet's, the overdue hold of the other's, and both ways
        metering.run_batch(tx, [Opening(ASK, "2", UPSTREAMS)], [], now=NOW)
        ledger.hold(tx, "old", "lac_1", CENT, NOW, now=NOW)
    return sorted(found)


def set_markup(db: Session) -> object:
    return pricebook.set_markup(db, ["ins_2", "ins_1"], 300, now=NOW)


def set_allowances(db: Session) -> object:
    return spending.set_allowances(db, {"ins_2": CENT, "ins_1": CENT})


def set_floors(db: Session) -> object:
    return ledger.set_floors(db, "wallet", CENT)


def sweep(db: Session) -> object:
    return metering.sweep(db, now=LATER)


@pytest.mark.parametrize(
    ("work", "table"),
    [(set_markup, Grant), (set_allowances, Grant), (set_floors, LedgerAccount), (sweep, LedgerAccount)],
)
def test_it_waits_for_the_first_before_it_takes_the_second(
    db: Database, wallets: list[str], work: Callable[[Session], object], table: type[Grant | LedgerAccount]
) -> None:
    key: sa.ColumnElement[str] = sa.inspect(table).primary_key[0]
    first, second = ("ins_1", "ins_2") if table is Grant else wallets
    done: list[object] = []

    def run() -> None:
        try:
            with db.tx() as tx:
                done.append(work(tx))
        except sa.exc.DBAPIError as error:
            done.append(error)

    other = threading.Thread(target=run)
    with db.tx() as tx:
        tx.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
        tx.execute(sa.select(key).where(key == first).with_for_update())
        other.start()
        wait_until_somebody_waits(db)
        tx.execute(sa.select(key).where(key == second).with_for_update())
    other.join(20)
    assert done
    assert not isinstance(done[0], Exception)
    with db.read() as tx:
        assert ledger.check_books(tx, metering.held_by_calls(tx)) == []


def test_assistants_with_wallets_of_their_own_keep_their_accounts_limit_together(db: Database) -> None:
    """Two batches of two processes, of two assistants of one account: one of them waits for what the other admits."""
    with db.tx() as tx:
        for name in ("1", "2"):
            wallet = ledger.open_account(tx, "wallet", f"purse_{name}", 0, now=NOW)
            ledger.credit(tx, key=name, ledger_account_id=wallet, amount_micros=100 * 10**6, now=NOW)
            terms = GrantTerms(f"ins_{name}", "acc_one", name, PlanMode.METERED, wallet, is_active=True)
            metering.put_grant(tx, terms, now=NOW)
        spending.set_account_limit(tx, "acc_one", 5 * CENT)  # of 28,125 each, one is possible
    outcomes: list[metering.Outcome] = []

    def second() -> None:
        with db.tx() as tx:
            outcomes.append(metering.run_batch(tx, [Opening(ASK, "2", UPSTREAMS)], [], now=NOW))

    other = threading.Thread(target=second)
    with db.tx() as tx:
        outcomes.append(metering.run_batch(tx, [Opening(ASK, "1", UPSTREAMS)], [], now=NOW))
        other.start()
        wait_until_somebody_waits(db)
    other.join(20)
    assert isinstance(outcomes[0].opened[0], metering.OpenCall)
    refusal = outcomes[1].opened[0]
    assert isinstance(refusal, RateLimited)
    assert refusal.error_code == "account_spend_per_day"


def test_a_key_that_is_replaced_while_a_batch_waits_for_its_grant_opens_it_still(
    db: Database, wallets: list[str]
) -> None:
    """The batch looks for the key that the grant had a moment ago: shown itself, or found by a program's."""
    with db.tx() as tx:
        _, secret = programs.make(tx, "ins_1", "acc_1", "site", NOW)
    own = Opening(ASK, "1", UPSTREAMS)
    of_a_program = Opening(replace(ASK, source=Source.PROGRAM), hash_token(secret), UPSTREAMS)
    outcomes: list[metering.Outcome] = []

    def ask() -> None:
        with db.tx() as tx:
            outcomes.append(metering.run_batch(tx, [own, of_a_program, Opening(ASK, "2", UPSTREAMS)], [], now=NOW))

    other = threading.Thread(target=ask)
    with db.tx() as tx:
        metering.replace_key(tx, "ins_1", "new", now=NOW)
        other.start()
        wait_until_somebody_waits(db)
    other.join(20)
    assert [type(one) for one in outcomes[0].opened] == [metering.OpenCall] * 3


def wait_until_somebody_waits(db: Database) -> None:
    deadline = time.monotonic() + 10
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while time.monotonic() < deadline:
        with db.read() as tx:
            if tx.scalar(waiting):
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits")
