"""What comes after the end: orders that nobody paid, money and vendors' words about accounts that are deleted."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.accounts import links, signup
from clawhaven.billing import checkouts, coupons
from clawhaven.billing.models import InboxEvent, Receipt
from clawhaven.core.db import Database
from clawhaven.ledger import check_books
from clawhaven.workflows import deletion, engine, lifecycle, payments, settlement, topups
from tests.workflows.scene import Scene

EMAIL = "ada@example.com"


@pytest.fixture
def context(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps called here and now find the scene."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    return scene


def ask_deletion(scene: Scene, account_id: str) -> None:
    with scene.ctx.db.tx() as db:
        deletion.begin(db, scene.ctx, signup.owner_of(db, account_id), "user:me")


def used(db: Database) -> tuple[int, int]:
    """How often the coupon counts as used, and what the person has had once and for all."""
    with db.read() as session:
        taken = session.scalar(sa.text("SELECT count(*) FROM once_per_person"))
        return coupons.get(session, "ONCE").redeemed, int(taken or 0)


@pytest.mark.parametrize("is_account", [True, False])
def test_an_order_that_is_deleted_unpaid_gives_its_coupon_back(context: Scene, is_account: bool) -> None:
    scene, now = context, context.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        coupons.create(db, "ONCE", kind="percent", value=50, now=now, max_redemptions=1)
    begun = scene.sign_up(EMAIL, coupon="once")
    assert used(scene.ctx.db) == (1, 1)
    if is_account:
        ask_deletion(scene, begun.owner.account.id)
    else:
        with scene.ctx.db.tx() as db:
            operation = lifecycle.ask_delete(db, scene.ctx, begun.instance.id, "user:me")
        lifecycle.end_subscription(begun.instance.id, operation.id)
    with scene.ctx.db.read() as db:
        assert checkouts.get(db, begun.checkout.id).state == "expired"
    assert used(scene.ctx.db) == (0, 0)


def test_money_that_comes_after_the_end_goes_back(context: Scene) -> None:
    scene = context
    begun = scene.live(EMAIL, plan="metered")
    account_id = begun.owner.account.id
    before, after = (topups.open_topup(scene.ctx, begun.owner, dollars * 1_000_000) for dollars in (20, 30))
    scene.vendor.complete(before.reference or "", "paid")
    assert payments.settle_checkout(before.id) == "paid"
    scene.ctx.clock.advance(timedelta(minutes=1))
    ask_deletion(scene, account_id)
    with scene.ctx.db.tx() as db:
        left = deletion.left_micros(db, account_id)
    scene.ctx.clock.advance(timedelta(minutes=1))
    scene.vendor.complete(after.reference or "", "paid")
    assert payments.settle_checkout(after.id) == settlement.UNWANTED
    payments.give_back(after.id)
    for _ in range(2):
        assert payments.settle_checkout(after.id) == "paid"
        assert payments.settle_checkout(before.id) == "paid", "paid in time: it is part of what is left"
    with scene.ctx.db.read() as db:
        told = {one.amount_micros: one.refunded_micros for one in db.scalars(sa.select(Receipt))}
        assert (told[30_000_000], told[20_000_000]) == (30_000_000, 0)
        assert deletion.left_micros(db, account_id) == left
        assert check_books(db) == []


def test_what_a_vendor_says_of_who_is_gone_is_not_kept(context: Scene) -> None:
    scene = context
    begun = scene.live(EMAIL)
    with scene.ctx.db.tx() as db:
        links.verify(db, begun.owner.user.id, scene.ctx.clock.now())
    ask_deletion(scene, begun.owner.account.id)
    deletion.erase(begun.owner.account.id)
    assert scene.count("vendor_customer") == 0
    seen = scene.ctx.payments["sandbox"].fetch(scene.reference(begun))
    assert seen.subscription is not None
    owed = dataclasses.replace(seen.subscription, pay_url="https://vendor.example/pay/1")
    with scene.ctx.db.tx() as db:
        found = checkouts.get(db, begun.checkout.id)
        told = dataclasses.replace(seen, subscription=owed, customer_reference="cus_1")
        settlement.equalise(db, scene.ctx, found, told)
        db.add(
            InboxEvent(
                id="pev_late",
                provider="sandbox",
                event_id="late",
                kind="other",
                vendor_type="customer.updated",
                checkout_reference=found.reference,
                body=EMAIL.encode(),
                state="received",
                vendor_created_at=scene.ctx.clock.now(),
                received_at=scene.ctx.clock.now(),
            )
        )
    payments.close_event("pev_late", "handled", "")
    assert scene.count("vendor_customer") == 0
    assert scene.count("subscription", "pay_url IS NOT NULL") == 0
    with scene.ctx.db.read() as db:
        assert (db.get_one(InboxEvent, "pev_late").body, db.get_one(InboxEvent, "pev_late").state) == (b"", "handled")
