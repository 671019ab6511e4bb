"""Settlement against the sandbox vendor: periods, credits, refunds, plans, covers."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from clawhaven import ledger
from clawhaven.billing import checkouts, coupons, subscriptions
from clawhaven.billing.models import CreditGrant, Receipt, Subscription
from clawhaven.billing.plans import Catalogue
from clawhaven.core.errors import Conflict, Invalid
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.ledger import check_books
from clawhaven.ledger.models import LedgerEntry
from clawhaven.metering import grants
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.ports.payments import VendorPayment, VendorState
from clawhaven.workflows import access, checkout, lifecycle, payments, plan, settlement
from clawhaven.workflows.checkout import Begun, Form
from tests.workflows.scene import Scene

USER = "user:test"


def row(scene: Scene, begun: Begun) -> Subscription:
    """The subscription as it is here now."""
    with scene.ctx.db.read() as db:
        found = subscriptions.of_instance(db, begun.instance.id)
    assert found is not None
    return found


def settle(scene: Scene, begun: Begun) -> str:
    """What an event's workflow does, through the step itself."""
    assert begun.checkout
    return payments.settle_checkout(begun.checkout.id)


def wallet(scene: Scene, begun: Begun) -> int:
    """The account's prepaid balance."""
    with scene.ctx.db.tx() as db:
        return ledger.balance(db, access.wallet_of(db, scene.ctx, begun.owner.account.id)).balance_micros


def rows(scene: Scene, table: type, begun: Begun) -> list:
    with scene.ctx.db.read() as db:
        return list(db.query(table).filter_by(account_id=begun.owner.account.id))


def books_are_right(scene: Scene) -> None:
    with scene.ctx.db.read() as db:
        assert check_books(db) == []


@pytest.fixture
def engine_context(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps called here and now find the scene."""
    from clawhaven.workflows import engine

    monkeypatch.setattr(engine, "_context", scene.ctx)
    return scene


def test_each_paid_period_grants_its_credit_once(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live(plan="metered")
    assert wallet(scene, begun) == 10_000_000
    for _ in range(3):
        settle(scene, begun)
    assert wallet(scene, begun) == 10_000_000
    scene.vendor.renew(row(scene, begun).reference)
    for _ in range(3):
        settle(scene, begun)
    assert [grant.source for grant in rows(scene, CreditGrant, begun)] == ["period", "period"]
    assert wallet(scene, begun) == 20_000_000
    receipts = rows(scene, Receipt, begun)
    assert len({receipt.period_start_at for receipt in receipts}) == len(receipts) == 2
    books_are_right(scene)


def test_a_plan_changed_at_the_vendor_changes_limits_and_mode_here(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    changed = plan.change(scene.ctx, begun.owner.account.id, row(scene, begun).id, "metered", USER)
    assert (changed.plan, changed.amount_micros) == ("metered", 20_000_000)
    assert scene.instance(begun.instance.id).plan == "metered"
    with scene.ctx.db.read() as db:
        grant = grants.grant_of(db, begun.instance.id)
        assert grant is not None
        assert (grant.plan_mode, grant.is_active) == ("metered", True)
    # This period was bought at another plan; credit comes with the first period of this one.
    assert wallet(scene, begun) == 0
    back = plan.change(scene.ctx, begun.owner.account.id, changed.id, "personal", USER)
    assert back.plan == "personal"
    again = plan.change(scene.ctx, begun.owner.account.id, changed.id, "metered", USER)
    assert again.plan == "metered"
    assert wallet(scene, begun) == 0
    scene.vendor.renew(again.reference)
    settle(scene, begun)
    assert wallet(scene, begun) == 10_000_000
    books_are_right(scene)


def test_a_receipt_names_the_plan_it_paid_for(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    plan.change(scene.ctx, begun.owner.account.id, row(scene, begun).id, "metered", USER)
    scene.vendor.renew(row(scene, begun).reference)
    settle(scene, begun)
    with scene.ctx.db.read() as db:
        paid = [one.note for one in db.query(LedgerEntry).filter_by(kind="payment").order_by(LedgerEntry.created_at)]
        texts = [
            scene.ctx.keys.open(one.sealed_text, outbox.PURPOSE)
            for one in db.query(Notice).filter_by(kind="receipt").order_by(Notice.created_at)
        ]
    names = [scene.ctx.plans.get(one).name for one in ("personal", "metered")]
    assert [note.removeprefix("Payment for ") for note in (paid[0], paid[-1])] == names
    for name, text in zip(names, (texts[0], texts[-1]), strict=True):
        assert f"the plan {name}." in text
    (first, *_, last) = scene.vendor.fetch(scene.reference(begun)).payments
    for payment in (first, last):
        scene.vendor.refund_rest(payment.reference)
    settle(scene, begun)
    with scene.ctx.db.read() as db:
        returned = {one.note for one in db.query(LedgerEntry).filter_by(kind="plan_returned")}
    assert returned == {f"{name} taken back" for name in names}
    books_are_right(scene)


def test_going_back_and_forth_between_intervals_is_no_source_of_credit(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live(plan="metered")
    for _ in range(3):
        for wanted in ("quarterly", "metered"):
            scene.ctx.clock.advance(timedelta(minutes=5))
            plan.change(scene.ctx, begun.owner.account.id, row(scene, begun).id, wanted, USER)
    assert wallet(scene, begun) == 10_000_000
    assert len(rows(scene, CreditGrant, begun)) == 1
    books_are_right(scene)


def test_a_second_payment_for_one_assistant_goes_back(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        other = checkout.open_for(db, scene.ctx, scene.instance(begun.instance.id), scene.ctx.plans.get("personal"))
    second = dataclasses.replace(begun, checkout=checkout.page_for(scene.ctx, other.id))
    assert scene.pay(second) == settlement.UNWANTED
    payments.give_back(other.id)
    assert settle(scene, second) != settlement.UNWANTED
    with scene.ctx.db.read() as db:
        extra = subscriptions.of_checkout(db, other.id)
        assert extra is not None
        assert (extra.state, extra.instance_id, subscriptions.covered(db, extra.id)) == ("canceled", None, [])
        assert [one.refunded_micros for one in checkouts.receipts_of(db, other.id)] == [29_000_000]
    assert row(scene, begun).state == "active"
    books_are_right(scene)


def test_a_word_we_do_not_know_counts_as_unpaid_once_the_period_is_over(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    seen = scene.ctx.payments["sandbox"].fetch(scene.reference(begun))
    assert seen.subscription
    odd = dataclasses.replace(seen, subscription=dataclasses.replace(seen.subscription, state="hibernating"))
    for days, state in ((1, "active"), (29, "active"), (33, "past_due")):
        with scene.ctx.db.tx() as db:
            known = checkouts.get(db, begun.checkout.id if begun.checkout else "")
            asked_at = seen.subscription.current_period_start + timedelta(days=days)
            settlement.equalise(db, scene.ctx, known, odd, asked_at)
        assert row(scene, begun).state == state


def test_money_on_its_way_is_waited_for(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.sign_up()
    with scene.ctx.db.tx() as db:
        known = checkouts.get(db, begun.checkout.id if begun.checkout else "")
        waiting = VendorState("processing", (), None)
        assert settlement.equalise(db, scene.ctx, known, waiting) == "processing"
    assert scene.instance(begun.instance.id).deletion_asked_at is None
    assert scene.count("checkout", "state = 'open'") == 1


def test_a_returned_payment_is_booked_by_what_the_vendor_says(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    (receipt,) = rows(scene, Receipt, begun)
    vendor = scene.ctx.payments["sandbox"]
    for number, amount in enumerate((4_000_000, 5_000_000)):
        vendor.refund(receipt.reference, amount, f"key-{number}")
        for _ in range(2):
            settle(scene, begun)
    (receipt,) = rows(scene, Receipt, begun)
    assert receipt.refunded_micros == 9_000_000
    assert scene.count("ledger_entry", "kind = 'refund'") == scene.count("ledger_entry", "kind = 'plan_returned'") == 2
    assert wallet(scene, begun) == 0
    books_are_right(scene)


def test_money_for_a_deleted_assistant_goes_back_and_its_agreement_ends(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        lifecycle.ask_delete(db, scene.ctx, begun.instance.id, USER)
    reference = row(scene, begun).reference
    scene.vendor.renew(reference)
    assert begun.checkout
    assert settle(scene, begun) == settlement.UNWANTED
    payments.give_back(begun.checkout.id)
    assert settle(scene, begun) != settlement.UNWANTED
    first, second = sorted(rows(scene, Receipt, begun), key=lambda one: one.created_at)
    assert (first.refunded_micros, second.refunded_micros) == (0, second.amount_micros)
    assert row(scene, begun).state == "canceled"
    books_are_right(scene)


def test_what_was_read_before_something_newer_changes_nothing(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    assert begun.checkout
    old = scene.ctx.payments["sandbox"].fetch(scene.reference(begun))
    asked_at = scene.ctx.clock.now()
    scene.ctx.clock.advance(timedelta(minutes=1))
    plan.cancel(scene.ctx, begun.owner.account.id, row(scene, begun).id, USER)
    with scene.ctx.db.tx() as db:
        settlement.equalise(db, scene.ctx, checkouts.get(db, begun.checkout.id), old, asked_at)
    assert row(scene, begun).is_ending


def test_a_second_metered_assistant_needs_no_second_payment(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live(plan="metered")
    form = Form("Bo", "", "metered", "personal", {})
    with scene.ctx.db.tx() as db:
        ledger.credit(
            db,
            key="t1",
            ledger_account_id=access.wallet_of(db, scene.ctx, begun.owner.account.id),
            amount_micros=5_000_000,
            now=scene.ctx.clock.now(),
        )
    second = checkout.add_instance(scene.ctx, begun.owner, form)
    assert second.checkout is None
    assert scene.instance(second.instance.id).state == State.PROVISIONING
    with scene.ctx.db.read() as db:
        assert subscriptions.covered(db, row(scene, begun).id) == [begun.instance.id, second.instance.id]
    checkout.add_instance(scene.ctx, begun.owner, dataclasses.replace(form, assistant_name="Cy"))
    with pytest.raises(Conflict):
        checkout.add_instance(scene.ctx, begun.owner, dataclasses.replace(form, assistant_name="Di"))
    # Deleting one of three ends nothing; the agreement still pays for the others.
    with scene.ctx.db.tx() as db:
        operation = lifecycle.ask_delete(db, scene.ctx, begun.instance.id, USER)
    lifecycle.end_subscription(begun.instance.id, operation.id)
    settle(scene, begun)
    assert row(scene, begun).state == "active"


def test_a_payment_is_one_receipt_also_when_two_settle_at_once(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    assert begun.checkout
    with scene.ctx.db.tx() as db:
        known = checkouts.get(db, begun.checkout.id)
        payment = VendorPayment("pay_x", 1_000_000, fee_micros=7)
        assert checkouts.add_receipt(db, known, payment, scene.ctx.clock.now())[1]
        later = dataclasses.replace(payment, fee_micros=None, dispute="open")
        receipt, is_new = checkouts.add_receipt(db, known, later, scene.ctx.clock.now())
        assert (is_new, receipt.fee_micros, receipt.dispute) == (False, 7, "open")
        assert db.get_one(Instance, begun.instance.id).paid_at


def test_a_coupon_takes_something_off_the_plan_once(engine_context: Scene) -> None:
    scene = engine_context
    with scene.ctx.db.tx() as db:
        coupons.create(db, "HALF", kind="percent", value=50, now=scene.ctx.clock.now())
        coupons.create(db, "GIFT", kind="credit", value=5_000_000, now=scene.ctx.clock.now())
    begun = scene.live(coupon="half")
    assert [one.amount_micros for one in rows(scene, Receipt, begun)] == [14_500_000]
    assert row(scene, begun).amount_micros == 29_000_000
    for code, problem in (("half", "used"), ("nope", "no such|not known|unknown"), ("gift", "usage credit")):
        with pytest.raises(Invalid, match=f"(?i){problem}"):
            checkout.add_instance(
                dataclasses.replace(scene.ctx), begun.owner, Form("Bo", "", "metered", "personal", {}, code)
            )
    assert scene.count("instance") == 1
    books_are_right(scene)


def test_a_trial_costs_nothing_until_it_ends_and_is_given_once(engine_context: Scene) -> None:
    scene = engine_context
    plans = {one.id: dataclasses.replace(one, trial_days=7) for one in scene.ctx.plans}
    scene.ctx = dataclasses.replace(scene.ctx, plans=Catalogue(plans))
    begun = scene.live(plan="metered")
    assert (row(scene, begun).state, rows(scene, Receipt, begun), wallet(scene, begun)) == ("trialing", [], 0)
    scene.ctx.clock.advance(timedelta(days=7, minutes=1))
    scene.vendor.advance(scene.ctx.clock.now())
    scene.settle(begun)
    assert (row(scene, begun).state, wallet(scene, begun)) == ("active", 10_000_000)
    again = checkout.add_instance(scene.ctx, begun.owner, Form("Bo", "", "personal", "personal", {}))
    assert again.checkout
    assert again.checkout.trial_days == 0
    books_are_right(scene)


def test_a_model_that_the_new_plan_cannot_pay_for_gives_way(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live(plan="monthly")
    # No vendor key of the operator's here: an own-key assistant may be set to a model that only its owner can pay.
    assert scene.instance(begun.instance.id).model == "claude-sonnet-5-5"
    plan.change(scene.ctx, begun.owner.account.id, row(scene, begun).id, "metered", USER)
    assert scene.instance(begun.instance.id).model == "sandbox-1"
    assert scene.count("operation", "kind = 'configure'") == 1


def test_a_period_s_credit_goes_with_its_money(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live(plan="metered")
    (receipt,) = rows(scene, Receipt, begun)
    scene.ctx.payments["sandbox"].refund(receipt.reference, receipt.amount_micros, "all")
    for _ in range(2):
        settle(scene, begun)
    assert wallet(scene, begun) == 0
    books_are_right(scene)


def test_a_coupon_can_be_used_again_when_nobody_paid(engine_context: Scene) -> None:
    scene = engine_context
    with scene.ctx.db.tx() as db:
        coupons.create(db, "ONCE", kind="percent", value=50, now=scene.ctx.clock.now(), max_redemptions=1)
    begun = scene.sign_up(coupon="once")
    assert begun.checkout
    scene.vendor.complete(scene.reference(begun), "cancelled")
    settle(scene, begun)
    again = scene.live("eve@example.com", coupon="once")
    assert [one.amount_micros for one in rows(scene, Receipt, again)] == [14_500_000]


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_coupon_of_a_page_that_expired_and_was_paid_after_all_is_used_once(
    engine_context: Scene, is_wanted: bool
) -> None:
    scene = engine_context
    with scene.ctx.db.tx() as db:
        coupons.create(db, "ONCE", kind="percent", value=50, now=scene.ctx.clock.now(), max_redemptions=1)
    begun = scene.sign_up(coupon="once")
    assert begun.checkout
    with scene.ctx.db.tx() as db:
        known = checkouts.get(db, begun.checkout.id)
        checkouts.expire(db, known.id, scene.ctx.clock.now())
        if is_wanted:
            coupons.release(db, known.id)
        else:
            settlement.give_up(db, scene.ctx, known)
        assert coupons.get(db, "ONCE").redeemed == 0
        coupons.disable(db, "ONCE", scene.ctx.clock.now())
    scene.vendor.complete(scene.reference(begun), "paid")
    for _ in range(3):
        settle(scene, begun)
    with scene.ctx.db.read() as db:
        assert coupons.get(db, "ONCE").redeemed == int(is_wanted), "what goes back was not used"
    assert scene.count("coupon_redemption", f"checkout_id = '{begun.checkout.id}'") == int(is_wanted)
