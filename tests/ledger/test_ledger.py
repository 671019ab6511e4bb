"""The books: conditional moves, idempotency, holds, append-only triggers, and random histories that must add up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawhaven import ledger
from clawhaven.core.db import Database
from clawhaven.core.errors import IllegalMove, NotFound, PaymentRequired
from clawhaven.core.ids import new_id
from clawhaven.core.money import MICROS_PER_DOLLAR
from clawhaven.ledger.models import LedgerAccount, LedgerEntry, LedgerPosting

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=30)


def wallet_with(db: Database, dollars: int, floor_micros: int | None = 0) -> str:
    with db.tx() as tx:
        wallet = ledger.open_account(tx, "wallet", new_id("acc"), floor_micros, now=NOW)
        if dollars:
            amount = dollars * MICROS_PER_DOLLAR
            ledger.credit(tx, key=f"topup:{wallet}", ledger_account_id=wallet, amount_micros=amount, now=NOW)
    return wallet


def balance_of(db: Database, account: str) -> ledger.Balance:
    with db.read() as tx:
        return ledger.balance(tx, account)


def assert_books_balance(db: Database) -> None:
    with db.read() as tx:
        assert ledger.check_books(tx) == []


def test_open_account_is_idempotent_and_keeps_the_first_floor(db: Database) -> None:
    owner = new_id("acc")
    with db.tx() as tx:
        first = ledger.open_account(tx, "wallet", owner, 10, now=NOW)
        assert ledger.open_account(tx, "wallet", owner, 99, now=NOW) == first
        assert ledger.account_of(tx, "wallet", owner) == first
        assert ledger.balance(tx, first).floor_micros == 10
        ledger.set_floor(tx, first, 99)
        assert ledger.balance(tx, first).floor_micros == 99


def test_a_repeat_of_a_key_moves_nothing(db: Database) -> None:
    wallet = wallet_with(db, 0)
    with db.tx() as tx:
        first = ledger.credit(tx, key="pay_1", ledger_account_id=wallet, amount_micros=500, now=NOW)
    with db.tx() as tx:
        again = ledger.credit(tx, key="pay_1", ledger_account_id=wallet, amount_micros=700, now=NOW)
    assert first.is_new
    assert not again.is_new
    assert again.entry_id == first.entry_id
    assert balance_of(db, wallet).balance_micros == 500
    assert_books_balance(db)


def test_a_refused_debit_leaves_no_trace_even_when_the_caller_goes_on(db: Database) -> None:
    wallet = wallet_with(db, 1)
    with db.tx() as tx:
        with pytest.raises(PaymentRequired) as refused:
            ledger.debit(tx, key="d1", ledger_account_id=wallet, amount_micros=1_000_001, now=NOW)
        assert refused.value.details["available_micros"] == 1_000_000
    with db.read() as tx:
        assert tx.execute(sa.select(LedgerEntry).where(LedgerEntry.idem_key == "d1")).first() is None
    assert_books_balance(db)


def test_unknown_accounts_and_unbalanced_postings_are_refused(db: Database) -> None:
    wallet = wallet_with(db, 1)
    with db.tx() as tx:
        with pytest.raises(NotFound):
            ledger.debit(tx, key="d1", ledger_account_id="lac_none", amount_micros=1, now=NOW)
        one_sided = [ledger.Posting(wallet, 5), ledger.Posting(wallet, -4)]
        with pytest.raises(ValueError, match="sum to zero"):
            ledger.post(tx, key="d2", kind="x", postings=one_sided, now=NOW)
        with pytest.raises(ValueError, match="positive"):
            ledger.credit(tx, key="d3", ledger_account_id=wallet, amount_micros=-1, now=NOW)


def test_a_credit_goes_through_below_the_floor(db: Database) -> None:
    wallet = wallet_with(db, 1, floor_micros=10 * MICROS_PER_DOLLAR)
    with db.tx() as tx:
        ledger.credit(tx, key="c", ledger_account_id=wallet, amount_micros=5, now=NOW)
    found = balance_of(db, wallet)
    assert found.balance_micros == 1_000_005
    assert found.available_micros == 1_000_005 - 10_000_000


def test_hold_settle_gives_back_the_rest(db: Database) -> None:
    wallet = wallet_with(db, 2)
    with db.tx() as tx:
        assert ledger.hold(tx, "call_1", wallet, 1_500_000, LATER, now=NOW)
        assert not ledger.hold(tx, "call_1", wallet, 1_500_000, LATER, now=NOW)
    assert balance_of(db, wallet).available_micros == 500_000
    with db.tx() as tx, pytest.raises(PaymentRequired):
        ledger.hold(tx, "call_2", wallet, 500_001, LATER, now=NOW)
    with db.tx() as tx:
        done = ledger.settle(tx, "call_1", 123_456, to="usage_revenue", now=NOW, ref="call_1")
    with db.tx() as tx:
        again = ledger.settle(tx, "call_1", 999_999, to="usage_revenue", now=NOW, ref="call_1")
    assert done == ledger.Settlement(123_456, 0, True)
    assert again == ledger.Settlement(123_456, 0, False)
    assert balance_of(db, wallet) == ledger.Balance(1_876_544, 0, 0, 1_876_544)
    with db.read() as tx:
        assert ledger.balance(tx, "lac_platform_usage_revenue").balance_micros == 123_456
        with pytest.raises(IllegalMove):
            ledger.release(tx, "call_1")
    assert_books_balance(db)


def test_a_charge_above_the_hold_stops_at_the_floor_and_other_holds(db: Database) -> None:
    wallet = wallet_with(db, 1)
    with db.tx() as tx:
        ledger.hold(tx, "a", wallet, 100_000, LATER, now=NOW)
        ledger.hold(tx, "b", wallet, 300_000, LATER, now=NOW)
        covered = ledger.settle(tx, "a", 200_000, to="usage_revenue", now=NOW)
        assert covered == ledger.Settlement(200_000, 0, True)
        ledger.hold(tx, "c", wallet, 0, LATER, now=NOW)
        capped = ledger.settle(tx, "c", 5_000_000, to="usage_revenue", now=NOW)
        assert capped == ledger.Settlement(500_000, 4_500_000, True)
        assert ledger.settle(tx, "b", 300_000, to="usage_revenue", now=NOW).charged_micros == 300_000
    assert balance_of(db, wallet).balance_micros == 0
    assert_books_balance(db)


def test_a_floor_raised_during_a_call_does_not_forgive_what_was_held(db: Database) -> None:
    wallet = wallet_with(db, 1)
    with db.tx() as tx:
        ledger.hold(tx, "a", wallet, 400_000, LATER, now=NOW)
        ledger.set_floor(tx, wallet, 10_000_000)
        assert ledger.settle(tx, "a", 400_000, to="usage_revenue", now=NOW).charged_micros == 400_000
        assert ledger.balance(tx, wallet).balance_micros == 600_000


def test_an_account_without_a_floor_may_go_below_zero(db: Database) -> None:
    included = wallet_with(db, 0, floor_micros=None)
    with db.tx() as tx:
        ledger.hold(tx, "a", included, 400_000, LATER, now=NOW)
        ledger.settle(tx, "a", 300_000, to="included_usage", now=NOW)
    assert balance_of(db, included) == ledger.Balance(-300_000, 0, None, None)
    assert_books_balance(db)


def test_expiry_frees_holds_once_and_a_late_settlement_still_charges(db: Database) -> None:
    wallet = wallet_with(db, 1)
    with db.tx() as tx:
        ledger.hold(tx, "a", wallet, 400_000, LATER, now=NOW)
        ledger.hold(tx, "b", wallet, 100_000, LATER + timedelta(seconds=1), now=NOW)
        assert ledger.expire(tx, NOW) == []
        assert ledger.expire(tx, LATER) == ["a"]
        assert ledger.expire(tx, LATER) == []
        assert not ledger.release(tx, "a")
        assert ledger.balance(tx, wallet).held_micros == 100_000
        assert ledger.settle(tx, "a", 50_000, to="usage_revenue", now=LATER) == ledger.Settlement(50_000, 0, True)
    assert balance_of(db, wallet).balance_micros == 950_000
    assert_books_balance(db)


def test_what_is_kept_held_follows_its_amount_as_far_as_there_is(db: Database) -> None:
    wallet = wallet_with(db, 30, floor_micros=10 * MICROS_PER_DOLLAR)
    year = timedelta(days=366)

    def keep(dollars: int, at: datetime = NOW) -> int:
        with db.tx() as tx:
            return (
                ledger.keep_held(tx, "d", wallet, dollars * MICROS_PER_DOLLAR, at + year, now=at) // MICROS_PER_DOLLAR
            )

    with db.tx() as tx:
        ledger.hold(tx, "call", wallet, 5 * MICROS_PER_DOLLAR, LATER, now=NOW)
        ledger.hold(tx, "d_other", wallet, 0, LATER, now=NOW)
    assert keep(50) == 15
    with db.tx() as tx:
        ledger.settle(tx, "call", 2 * MICROS_PER_DOLLAR, to="usage_revenue", now=NOW)
    assert [keep(50), keep(50), keep(4), keep(4)] == [18, 18, 4, 4]
    assert keep(4, NOW + timedelta(days=300)) == 4
    with db.tx() as tx:
        assert ledger.expire(tx, NOW + timedelta(days=400)) == ["d_other"], "it was renewed"
    assert [keep(0), keep(0), keep(3)] == [0, 0, 3]
    with db.read() as tx:
        (one,) = ledger.held_under(tx, "d")
        assert (one.amount_micros, ledger.held_under(tx, "d", one.owner_id)) == (3 * MICROS_PER_DOLLAR, [one])
        assert ledger.held_under(tx, "d", "acc_other") == []
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: keep(9), range(8))) == {9}
    assert balance_of(db, wallet).held_micros == 9 * MICROS_PER_DOLLAR
    with db.tx() as tx, pytest.raises(ValueError, match="negative"):
        ledger.keep_held(tx, "d", wallet, -1, LATER, now=NOW)
    assert_books_balance(db)


def test_settling_a_released_or_unknown_hold_is_refused(db: Database) -> None:
    wallet = wallet_with(db, 1)
    with db.tx() as tx:
        ledger.hold(tx, "a", wallet, 10, LATER, now=NOW)
        assert ledger.release(tx, "a")
        assert not ledger.release(tx, "a")
        assert not ledger.release(tx, "nobody")
        with pytest.raises(IllegalMove):
            ledger.settle(tx, "a", 10, to="usage_revenue", now=NOW)
        with pytest.raises(NotFound):
            ledger.settle(tx, "nobody", 10, to="usage_revenue", now=NOW)


@pytest.mark.parametrize("table", [LedgerEntry.__table__, LedgerPosting.__table__])
def test_the_books_refuse_update_and_delete(db: Database, table: sa.Table) -> None:
    wallet_with(db, 1)
    for statement in (sa.update(table).values(id=table.c.id), sa.delete(table)):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), db.tx() as tx:
            tx.execute(statement)
    assert_books_balance(db)


def test_a_statement_pages_newest_first_with_the_running_balance(db: Database) -> None:
    with db.tx() as tx:
        wallet = ledger.open_account(tx, "wallet", "acc_reader", 0, now=NOW)
        for number in range(1, 6):
            ledger.credit(
                tx, key=f"c{number}", ledger_account_id=wallet, amount_micros=number, now=NOW, note=f"n{number}"
            )
    with db.read() as tx:
        first = ledger.list_entries(tx, "acc_reader", limit=3)
        assert [line.balance_after_micros for line in first.lines] == [15, 10, 6]
        assert first.lines[0].note == "n5"
        assert first.lines[0].created_at == NOW
        rest = ledger.list_entries(tx, "acc_reader", cursor=first.next_cursor, limit=3)
        assert [line.amount_micros for line in rest.lines] == [2, 1]
        assert rest.next_cursor is None
        assert ledger.list_entries(tx, "acc_stranger").lines == []
        assert ledger.list_entries(tx, "platform").lines == []


def test_check_books_finds_what_was_changed_behind_its_back(db: Database) -> None:
    wallet = wallet_with(db, 1)
    with db.tx() as tx:
        tx.execute(sa.update(LedgerAccount).where(LedgerAccount.id == wallet).values(balance_micros=7, held_micros=3))
        tx.execute(
            sa.insert(LedgerEntry).values(id="ent_bad", idem_key="bad", kind="x", ref="", note="", created_at=NOW)
        )
    with db.read() as tx:
        problems = " / ".join(ledger.check_books(tx))
    assert "ent_bad" in problems
    assert f"account {wallet} says 7" in problems
    assert f"account {wallet} holds 3" in problems


def test_64_threads_never_take_a_wallet_below_its_floor(db: Database) -> None:
    wallet = wallet_with(db, 30, floor_micros=10 * MICROS_PER_DOLLAR)
    barrier = threading.Barrier(64)

    def spend(number: int) -> int:
        barrier.wait()
        charged = 0
        for turn in range(3):
            # Every second thread repeats its neighbour's keys: a repeat must never charge twice.
            key = f"call:{number // 2}:{turn}"
            try:
                with db.tx() as tx:
                    is_new = ledger.hold(tx, key, wallet, 700_000, LATER, now=NOW)
            except PaymentRequired:
                continue
            if not is_new:
                continue
            with db.tx() as tx:
                charged += ledger.settle(tx, key, 600_000, to="usage_revenue", now=NOW).charged_micros
            with db.read() as tx:
                assert ledger.balance(tx, wallet).balance_micros >= 10 * MICROS_PER_DOLLAR
        return charged

    with ThreadPoolExecutor(64) as pool:
        charged = sum(pool.map(spend, range(64)))
    found = balance_of(db, wallet)
    assert found.held_micros == 0
    assert found.balance_micros == 30 * MICROS_PER_DOLLAR - charged
    assert 10 * MICROS_PER_DOLLAR <= found.balance_micros < 11 * MICROS_PER_DOLLAR
    assert_books_balance(db)


def test_the_same_key_posted_by_many_threads_moves_once(db: Database) -> None:
    wallet = wallet_with(db, 0)
    barrier = threading.Barrier(16)

    def pay(_: int) -> tuple[str, bool]:
        barrier.wait()
        with db.tx() as tx:
            posted = ledger.credit(tx, key="one", ledger_account_id=wallet, amount_micros=5, now=NOW)
        return posted.entry_id, posted.is_new

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(pay, range(16)))
    assert len({entry for entry, _ in results}) == 1
    assert sum(is_new for _, is_new in results) == 1
    assert balance_of(db, wallet).balance_micros == 5


OPERATION = st.tuples(
    st.sampled_from(["credit", "debit", "hold", "settle", "release", "expire"]),
    st.integers(min_value=0, max_value=4),
    st.integers(min_value=1, max_value=1_000),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OPERATION, max_size=25), st.integers(min_value=0, max_value=300))
def test_any_history_keeps_the_books_right(db: Database, history: list[tuple[str, int, int]], floor: int) -> None:
    wallet = wallet_with(db, 0, floor_micros=floor)
    was_above = False
    for what, slot, amount in history:
        key = f"{wallet}:{slot}"
        try:
            with db.tx() as tx:
                if what == "credit":
                    ledger.credit(tx, key=f"c:{key}:{amount}", ledger_account_id=wallet, amount_micros=amount, now=NOW)
                elif what == "debit":
                    ledger.debit(tx, key=f"d:{key}:{amount}", ledger_account_id=wallet, amount_micros=amount, now=NOW)
                elif what == "hold":
                    ledger.hold(tx, key, wallet, amount, NOW + timedelta(seconds=slot), now=NOW)
                elif what == "settle":
                    ledger.settle(tx, key, amount, to="usage_revenue", now=NOW)
                elif what == "release":
                    ledger.release(tx, key)
                else:
                    ledger.expire(tx, NOW + timedelta(seconds=slot))
        except (PaymentRequired, NotFound, IllegalMove):
            continue
        finally:
            found = balance_of(db, wallet)
            free = found.balance_micros - found.held_micros
            was_above = was_above or free >= floor
            # Once above the floor, nothing takes the free balance below it again.
            assert free >= floor or not was_above
            assert found.held_micros >= 0
    assert_books_balance(db)
