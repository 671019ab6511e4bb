"""Coupons: limits hold however many come at once, and every refusal says why."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clawhaven.accounts import signup
from clawhaven.billing import coupons
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, Invalid, NotFound
from clawhaven.ports.payments import Discount

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def make(db: Database, code: str = "HELLO", kind: str = "credit", value: int = 5_000_000, **more: Any) -> None:
    with db.tx() as tx:
        coupons.create(tx, code, kind, value, now=NOW, **more)


def accounts(db: Database, count: int) -> list[str]:
    with db.tx() as tx:
        return [signup.register(tx, f"u{n}@example.com", NOW).account.id for n in range(count)]


def why_not(db: Database, code: str, account_id: str | None = None, now: datetime = NOW) -> str:
    """The reason of the refusal."""
    with db.read() as tx, pytest.raises(Invalid) as refused:
        coupons.check(tx, code, account_id, now)
    assert refused.value.details["field"] == "coupon"
    return str(refused.value.details["reason"])


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("code", {"code": "a"}),
        ("code", {"code": "with space"}),
        ("code", {"code": "x" * 41}),
        ("kind", {"kind": "free"}),
        ("value", {"kind": "percent", "value": 0}),
        ("value", {"kind": "percent", "value": 101}),
        ("value", {"value": 0}),
        ("value", {"value": -1}),
        ("value", {"value": 5_000}),
        ("value", {"kind": "amount", "value": 10**12}),
        ("months", {"kind": "percent", "value": 10, "months": -1}),
        ("months", {"kind": "percent", "value": 10, "months": 121}),
        ("max_redemptions", {"max_redemptions": 0}),
        ("expires_at", {"expires_at": NOW}),
    ],
)
def test_what_cannot_be_a_coupon_is_refused_by_field(db: Database, field: str, given: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        make(db, **given)
    assert refused.value.details["field"] == field


def test_a_code_is_made_once_and_read_in_any_case(db: Database) -> None:
    make(db, " hello ")
    with pytest.raises(Conflict):
        make(db, "Hello")
    with db.read() as tx:
        assert coupons.check(tx, "heLLo ", None, NOW).id == "HELLO"
        assert [one.id for one in coupons.list_coupons(tx).coupons] == ["HELLO"]
        with pytest.raises(NotFound):
            coupons.get(tx, "OTHER")


def test_every_refusal_says_why(db: Database) -> None:
    (ada, bob) = accounts(db, 2)
    assert why_not(db, "NONE") == "unknown"
    assert why_not(db, "x" * 300) == "unknown"
    make(db, "SHORT", expires_at=NOW + DAY)
    assert why_not(db, "SHORT", None, NOW + DAY) == "expired"
    make(db, "ONCE", max_redemptions=1)
    with db.tx() as tx:
        assert coupons.redeem(tx, "ONCE", ada, None, NOW)
    assert why_not(db, "ONCE", ada) == "used"
    assert why_not(db, "ONCE", bob) == "used up"
    make(db, "OFF")
    with db.tx() as tx:
        assert coupons.disable(tx, "off", NOW)
        assert not coupons.disable(tx, "OFF", NOW)
        assert not coupons.redeem(tx, "OFF", ada, None, NOW)
        assert not coupons.redeem(tx, "SHORT", ada, None, NOW + DAY)
    assert why_not(db, "OFF") == "expired"


def test_an_account_uses_it_once_and_a_refusal_leaves_no_trace(db: Database) -> None:
    (ada, bob) = accounts(db, 2)
    make(db, max_redemptions=1)
    with db.tx() as tx:
        assert coupons.redeem(tx, "HELLO", ada, "cho_1", NOW)
        assert not coupons.redeem(tx, "HELLO", ada, "cho_1", NOW)
        assert not coupons.redeem(tx, "HELLO", bob, "cho_2", NOW)
        assert coupons.get(tx, "HELLO").redeemed == 1
        tx.get_one(coupons.Coupon, "HELLO").max_redemptions = 2
        tx.flush()
        assert coupons.redeem(tx, "HELLO", bob, "cho_2", NOW)


def test_no_more_than_the_limit_whoever_comes_at_once(db: Database) -> None:
    people = accounts(db, 12)
    make(db, max_redemptions=5)

    def use(account_id: str) -> bool:
        with db.tx() as tx:
            return coupons.redeem(tx, "HELLO", account_id, None, NOW)

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(use, people)) == 5
        assert sum(pool.map(use, people[:1] * 6)) <= 1
    with db.read() as tx:
        assert coupons.get(tx, "HELLO").redeemed == 5


def test_what_nobody_paid_for_gives_its_place_back_once(db: Database) -> None:
    (ada, bob) = accounts(db, 2)
    make(db, max_redemptions=1)
    with db.tx() as tx:
        assert coupons.redeem(tx, "HELLO", ada, "cho_1", NOW)
        assert not coupons.release(tx, "cho_2")

    def release(_: int) -> bool:
        with db.tx() as tx:
            return coupons.release(tx, "cho_1")

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(release, range(4))) == 1
    with db.tx() as tx:
        assert coupons.get(tx, "HELLO").redeemed == 0
        assert coupons.redeem(tx, "HELLO", ada, "cho_3", NOW), "the same account may use it after all"
        assert coupons.release(tx, "cho_3")
        assert coupons.redeem(tx, "HELLO", bob, "cho_4", NOW)
        assert not coupons.release(tx, "cho_3")
        assert coupons.get(tx, "HELLO").redeemed == 1


def test_giving_back_and_using_at_once_never_count_wrong(db: Database) -> None:
    (ada,) = accounts(db, 1)
    make(db, max_redemptions=1)
    with db.tx() as tx:
        assert coupons.redeem(tx, "HELLO", ada, "cho_1", NOW)

    def work(number: int) -> bool:
        with db.tx() as tx:
            if number % 2:
                return coupons.release(tx, "cho_1")
            return coupons.redeem(tx, "HELLO", ada, f"cho_again{number}", NOW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    with db.read() as tx:
        assert coupons.get(tx, "HELLO").redeemed == tx.query(coupons.Redemption).count()


def test_what_the_vendor_is_told(db: Database) -> None:
    make(db, "PCT", "percent", 20, months=3)
    make(db, "AMT", "amount", 5_000_000, months=None)
    make(db, "CRE", "credit", 5_000_000)
    with db.read() as tx:
        assert coupons.as_discount(coupons.get(tx, "PCT")) == Discount("PCT", percent_off=20, months=3)
        assert coupons.as_discount(coupons.get(tx, "AMT")) == Discount("AMT", amount_off_micros=5_000_000, months=None)
        with pytest.raises(ValueError, match="CRE"):
            coupons.as_discount(coupons.get(tx, "CRE"))


def test_who_paid_with_it_after_all_is_counted_once_whatever_became_of_it(db: Database) -> None:
    with db.tx() as tx:
        ada, bob = (signup.register(tx, f"{name}@example.com", NOW).account.id for name in ("ada", "bob"))
        coupons.create(tx, "LATE", "percent", 50, now=NOW, max_redemptions=1)
        assert coupons.redeem(tx, "LATE", ada, "cho_1", NOW)
        assert not coupons.count(tx, "LATE", ada, "cho_1", NOW), "never released: it is counted already"
        assert coupons.release(tx, "cho_1")
        assert coupons.redeem(tx, "LATE", bob, "cho_2", NOW)
        coupons.disable(tx, "LATE", NOW)
        assert [coupons.count(tx, "LATE", ada, "cho_1", NOW) for _ in range(3)] == [True, False, False]
        assert coupons.get(tx, "LATE").redeemed == 2, "one more than it was made for: both have had it"
