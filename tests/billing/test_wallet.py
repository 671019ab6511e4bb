"""Levels by a table; refusals noted once; one winner of every change."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from clawhaven import ledger
from clawhaven.accounts import signup
from clawhaven.billing import wallet
from clawhaven.billing.wallet import Auto, Level, Standing
from clawhaven.core.db import Database

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
DOLLAR = 1_000_000


@pytest.mark.parametrize(
    ("balance", "held", "floor", "is_refused", "level"),
    [
        (15, 0, 10, False, Level.OK),
        (14.999999, 0, 10, False, Level.LOW),
        (10.000001, 0, 10, False, Level.LOW),
        (10, 0, 10, False, Level.DEPLETED),
        (9, 0, 10, False, Level.DEPLETED),
        (-3, 0, 0, False, Level.DEPLETED),
        (0, 0, 0, False, Level.DEPLETED),
        (0.000001, 0, 0, False, Level.LOW),
        (5, 0, 0, False, Level.OK),
        (5, 5, 0, False, Level.OK),
        (11, 0, 10, True, Level.DEPLETED),
        (100, 0, 10, True, Level.DEPLETED),
        (11, 1, 10, True, Level.LOW),
        (100, 1, 10, True, Level.OK),
        (10, 1, 10, True, Level.DEPLETED),
    ],
)
def test_levels(balance: float, held: float, floor: float, is_refused: bool, level: Level) -> None:
    standing = Standing(round(balance * DOLLAR), round(held * DOLLAR), round(floor * DOLLAR), is_refused)
    assert wallet.level_of(standing, 5 * DOLLAR) == level


def test_without_a_margin_nothing_is_low() -> None:
    assert wallet.level_of(Standing(1, 0, 0), 0) == Level.OK


def make(db: Database, dollars: int = 0) -> tuple[str, str]:
    """An account and its wallet, with a floor of ten dollars."""
    with db.tx() as tx:
        account_id = signup.register(tx, "ada@example.com", NOW).account.id
        wallet_id = ledger.open_account(tx, wallet.KIND, account_id, 10 * DOLLAR, now=NOW)
        if dollars:
            ledger.credit(tx, key="c", ledger_account_id=wallet_id, amount_micros=dollars * DOLLAR, now=NOW)
    return account_id, wallet_id


def winners(db: Database, act: Callable[..., object]) -> int:
    """How many of eight at once were told that they did it."""

    def once(number: int) -> bool:
        with db.tx() as tx:
            return bool(act(tx))

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(once, range(8)))


def test_a_refusal_is_noted_once_and_is_over_with_the_next_credit(db: Database) -> None:
    account_id, wallet_id = make(db, 12)
    assert winners(db, lambda tx: wallet.mark_refused(tx, account_id, LATER)) == 1
    with db.tx() as tx:
        assert wallet.is_marked(tx, account_id)
        standing = wallet.standing(tx, account_id)
        assert standing == Standing(12 * DOLLAR, 0, 10 * DOLLAR, is_refused=True)
        # Usage and a plan's price that was paid are no credit.
        other = ledger.platform_account(tx, "payments", now=NOW)
        for key, kind, amount in (("p", "payment", 20), ("q", "plan", -20), ("u", "usage", -1)):
            postings = [ledger.Posting(wallet_id, amount * DOLLAR), ledger.Posting(other, -amount * DOLLAR)]
            ledger.post(tx, key=key, kind=kind, postings=postings, now=LATER, below_floor=True)
        standing = wallet.standing(tx, account_id)
        assert standing is not None
        assert standing.is_refused
        ledger.credit(tx, key="d", ledger_account_id=wallet_id, amount_micros=DOLLAR, now=LATER)
        assert wallet.standing(tx, account_id) == Standing(12 * DOLLAR, 0, 10 * DOLLAR, is_refused=False)
        assert wallet.forget_refusal(tx, account_id, LATER)
        assert not wallet.is_marked(tx, account_id)


def test_a_credit_that_was_on_its_way_counts_as_the_later_one(db: Database) -> None:
    account_id, wallet_id = make(db)
    with db.tx() as tx:
        ledger.credit(tx, key="d", ledger_account_id=wallet_id, amount_micros=DOLLAR, now=NOW)
        wallet.mark_refused(tx, account_id, NOW + timedelta(seconds=5))
        standing = wallet.standing(tx, account_id)
    assert standing is not None
    assert not standing.is_refused


def test_a_refusal_while_calls_hold_money_is_not_want_of_credit(db: Database) -> None:
    account_id, wallet_id = make(db, 12)
    with db.tx() as tx:
        ledger.hold(tx, "call", wallet_id, DOLLAR, LATER, now=NOW)
        assert not wallet.mark_refused(tx, account_id, NOW)
        assert wallet.find(tx, account_id) is None
        assert not wallet.mark_refused(tx, "acc_nobody", NOW)
        assert wallet.standing(tx, "acc_nobody") is None


def test_what_is_disputed_is_neither_ones_own_nor_under_way(db: Database) -> None:
    assert wallet.level_of(Standing(30 * DOLLAR, 20 * DOLLAR, 10 * DOLLAR, False, 20 * DOLLAR), 0) == Level.DEPLETED
    refused = Standing(40 * DOLLAR, 20 * DOLLAR, 10 * DOLLAR, True, 20 * DOLLAR)
    assert wallet.level_of(refused, 0) == Level.DEPLETED
    account_id, wallet_id = make(db, 42)
    with db.tx() as tx:
        wallet.keep_aside(tx, account_id, wallet_id, {"rcp_a": 20 * DOLLAR, "rcp_b": 90 * DOLLAR}, LATER)
        assert wallet.set_aside(tx) == {account_id: 32 * DOLLAR}, "as far as the floor leaves it"
        assert wallet.mark_refused(tx, account_id, LATER), "no call holds anything"
        standing = wallet.standing(tx, account_id)
        assert standing == Standing(42 * DOLLAR, 32 * DOLLAR, 10 * DOLLAR, True, 32 * DOLLAR)
        assert standing.own_micros == 10 * DOLLAR
        wallet.keep_aside(tx, account_id, wallet_id, {"rcp_b": 90 * DOLLAR}, LATER)
        assert wallet.is_marked(tx, account_id), "nothing came free: the other one takes it"
        wallet.keep_aside(tx, account_id, wallet_id, {}, LATER)
        assert not wallet.is_marked(tx, account_id)
        assert wallet.standing(tx, account_id) == Standing(42 * DOLLAR, 0, 10 * DOLLAR)
        assert wallet.disputed_topups(tx) == []
        assert ledger.check_books(tx) == []


def test_a_level_changes_once_per_episode(db: Database) -> None:
    account_id, _ = make(db)
    with db.tx() as tx:
        row = wallet.ensure(tx, account_id, NOW)
        assert (row.level, row.episode, row.auto_state) == (Level.OK, 0, Auto.ARMED)
        tx.expunge(row)
    assert winners(db, lambda tx: wallet.change_level(tx, row, Level.DEPLETED, LATER)) == 1
    with db.tx() as tx:
        after = wallet.ensure(tx, account_id, NOW)
        assert (after.level, after.level_at, after.episode) == (Level.DEPLETED, LATER, 1)


def test_the_row_is_made_once(db: Database) -> None:
    account_id, _ = make(db)
    assert winners(db, lambda tx: wallet.ensure(tx, account_id, NOW)) == 8
    with db.read() as tx:
        assert list(wallet.rows(tx)) == [account_id]


def test_the_auto_top_up_fires_once_per_crossing(db: Database) -> None:
    account_id, _ = make(db)

    def save() -> None:
        with db.tx() as tx:
            wallet.ensure(tx, account_id, NOW)
            wallet.save_auto(tx, account_id, is_auto=True, threshold_micros=DOLLAR, amount_micros=DOLLAR)

    def state() -> tuple[str, int, str]:
        with db.read() as tx:
            row = wallet.ensure(tx, account_id, NOW)
            return row.auto_state, row.auto_count, row.auto_error

    with db.tx() as tx:
        wallet.ensure(tx, account_id, NOW)
        assert wallet.fire(tx, account_id) is None, "it is switched off"
    save()
    assert winners(db, lambda tx: wallet.fire(tx, account_id)) == 1
    save()
    assert state() == (Auto.FIRED, 1, ""), "one at work is not fired again by saving"
    assert winners(db, lambda tx: wallet.fail(tx, account_id, 1, "declined")) == 1
    assert state() == (Auto.FAILED, 1, "declined")
    save()
    assert state() == (Auto.ARMED, 1, "")
    with db.tx() as tx:
        assert wallet.fire(tx, account_id) == 2
        assert not wallet.fail(tx, account_id, 1, "late"), "another crossing's"
    assert winners(db, lambda tx: wallet.rearm(tx, account_id)) == 1
