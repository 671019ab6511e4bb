"""Holds and charges of many accounts at once do what one hold and one settlement do, and keep the books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from clawhaven import ledger
from clawhaven.core.db import Database
from clawhaven.core.errors import PaymentRequired
from clawhaven.ledger import Charge, Purse

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def purse(balance: int, held: int = 0, floor: int | None = 0) -> Purse:
    return Purse("lac_1", balance, held, floor, (balance, held))


def test_a_hold_beyond_what_is_free_is_refused_and_changes_nothing() -> None:
    one = purse(100, held=30, floor=20)
    with pytest.raises(PaymentRequired) as refused:
        one.hold(51)
    assert refused.value.details == {"needed_micros": 51, "available_micros": 50, "balance_micros": 100}
    assert one.held_micros == 30
    one.hold(50)
    assert one.held_micros == 80
    purse(-5, floor=None).hold(10**9)
    with pytest.raises(ValueError, match="negative"):
        one.hold(-1)


def test_more_cannot_be_given_back_than_is_held() -> None:
    with pytest.raises(RuntimeError, match="holds less"):
        purse(100, held=5).free(6)
    with pytest.raises(ValueError, match="negative"):
        purse(100).charge(-1, 0)


amounts = st.integers(0, 200)


@given(balance=amounts, floor=st.none() | amounts, others=amounts, mine=amounts, actual=st.integers(0, 400))
def test_a_charge_takes_what_is_held_and_then_only_what_is_free(
    balance: int, floor: int | None, others: int, mine: int, actual: int
) -> None:
    one = purse(balance, held=others + mine, floor=floor)
    charged = one.charge(actual, mine)
    assert one.held_micros == others
    assert one.balance_micros == balance - charged
    assert 0 <= charged <= actual
    if actual <= mine or floor is None:
        assert charged == actual
    else:
        assert charged == min(actual, max(mine, balance - others - floor))


def test_purses_and_charges_are_written_as_entries(db: Database) -> None:
    with db.tx() as tx:
        accounts = [ledger.open_account(tx, "wallet", f"acc_{number}", 0, now=NOW) for number in range(3)]
        for account in accounts:
            ledger.credit(tx, key=f"topup:{account}", ledger_account_id=account, amount_micros=1_000, now=NOW)
    with db.tx() as tx:
        purses = ledger.take_purses(tx, [*accounts, "lac_none", "lac_platform_payments"])
        assert sorted(purses) == sorted(accounts)
        charges = []
        for number, account in enumerate(accounts):
            purses[account].hold(500)
            charged = purses[account].charge(number * 10, 300)
            balance = purses[account].balance_micros
            charges.append(Charge(f"k{number}", account, charged, balance, "usage_revenue", ref=f"r{number}", note="n"))
        ledger.write_purses(tx, purses.values(), charges, now=NOW)
    with db.tx() as tx:
        found = [ledger.balance(tx, account) for account in accounts]
        assert [(one.balance_micros, one.held_micros) for one in found] == [(1_000, 200), (990, 200), (980, 200)]
        assert ledger.balance(tx, "lac_platform_usage_revenue").balance_micros == 30
        lines = ledger.list_entries(tx, "acc_2").lines
        assert [(line.ref, line.amount_micros, line.balance_after_micros) for line in lines] == [
            ("r2", -20, 980),
            ("", 1_000, 1_000),
        ]
        assert len(ledger.list_entries(tx, "acc_0").lines) == 1
        assert ledger.check_books(tx, dict.fromkeys(accounts, 200)) == []
        assert len(ledger.check_books(tx)) == 3


def test_a_key_that_was_booked_before_undoes_the_transaction(db: Database) -> None:
    with db.tx() as tx:
        account = ledger.open_account(tx, "wallet", "acc_1", 0, now=NOW)
        ledger.credit(tx, key="topup", ledger_account_id=account, amount_micros=1_000, now=NOW)

    def book_again() -> None:
        with db.tx() as tx:
            purses = ledger.take_purses(tx, [account])
            charged = purses[account].charge(10, 0)
            charge = Charge("topup", account, charged, purses[account].balance_micros, "usage_revenue", ref="", note="")
            ledger.write_purses(tx, purses.values(), [charge], now=NOW + timedelta(seconds=1))

    with pytest.raises(IntegrityError):
        book_again()
    with db.read() as tx:
        assert ledger.balance(tx, account).balance_micros == 1_000
        assert ledger.check_books(tx) == []
