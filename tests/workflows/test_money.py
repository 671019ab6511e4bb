"""Each planted difference in the money is explained, repaired only where that is safe, and else told once."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven import ledger
from clawhaven.billing import dunning, subscriptions
from clawhaven.billing.models import Cover, CreditGrant, InboxEvent, Receipt, Refund, Subscription
from clawhaven.core import audit
from clawhaven.core.ids import new_id
from clawhaven.instances import states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.notices.models import Notice
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import ListedSubscription
from clawhaven.workflows import access, bookkeeping, money, payments, plan, vendors
from clawhaven.workflows.checkout import Begun
from clawhaven.workflows.vendors import Difference
from tests.workflows.scene import Scene

PATIENCE = bookkeeping.PATIENCE + timedelta(minutes=1)


def looked(scene: Scene) -> dict[str, Difference]:
    """Subject -> what was found, in a look that must change nothing."""
    before = scene.counts()
    found = money.look_over(scene.ctx)
    assert scene.counts() == before
    assert all(one.problem and one.repair for one in found)
    return {one.subject: one for one in found}


def repaired(scene: Scene) -> dict[str, str]:
    """Subject -> what was done."""
    return {one.subject: one.repair for one in money.repair(scene.ctx, money.look_over(scene.ctx))}


def change(scene: Scene, statement: sa.Executable) -> None:
    with scene.ctx.db.tx() as db:
        db.execute(statement)


def subscription_of(scene: Scene, begun: Begun) -> Subscription:
    with scene.ctx.db.read() as db:
        found = subscriptions.of_checkout(db, begun.checkout.id)
    assert found is not None
    return found


def alerts(scene: Scene) -> list[str]:
    with scene.ctx.db.read() as db:
        return list(db.scalars(sa.select(Notice.subject).where(Notice.kind == "alert").order_by(Notice.created_at)))


def test_where_all_agrees_nothing_is_found(scene: Scene) -> None:
    scene.live("a@example.com")
    scene.live("b@example.com", plan="metered")
    scene.sign_up("c@example.com")
    scene.put_in(State.SUSPENDED)
    scene.ctx.clock.advance(PATIENCE)
    assert looked(scene) == {}
    money.report(scene.ctx, [])
    assert alerts(scene) == []


def test_a_payment_we_never_heard_of_is_settled(scene: Scene) -> None:
    begun = scene.sign_up()
    reference = scene.reference(begun)
    scene.vendor.complete(reference, "paid")
    scene.ctx.clock.advance(PATIENCE)
    found = looked(scene)
    assert len(found) == 2, "the checkout is paid there, and its subscription is unknown here"
    assert all(one.is_safe and one.target == begun.checkout.id for one in found.values())
    assert begun.checkout.id in found
    repaired(scene)
    assert scene.count("workflow_status", f"workflow_uuid LIKE 'settle:{begun.checkout.id}:%'") == 1
    with scene.ctx.db.read() as db:
        done = db.scalars(sa.select(audit.AuditEntry).where(audit.AuditEntry.action == "money.settle")).all()
    assert {entry.subject for entry in done} == {begun.checkout.id}
    scene.settle(begun)
    assert looked(scene) == {}


def test_a_vendor_that_knows_more_or_less_than_we(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = scene.live()
    mine = subscription_of(scene, begun)
    strangers = [
        ListedSubscription("sub_x", "active", None, None),
        ListedSubscription("sub_y", "active", "cho_nobody", None),
        ListedSubscription("sub_z", "active", begun.checkout.id, None),
    ]
    _force(scene, monkeypatch, strangers)
    scene.ctx.clock.advance(PATIENCE)
    found = looked(scene)
    assert {subject: one.is_safe for subject, one in found.items()} == {
        "sub_x": False,
        "sub_y": False,
        "sub_z": False,
        mine.id: True,
    }
    assert "twice" in found["sub_z"].repair
    assert found["sub_z"].account_id == begun.instance.account_id
    scene.ctx.clock.advance(vendors.UNANSWERED)
    assert not looked(scene)[mine.id].is_safe, "a vendor that does not answer for it for a day: a person"
    change(scene, sa.update(Subscription).values(state="canceled"))
    _force(scene, monkeypatch, [ListedSubscription(mine.reference, "active", begun.checkout.id, None)])
    told = looked(scene)[mine.id]
    assert (told.is_safe, "go on paying" in told.problem) == (False, True)


def test_a_vendor_that_is_down_hides_nothing_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.sign_up()
    scene.ctx.clock.advance(PATIENCE)

    def refuse(*_: object) -> None:
        raise ProviderError("it is closed today")

    _vendor(scene, monkeypatch, list_subscriptions=refuse, fetch=refuse)
    (one,) = money.look_over(scene.ctx)
    assert (one.subject, one.is_safe) == ("sandbox", False)
    assert "it is closed today" in one.problem
    monkeypatch.setattr(money, "LOOKS", (refuse, *bookkeeping.LOOKS))
    assert [one.problem for one in money.look_over(scene.ctx)] == ["this look broke"]


def test_a_vendor_that_was_switched_off(scene: Scene) -> None:
    begun = scene.live()
    change(scene, sa.update(Subscription).values(provider="gone"))
    found = looked(scene)[subscription_of(scene, begun).id]
    assert (found.is_safe, "not in PAYMENTS" in found.problem) == (False, True)


def test_what_is_paid_for_nothing_is_cancelled(scene: Scene) -> None:
    begun = scene.live()
    row = subscription_of(scene, begun)
    change(scene, sa.update(Instance).values(state="deleted", deletion_asked_at=scene.ctx.clock.now()))
    assert row.id not in looked(scene), "the deletion ends it by itself"
    scene.ctx.clock.advance(PATIENCE)
    assert looked(scene)[row.id].mend == vendors.SETTLE
    change(scene, sa.delete(Cover))
    found = looked(scene)[row.id]
    assert (found.is_safe, "no assistant" in found.problem) == (False, True)


def test_what_runs_unpaid_is_suspended_and_what_is_paid_is_resumed(scene: Scene) -> None:
    begun = scene.live()
    instance_id = begun.instance.id
    row = subscription_of(scene, begun)
    change(scene, sa.update(Subscription).values(state="canceled"))
    scene.ctx.clock.advance(PATIENCE)
    found = looked(scene)[instance_id]
    assert (found.mend, found.target) == (bookkeeping.FOLLOW, row.id)
    repaired(scene)
    assert states.reasons(scene.instance(instance_id)) == [Reason.PAYMENT]
    assert instance_id not in looked(scene)
    with scene.ctx.db.tx() as db:
        episode = dunning.open_episode_of(db, row.id)
        assert episode is not None
        dunning.recover(db, episode, scene.ctx.clock.now())
        db.execute(sa.update(Subscription).values(state="active"))
    assert looked(scene)[instance_id].mend == bookkeeping.RESUME
    assert repaired(scene)[instance_id] == "asked to start"
    assert scene.instance(instance_id).suspended_for is None
    assert instance_id not in looked(scene)
    stale = Difference(instance_id, "p", "r", bookkeeping.RESUME, instance_id)
    assert money.repair(scene.ctx, [stale])[0].repair.startswith("nothing")


def test_a_time_of_grace_is_respected_and_its_end_too(scene: Scene) -> None:
    begun = scene.live()
    row, now = subscription_of(scene, begun), scene.ctx.clock.now()
    change(scene, sa.update(Subscription).values(state="past_due"))
    assert looked(scene)[begun.instance.id].mend == bookkeeping.FOLLOW, "no time of grace has begun"
    repaired(scene)
    assert begun.instance.id not in looked(scene)
    assert scene.instance(begun.instance.id).state == State.ACTIVE
    with scene.ctx.db.read() as db:
        episode = dunning.open_episode_of(db, row.id)
    assert episode is not None
    scene.ctx.clock.advance(episode.suspend_at - now + PATIENCE)
    assert "time of grace over" in looked(scene)[begun.instance.id].problem


def test_what_runs_without_any_subscription_is_for_a_person(scene: Scene) -> None:
    begun = scene.live()
    change(scene, sa.delete(Cover))
    scene.ctx.clock.advance(PATIENCE)
    found = looked(scene)
    assert not found[begun.instance.id].is_safe


def test_receipts_and_ledger_tell_the_same(scene: Scene) -> None:
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        receipt = db.scalars(sa.select(Receipt)).one()
        wallet = access.wallet_of(db, scene.ctx, begun.instance.account_id)
        now = scene.ctx.clock.now()
        ledger.credit(
            db, key="payment:sandbox:ghost", ledger_account_id=wallet, amount_micros=5, now=now, kind="payment"
        )
        db.add(_receipt(receipt, "lost", 1_000_000))
        receipt.refunded_micros = 3
        receipt_id = receipt.id
    found = looked(scene)
    by_problem = {one.problem for one in found.values()}
    assert "payment:sandbox:ghost is booked without a receipt" in by_problem
    assert found[begun.checkout.id].problem == "$0.000003 given back, $0.00 booked as refund"
    lost = next(one for one in found.values() if one.subject.startswith("rcp_") and one.subject != receipt_id)
    assert lost.problem.startswith("$1.00 received, $0.00 booked")
    assert receipt_id not in found
    assert not any(one.is_safe for one in found.values())
    change(scene, sa.update(Receipt).where(Receipt.id == receipt_id).values(amount_micros=Receipt.amount_micros + 1))
    assert looked(scene)[receipt_id].problem.startswith("$29.000001 received, $29.00 booked")


def test_every_paid_period_has_its_credit_once(scene: Scene) -> None:
    begun = scene.live(plan="metered")
    row = subscription_of(scene, begun)
    with scene.ctx.db.tx() as db:
        grant = db.scalars(sa.select(CreditGrant)).one()
        grant.key = f"period:{row.id}:2020-01-01T00:00:00"
        grant_id = grant.id
    found = looked(scene)
    assert found[row.id].mend == vendors.SETTLE
    assert not found[grant_id].is_safe
    scene.settle(begun)
    assert row.id not in looked(scene)
    scene.ctx.clock.advance(bookkeeping.RECENT + timedelta(days=1))
    assert grant_id not in looked(scene)


def test_a_period_spent_on_another_plan_needs_no_credit(scene: Scene) -> None:
    """Left for a year's plan and come back to: the year was paid, without credit."""
    begun = scene.live(plan="metered")
    for plan_id in ("yearly", "metered"):
        scene.ctx.clock.advance(timedelta(days=1))
        row = subscription_of(scene, begun)
        plan.change(scene.ctx, row.account_id, row.id, plan_id, "user:ada")
    scene.settle(begun)
    assert looked(scene) == {}
    change(scene, sa.delete(Cover))  # by now another subscription pays for the assistant
    assert not any("usage credit" in one.problem for one in looked(scene).values())


def test_balances_that_do_not_add_up_are_told(scene: Scene) -> None:
    scene.live()
    change(scene, sa.text("UPDATE ledger_account SET balance_micros = balance_micros + 1 WHERE kind = 'wallet'"))
    found = looked(scene)["ledger"]
    assert (found.is_safe, "postings say" in found.problem) == (False, True)


def test_a_refund_that_is_stuck_is_asked_for_again(scene: Scene) -> None:
    scene.live()
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        receipt = db.scalars(sa.select(Receipt)).one()
        refund = Refund(
            id=new_id("ref"),
            account_id=receipt.account_id,
            receipt_id=receipt.id,
            amount_micros=1_000_000,
            reason="asked",
            actor="user:x",
            state="asked",
            created_at=now,
        )
        db.add(refund)
    assert refund.id not in looked(scene)
    scene.ctx.clock.advance(PATIENCE)
    assert repaired(scene)[refund.id] == "the vendor is asked again"
    assert scene.count("workflow_status", f"workflow_uuid LIKE 'refund:{refund.id}%'") == 1


def test_a_repair_that_fails_is_for_a_person(scene: Scene) -> None:
    gone = Difference("x", "p", "r", vendors.SETTLE, "cho_nobody")
    done = money.repair(scene.ctx, [gone, Difference("y", "p", "none")])
    assert [one.is_safe for one in done] == [False, False]
    assert done[0].repair == "failed: There is no such checkout."


def test_the_operator_is_told_once_a_day(scene: Scene) -> None:
    left = [Difference(f"x{number}", "p", "none") for number in range(120)]
    money.report(scene.ctx, left)
    money.report(scene.ctx, left[:1])
    assert alerts(scene) == ["120 differences in the money"]
    scene.ctx.clock.advance(timedelta(days=1))
    money.report(scene.ctx, left[:1])
    assert alerts(scene)[-1] == "1 differences in the money"


def test_refused_deliveries_are_told_beyond_a_few_and_once_an_hour(scene: Scene) -> None:
    clock = scene.ctx.clock
    clock.advance(timedelta(seconds=3600 - clock.now().timestamp() % 3600))
    for _ in range(money.REFUSALS_AN_HOUR):
        money.note_refused(scene.ctx, "sandbox", "not signed")
    assert alerts(scene) == []
    for _ in range(5):
        money.note_refused(scene.ctx, "sandbox", "not signed")
    assert alerts(scene) == ["Webhooks of sandbox are refused"]
    clock.advance(timedelta(hours=1))
    for _ in range(money.REFUSALS_AN_HOUR + 1):
        money.note_refused(scene.ctx, "sandbox", "not signed")
    assert len(alerts(scene)) == 2


def test_events_that_wait_too_long_are_told_once_an_hour(scene: Scene) -> None:
    clock = scene.ctx.clock
    clock.advance(timedelta(seconds=3600 - clock.now().timestamp() % 3600))
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    payments.sync(scene.ctx)
    assert money.watch_inbox(scene.ctx) == 0
    clock.advance(money.STUCK + timedelta(minutes=1))
    waiting = money.watch_inbox(scene.ctx)
    assert waiting > 0
    assert money.watch_inbox(scene.ctx) == waiting
    assert alerts(scene) == [f"{waiting} payment events are not applied"]
    change(scene, sa.update(InboxEvent).values(state="handled"))
    assert money.watch_inbox(scene.ctx) == 0


def _receipt(like: Receipt, reference: str, amount: int) -> Receipt:
    return Receipt(
        id=new_id("rcp"),
        account_id=like.account_id,
        checkout_id=like.checkout_id,
        provider=like.provider,
        reference=reference,
        amount_micros=amount,
        refunded_micros=0,
        created_at=like.created_at,
    )


def _vendor(scene: Scene, monkeypatch: pytest.MonkeyPatch, **verbs: object) -> None:
    """The same vendor, some of whose verbs answer otherwise."""

    class Other:
        def __getattr__(self, name: str) -> object:
            return verbs[name] if name in verbs else getattr(real, name)

    real = scene.ctx.payments["sandbox"]
    monkeypatch.setattr(scene, "ctx", dataclasses.replace(scene.ctx, payments={"sandbox": Other()}))


def _force(scene: Scene, monkeypatch: pytest.MonkeyPatch, listed: list[ListedSubscription]) -> None:
    _vendor(scene, monkeypatch, list_subscriptions=lambda: listed)
