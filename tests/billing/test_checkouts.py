"""Checkouts: completed once, expired once, and paid after all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from clawhaven.billing import checkouts
from clawhaven.core.errors import IllegalMove, NotFound
from clawhaven.ports.payments import VendorPayment
from tests.workflows.scene import Scene


def test_of_many_who_complete_one_is_first(scene: Scene) -> None:
    begun, now = scene.sign_up(), scene.ctx.clock.now()

    def complete(_: int) -> bool:
        with scene.ctx.db.tx() as db:
            return checkouts.complete(db, begun.checkout.id, now)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(complete, range(8))) == [False] * 7 + [True]
    with scene.ctx.db.tx() as db, pytest.raises(IllegalMove):
        checkouts.expire(db, begun.checkout.id, now)


def test_a_payment_under_way_at_the_end_still_counts(scene: Scene) -> None:
    begun, now = scene.sign_up(), scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        assert checkouts.expire(db, begun.checkout.id, now) is True
        assert checkouts.expire(db, begun.checkout.id, now) is False
        assert checkouts.complete(db, begun.checkout.id, now) is True
        assert checkouts.get(db, begun.checkout.id).last_outcome == "paid"
        with pytest.raises(NotFound):
            checkouts.get(db, "cho_unknown")


def test_overdue_is_open_for_more_than_a_day(scene: Scene) -> None:
    old, done = scene.sign_up("a@example.com"), scene.sign_up("b@example.com")
    scene.pay(done)
    now = old.checkout.created_at
    with scene.ctx.db.read() as db:
        assert checkouts.overdue(db, now + timedelta(hours=24)) == []
        late = checkouts.overdue(db, now + timedelta(hours=24, seconds=1))
        assert [checkout.id for checkout in late] == [old.checkout.id]


def test_one_receipt_per_payment(scene: Scene) -> None:
    begun, now = scene.sign_up(), scene.ctx.clock.now()

    def add(number: int) -> bool:
        with scene.ctx.db.tx() as db:
            payment = VendorPayment(f"pay_{number % 2}", 29_000_000)
            return checkouts.add_receipt(db, begun.checkout, payment, now)[1]

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(16))) == 2
    with scene.ctx.db.read() as db:
        assert {one.reference for one in checkouts.receipts_of(db, begun.checkout.id)} == {"pay_0", "pay_1"}


def test_what_the_vendor_is_asked_is_named_by_our_id(scene: Scene) -> None:
    begun = scene.sign_up()
    plan = scene.ctx.plans.get("personal")
    request = checkouts.request_for(begun.checkout, plan, email="a@b.co", brand="B", base_url="http://x")
    assert (request.key, request.amount_micros, request.interval) == (begun.checkout.id, 29_000_000, "month")
    assert request.success_url == f"http://x/deploying/{begun.instance.id}?paid=1"
    reference = scene.reference(begun)
    with scene.ctx.db.read() as db:
        found = checkouts.by_reference(db, "sandbox", reference)
        assert found is not None
        assert found.id == begun.checkout.id
        assert checkouts.by_reference(db, "stripe", reference) is None
        newest = checkouts.of_instance(db, begun.instance.id)
        assert newest is not None
        assert newest.id == begun.checkout.id
