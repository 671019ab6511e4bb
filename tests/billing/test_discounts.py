"""What we say of a running coupon is what the vendor then takes."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from clawhaven.billing import checkouts, coupons, discounts, subscriptions
from clawhaven.billing.discounts import Running
from clawhaven.billing.models import Subscription
from clawhaven.billing.plans import Catalogue
from clawhaven.core.clock import month_after
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

PRICE = 29_000_000


def subscription_of(scene: Scene, begun: Begun) -> Subscription:
    with scene.ctx.db.read() as db:
        (found,) = subscriptions.of_account(db, begun.owner.account.id)
    return found


def running(scene: Scene, begun: Begun, days: int = 0) -> Running | None:
    """What runs so many days after the present period's end, or (0) now."""
    row = subscription_of(scene, begun)
    at = row.period_end_at + timedelta(days=days - 1) if days else scene.ctx.clock.now()
    with scene.ctx.db.read() as db:
        return discounts.running(db, db.get_one(Subscription, row.id), at)


def make(scene: Scene, code: str, kind: str, value: int, months: int | None) -> None:
    with scene.ctx.db.tx() as db:
        coupons.create(db, code, kind, value, now=scene.ctx.clock.now(), months=months)


@pytest.mark.parametrize("months", [None, 0, 1, 2])
def test_what_is_told_is_what_the_next_payment_costs(scene: Scene, months: int | None) -> None:
    make(scene, "HALF", "percent", 50, months)
    begun = scene.sign_up(coupon="half")
    scene.pay(begun)
    expected = [PRICE // 2]
    for _ in range(3):
        # The first day of the next period: is its payment less?
        expected.append(PRICE if running(scene, begun, days=1) is None else PRICE // 2)
        scene.vendor.renew(subscription_of(scene, begun).reference)
        scene.settle(begun)
    with scene.ctx.db.read() as db:
        receipts = checkouts.receipts_of(db, begun.checkout.id)
    assert [one.amount_micros for one in receipts] == expected
    off = {None: 4, 0: 1, 1: 1, 2: 2}[months]
    assert expected == [PRICE // 2] * off + [PRICE] * (4 - off)


def test_it_says_what_and_until_when(scene: Scene) -> None:
    make(scene, "FIVE", "amount", 5_000_000, 3)
    begun = scene.sign_up(coupon="five")
    scene.pay(begun)
    row = subscription_of(scene, begun)
    assert running(scene, begun) == Running("FIVE", None, 5_000_000, month_after(row.period_start_at, 3), False)
    scene.vendor.end(row.reference)
    scene.settle(begun)
    assert running(scene, begun) is None


def test_once_is_told_through_the_period_it_was_paid_for(scene: Scene) -> None:
    make(scene, "ONCE", "percent", 20, 0)
    begun = scene.sign_up(coupon="once")
    scene.pay(begun)
    row = subscription_of(scene, begun)
    assert running(scene, begun) == Running("ONCE", 20, None, row.period_end_at, True)
    assert running(scene, begun, days=2) is None


def test_a_trial_puts_it_off(scene: Scene) -> None:
    plans = {one.id: dataclasses.replace(one, trial_days=7) for one in scene.ctx.plans}
    scene.ctx = dataclasses.replace(scene.ctx, plans=Catalogue(plans))
    make(scene, "ONCE", "percent", 20, 0)
    make(scene, "TWO", "percent", 20, 2)
    begun = scene.sign_up(coupon="once")
    scene.pay(begun)
    assert running(scene, begun) == Running("ONCE", 20, None, None, True)
    other = scene.sign_up("eve@example.com", coupon="two")
    scene.pay(other)
    row = subscription_of(scene, other)
    assert row.trial_end_at is not None
    assert running(scene, other) == Running("TWO", 20, None, month_after(row.trial_end_at, 2), False)


def test_without_a_coupon_there_is_none(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.pay(begun)
    assert running(scene, begun) is None
