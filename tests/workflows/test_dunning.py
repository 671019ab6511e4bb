"""From a failed payment to a deletion, back at any moment, and each letter once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from clawhaven.billing import checkouts, subscriptions
from clawhaven.billing.models import Receipt, Subscription
from clawhaven.core.ids import new_id
from clawhaven.instances import states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.workflows import dunning as trouble
from clawhaven.workflows import lifecycle, plan
from tests.workflows.customer import DAY, Customer
from tests.workflows.scene import Scene


def test_from_a_failed_payment_to_the_announced_deletion(scene: Scene) -> None:
    customer = Customer(scene)
    for _ in range(3):
        customer.vendor_says("past_due", pay_url="https://pay.example/1")
    (episode,) = customer.episodes
    assert episode.suspend_at - episode.began_at == 14 * DAY
    assert episode.delete_at - episode.suspend_at == 7 * DAY
    customer.pass_days(5)
    customer.vendor_says("unpaid")
    assert customer.row.state == State.ACTIVE
    assert customer.letters() == ["payment_failed"]
    customer.pass_days(6.1)
    assert customer.letters()[1:] == ["suspension_near"]
    customer.pass_days(2)
    assert customer.letters()[2:] == ["suspension_near"]
    customer.pass_days(1)
    assert customer.letters()[3:] == ["suspended"]
    assert (customer.row.state, customer.reasons) == (State.SUSPENDED, [Reason.PAYMENT])
    customer.vendor_says("past_due")
    assert [(one.id, one.delete_at) for one in customer.episodes] == [(episode.id, episode.delete_at)]
    customer.pass_days(4)
    customer.pass_days(2)
    assert customer.letters()[4:] == ["deletion_near", "deletion_near"]
    # The day has come, but what the vendor said last is old: it is asked first.
    customer.pass_days(1)
    assert customer.row.deletion_asked_at is None
    assert scene.count("workflow_status", "name = 'settle' AND workflow_uuid LIKE '%before-deletion%'") == 1
    customer.vendor_says("past_due")
    customer.pass_days(0.001)
    assert customer.row.deletion_asked_at is not None
    assert customer.letters()[6:] == ["deleted"]
    assert [one.state for one in customer.episodes] == ["ended"]
    customer.vendor_says("past_due")
    customer.vendor_says("canceled")
    customer.pass_days(30)
    assert (len(customer.episodes), len(customer.letters())) == (1, 7)


@pytest.mark.parametrize("days", [1, 12, 15, 20, 21, 25])
def test_a_payment_at_any_moment_before_the_deletion_brings_everything_back(scene: Scene, days: int) -> None:
    customer = Customer(scene)
    customer.vendor_says("past_due")
    customer.pass_days(14)
    for _ in range(days - 14):
        customer.pass_days(1)
    assert customer.reasons == [Reason.PAYMENT]
    customer.vendor_says("active")
    assert customer.reasons == []
    assert scene.count("operation", "kind = 'resume'") == 1
    assert customer.row.deletion_asked_at is None
    customer.come_back()
    customer.pass_days(30)
    assert customer.row.state == State.ACTIVE
    assert [one.state for one in customer.episodes] == ["recovered"]
    assert "recovered" not in customer.letters(), "the assistant's own letter says that it is back"


def test_a_payment_within_the_grace_is_one_letter_and_stops_nothing(scene: Scene) -> None:
    customer = Customer(scene)
    for _ in range(2):
        customer.vendor_says("past_due")
        customer.vendor_says("active")
        customer.vendor_says("active")
        customer.pass_days(20)
    assert customer.letters() == ["payment_failed", "recovered"] * 2
    assert scene.count("operation", "kind IN ('suspend', 'resume')") == 0


def test_no_grace_is_one_letter(scene: Scene) -> None:
    object.__setattr__(scene.ctx, "settings", scene.ctx.settings.model_copy(update={"grace_days": 0}))
    customer = Customer(scene)
    customer.vendor_says("past_due")
    assert (customer.reasons, customer.letters()) == ([Reason.PAYMENT], ["suspended"])


def test_other_reasons_are_left_alone(scene: Scene) -> None:
    customer = Customer(scene)
    with scene.ctx.db.tx() as db:
        lifecycle.ask_suspend(db, scene.ctx, customer.instance_id, Reason.OPERATOR, "user:op")
    customer.vendor_says("past_due")
    customer.pass_days(14)
    assert customer.reasons == [Reason.OPERATOR, Reason.PAYMENT]
    customer.vendor_says("active")
    assert customer.reasons == [Reason.OPERATOR]
    assert customer.letters()[-1] == "recovered", "nothing starts that would tell it"


def test_an_ended_agreement_suspends_at_once_and_keeps_the_data_for_a_week(scene: Scene) -> None:
    customer = Customer(scene)
    for _ in range(2):
        customer.vendor_says("canceled")
    (episode,) = customer.episodes
    assert (episode.cause, episode.state) == ("ended", "suspended")
    assert episode.delete_at - episode.began_at == 7 * DAY
    assert customer.letters() == ["suspended"]
    customer.pass_days(7.1)
    assert customer.row.deletion_asked_at is not None
    assert customer.letters() == ["suspended", "deleted"]


def test_a_cancellation_within_the_grace_never_brings_the_deletion_forward(scene: Scene) -> None:
    customer = Customer(scene)
    customer.vendor_says("past_due")
    announced = customer.episodes[0].delete_at
    customer.pass_days(2)
    customer.vendor_says("canceled")
    (episode,) = customer.episodes
    assert (episode.state, episode.cause, episode.delete_at) == ("suspended", "ended", announced)
    assert customer.reasons == [Reason.PAYMENT]


def test_who_comes_back_within_the_week_keeps_everything(scene: Scene) -> None:
    customer = Customer(scene)
    scene.vendor.end(customer.subscription.reference)
    customer.vendor_says("canceled")
    customer.pass_days(6)
    again = plan.reactivate(scene.ctx, customer.begun.owner, customer.instance_id)
    # On the announced day the payment page is open: whether it was paid is asked before anything is deleted.
    customer.pass_days(1.1)
    assert customer.row.deletion_asked_at is None
    scene.pay(again)
    assert customer.reasons == []
    assert [one.state for one in customer.episodes] == ["recovered"]
    customer.come_back()
    customer.pass_days(20)
    assert customer.row.state == State.ACTIVE


def test_one_payment_page_after_another_does_not_keep_it_for_ever(scene: Scene) -> None:
    customer = Customer(scene)
    scene.vendor.end(customer.subscription.reference)
    customer.vendor_says("canceled")
    (episode,) = customer.episodes
    customer.pass_days(6.9)
    pages = [plan.reactivate(scene.ctx, customer.begun.owner, customer.instance_id).checkout.id]
    customer.pass_days(1)
    assert customer.row.deletion_asked_at is None, "the page of who came back in time can still be paid"
    with scene.ctx.db.tx() as db:
        checkouts.expire(db, pages[0], scene.ctx.clock.now())
    pages.append(plan.reactivate(scene.ctx, customer.begun.owner, customer.instance_id).checkout.id)
    assert pages[0] != pages[1]
    customer.pass_days(0.05)
    assert customer.row.deletion_asked_at is None, "a day is given to everybody"
    assert scene.count("workflow_status", f"workflow_uuid LIKE 'settle:{pages[1]}:before-deletion%'") == 1
    customer.pass_days(0.1)
    assert scene.ctx.clock.now() > episode.delete_at + checkouts.LIFE
    assert customer.row.deletion_asked_at is not None


def test_a_page_opened_in_time_is_never_cut_off(scene: Scene) -> None:
    customer = Customer(scene)
    scene.vendor.end(customer.subscription.reference)
    customer.vendor_says("canceled")
    customer.pass_days(6.9)
    again = plan.reactivate(scene.ctx, customer.begun.owner, customer.instance_id)
    # Nothing ran for days, so nobody has asked whether it was paid; it is still open.
    customer.pass_days(5)
    assert customer.row.deletion_asked_at is None
    scene.pay(again)
    assert customer.reasons == []
    customer.pass_days(0)
    assert customer.row.deletion_asked_at is None


def test_once_it_has_ended_letters_lead_to_a_new_plan_and_not_to_the_old_invoice(scene: Scene) -> None:
    customer, invoice = Customer(scene), "https://pay.example/old"
    customer.vendor_says("past_due", pay_url=invoice)
    customer.vendor_says("canceled", pay_url=invoice)
    customer.pass_days(19)
    texts = dict(customer.texts())
    assert list(texts) == ["payment_failed", "suspended", "deletion_near"]
    assert [invoice in text for text in texts.values()] == [True, False, False]
    for kind in ("suspended", "deletion_near"):
        assert f"{scene.ctx.settings.base_url}/billing" in texts[kind]


def test_a_cancellation_and_its_undoing_are_one_letter_each_time(scene: Scene) -> None:
    customer = Customer(scene)
    customer.vendor_says("active")
    for is_ending in (True, True, False, False, True):
        customer.vendor_says("active", cancel_at_period_end=is_ending)
    assert customer.letters() == ["cancel_scheduled", "cancel_undone", "cancel_scheduled"]


def test_a_trial_s_payment_is_announced_once(scene: Scene) -> None:
    customer = Customer(scene)
    end_at = scene.ctx.clock.now() + 10 * DAY
    customer.vendor_says("trialing", trial_end=end_at)
    customer.pass_days(6.9)
    assert customer.letters() == []
    customer.pass_days(0.2)
    customer.pass_days(1)
    assert customer.letters() == ["trial_ending"]
    customer.pass_days(3)
    customer.vendor_says("active")
    assert customer.letters() == ["trial_ending"]


def test_what_is_being_built_or_has_failed_when_the_trouble_comes_is_brought_in_line_later(scene: Scene) -> None:
    begun = scene.sign_up(f"{new_id('u')}@example.com")
    scene.pay(begun)
    customer = Customer(scene, begun)
    customer.vendor_says("past_due")
    customer.pass_days(14)
    assert customer.row.state == State.PROVISIONING
    # It comes up without anybody having looked (`hold_back` does in the workflow): the sweep finds it.
    scene.bring_up(customer.instance_id)
    customer.pass_days(0)
    assert customer.reasons == [Reason.PAYMENT]
    assert customer.letters() == ["payment_failed", "suspended"]
    with scene.ctx.db.tx() as db:
        lifecycle.locked(db, customer.instance_id)
        db.query(Instance).filter_by(id=customer.instance_id).one().suspended_for = "payment"
    customer.vendor_says("active")
    assert customer.reasons == []
    # And one that was left down for payment although it is paid.
    customer.come_back()
    with scene.ctx.db.tx() as db:
        lifecycle.ask_suspend(db, scene.ctx, customer.instance_id, Reason.PAYMENT, "test")
    customer.pass_days(0)
    assert customer.reasons == []


def test_what_was_just_built_is_held_back_when_nobody_pays(scene: Scene) -> None:
    paid, ended = Customer(scene), Customer(scene)
    with scene.ctx.db.tx() as db:
        assert not trouble.hold_back(db, scene.ctx, paid.instance_id)
    ended.vendor_says("canceled")
    with scene.ctx.db.tx() as db:
        lifecycle.ask_resume(db, scene.ctx, ended.instance_id, Reason.PAYMENT, "test")
    ended.come_back()
    with scene.ctx.db.tx() as db:
        assert trouble.hold_back(db, scene.ctx, ended.instance_id)
    assert ended.reasons == [Reason.PAYMENT]


def test_a_failed_one_is_deleted_on_its_day_too(scene: Scene) -> None:
    begun = scene.sign_up(f"{new_id('u')}@example.com")
    scene.pay(begun)
    customer = Customer(scene, begun)
    with scene.ctx.db.tx() as db:
        states.fail(db, customer.instance_id, scene.ctx.clock.now(), "disk_full", "Full.")
    customer.vendor_says("canceled")
    customer.pass_days(7.1)
    assert customer.row.deletion_asked_at is not None


def test_what_its_owner_deleted_is_not_dunned(scene: Scene) -> None:
    customer = Customer(scene)
    customer.vendor_says("past_due")
    with scene.ctx.db.tx() as db:
        lifecycle.ask_delete(db, scene.ctx, customer.instance_id, "user:me")
    customer.pass_days(1)
    assert [one.state for one in customer.episodes] == ["ended"]
    customer.vendor_says("past_due")
    customer.vendor_says("canceled")
    customer.pass_days(30)
    assert (len(customer.episodes), customer.letters()) == (1, ["payment_failed"])


@pytest.mark.parametrize("is_policy", [True, False])
def test_a_payment_given_back_in_full_suspends_by_policy_until_the_next_one(scene: Scene, is_policy: bool) -> None:
    object.__setattr__(scene.ctx, "settings", scene.ctx.settings.model_copy(update={"suspend_on_refund": is_policy}))
    customer = Customer(scene)
    (payment,) = customer.told.payments
    scene.vendor.refund_rest(payment.reference)
    for _ in range(2):
        scene.settle(customer.begun)
    assert customer.reasons == ([Reason.PAYMENT] if is_policy else [])
    assert [(one.cause, one.state) for one in customer.episodes] == ([("refund", "suspended")] if is_policy else [])
    assert scene.count("notice", "key LIKE 'refunded:%'") == 1
    scene.vendor.renew(customer.subscription.reference)
    scene.settle(customer.begun)
    assert customer.reasons == []


@pytest.mark.parametrize("is_policy", [True, False])
@pytest.mark.parametrize("verdict", ["won", "lost"])
def test_a_disputed_payment_suspends_by_policy_and_its_data_is_kept(
    scene: Scene, verdict: Any, is_policy: bool
) -> None:
    object.__setattr__(scene.ctx, "settings", scene.ctx.settings.model_copy(update={"suspend_on_dispute": is_policy}))
    customer = Customer(scene)
    (payment,) = customer.told.payments
    scene.vendor.dispute(payment.reference, "open")
    scene.settle(customer.begun)
    assert customer.reasons == ([Reason.PAYMENT] if is_policy else [])
    customer.pass_days(60)
    assert customer.row.deletion_asked_at is None
    scene.vendor.dispute(payment.reference, verdict)
    for _ in range(2):
        scene.settle(customer.begun)
    assert customer.reasons == ([Reason.PAYMENT] if is_policy and verdict == "lost" else [])
    assert scene.count("notice", "key LIKE 'dispute:%'") == 2
    if is_policy and verdict == "lost":
        scene.vendor.renew(customer.subscription.reference)
        scene.settle(customer.begun)
        assert customer.reasons == [], "paid since"


def test_a_dispute_within_the_grace_ends_it(scene: Scene) -> None:
    customer = Customer(scene)
    customer.vendor_says("past_due")
    with scene.ctx.db.tx() as db:
        db.query(Receipt).filter_by(reference=customer.told.payments[0].reference).one().dispute = "open"
        trouble.follow(db, scene.ctx, db.get_one(Subscription, customer.subscription.id))
    assert [(one.cause, one.state) for one in customer.episodes] == [("dispute", "suspended")]
    assert customer.reasons == [Reason.PAYMENT]


def test_one_subscription_in_trouble_does_not_stop_the_sweep_for_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    broken, fine = Customer(scene), Customer(scene)
    for one in (broken, fine):
        one.vendor_says("past_due")
    attend, refused = trouble.attend, broken.subscription.id

    def refusing(db: Any, ctx: Any, subscription_id: str) -> None:
        if subscription_id == refused:
            raise OperationalError("deadlock", {}, Exception())
        attend(db, ctx, subscription_id)

    monkeypatch.setattr(trouble, "attend", refusing)
    scene.ctx.clock.advance(14 * DAY)
    assert trouble.sweep(scene.ctx) == 1
    assert (broken.reasons, fine.reasons) == ([], [Reason.PAYMENT])
    monkeypatch.undo()
    trouble.sweep(scene.ctx)
    assert broken.reasons == [Reason.PAYMENT]


def test_three_assistants_of_one_agreement_go_together(scene: Scene) -> None:
    customer = Customer(scene)
    others = [scene.live(f"{new_id('o')}@example.com").instance.id for _ in range(2)]
    with scene.ctx.db.tx() as db:
        for instance_id in others:
            subscriptions.cover(db, customer.subscription.id, instance_id, scene.ctx.clock.now())
    customer.vendor_says("past_due")
    customer.pass_days(14)
    for instance_id in (customer.instance_id, *others):
        assert states.reasons(scene.instance(instance_id)) == [Reason.PAYMENT]
    assert customer.letters().count("suspended") == 1
    customer.vendor_says("active")
    for instance_id in (customer.instance_id, *others):
        assert states.reasons(scene.instance(instance_id)) == []


def test_a_payment_and_a_deletion_at_the_same_moment_are_decided_one_after_the_other(scene: Scene) -> None:
    for _ in range(4):
        customer = Customer(scene)
        customer.vendor_says("past_due")
        customer.pass_days(14)
        scene.ctx.clock.advance(7 * DAY)
        customer.vendor_says("unpaid")
        with ThreadPoolExecutor(3) as pool:
            done = [pool.submit(trouble.sweep, scene.ctx) for _ in range(2)]
            done.append(pool.submit(customer.vendor_says, "active"))
            for one in done:
                one.result()
        (episode,) = customer.episodes
        is_deleted = customer.row.deletion_asked_at is not None
        assert episode.state == ("ended" if is_deleted else "recovered")
        assert customer.letters().count("deleted") == is_deleted
