"""What a customer does with an agreement, against the sandbox vendor."""

from __future__ import annotations

import pytest

from clawhaven import ledger
from clawhaven.accounts import links
from clawhaven.billing import customers
from clawhaven.billing.models import Subscription
from clawhaven.core.errors import Conflict, Forbidden, IllegalMove, Invalid, NotFound
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import access, checkout, lifecycle, plan
from clawhaven.workflows.checkout import Form
from tests.workflows.scene import Scene
from tests.workflows.test_settlement import USER, engine_context, row, settle

__all__ = ["engine_context"]


def test_a_cancellation_can_be_taken_back_until_it_takes_effect(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    account, subscription = begun.owner.account.id, row(scene, begun).id
    assert plan.cancel(scene.ctx, account, subscription, USER).is_ending
    assert plan.cancel(scene.ctx, account, subscription, USER).is_ending
    assert not plan.undo(scene.ctx, account, subscription, USER).is_ending
    assert not plan.undo(scene.ctx, account, subscription, USER).is_ending
    plan.cancel(scene.ctx, account, subscription, USER)
    scene.vendor.renew(row(scene, begun).reference)
    settle(scene, begun)
    assert row(scene, begun).state == "canceled"
    with pytest.raises(IllegalMove):
        plan.undo(scene.ctx, account, subscription, USER)


def test_another_account_s_subscription_is_not_found(engine_context: Scene) -> None:
    scene = engine_context
    mine, theirs = scene.live(), scene.live("eve@example.com")
    for act in (plan.cancel, plan.undo, plan.accept_price):
        with pytest.raises(NotFound):
            act(scene.ctx, mine.owner.account.id, row(scene, theirs).id, USER)
    with pytest.raises(NotFound):
        plan.change(scene.ctx, mine.owner.account.id, row(scene, theirs).id, "metered", USER)
    with pytest.raises(NotFound):
        plan.reactivate(scene.ctx, mine.owner, theirs.instance.id)
    assert not row(scene, theirs).is_ending


def test_who_comes_back_pays_anew_and_keeps_the_assistant(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    with pytest.raises(Conflict):
        plan.reactivate(scene.ctx, begun.owner, begun.instance.id)
    scene.vendor.end(row(scene, begun).reference)
    settle(scene, begun)
    again = plan.reactivate(scene.ctx, begun.owner, begun.instance.id)
    assert plan.reactivate(scene.ctx, begun.owner, begun.instance.id).checkout_url == again.checkout_url
    scene.pay(again)
    assert row(scene, begun).state == "active"
    assert row(scene, begun).checkout_id == (again.checkout and again.checkout.id)
    assert scene.count("operation", "kind = 'provision'") == 1
    with scene.ctx.db.tx() as db:
        lifecycle.ask_delete(db, scene.ctx, begun.instance.id, USER)
    with pytest.raises(IllegalMove):
        plan.reactivate(scene.ctx, begun.owner, begun.instance.id)


def test_the_vendor_s_customer_is_used_again_and_never_another_account_s(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        reference = customers.find(db, begun.owner.account.id, "sandbox")
        assert reference
        customers.remember(db, "acc_other", "sandbox", reference, scene.ctx.clock.now())
        assert customers.find(db, "acc_other", "sandbox") is None
        assert customers.account_of(db, "sandbox", reference) == begun.owner.account.id
    assert plan.portal_url(scene.ctx, begun.owner.account.id).startswith("http")
    assert plan.saved_method(scene.ctx, begun.owner.account.id)
    assert [one.amount_micros for one in plan.list_invoices(scene.ctx, begun.owner.account.id)] == [29_000_000]
    stranger = scene.sign_up("new@example.com")
    assert plan.list_invoices(scene.ctx, stranger.owner.account.id) == []
    with pytest.raises(NotFound):
        plan.portal_url(scene.ctx, stranger.owner.account.id)


def test_a_plan_with_too_few_places_is_refused(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live(plan="metered")
    with scene.ctx.db.tx() as db:
        ledger.credit(
            db,
            key="t2",
            ledger_account_id=access.wallet_of(db, scene.ctx, begun.owner.account.id),
            amount_micros=5_000_000,
            now=scene.ctx.clock.now(),
        )
    checkout.add_instance(scene.ctx, begun.owner, Form("Bo", "", "metered", "personal", {}))
    with pytest.raises(Invalid, match="you have 2"):
        plan.change(scene.ctx, begun.owner.account.id, row(scene, begun).id, "personal", USER)


def test_several_assistants_come_back_under_one_agreement(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live(plan="metered")
    with scene.ctx.db.tx() as db:
        ledger.credit(
            db,
            key="t3",
            ledger_account_id=access.wallet_of(db, scene.ctx, begun.owner.account.id),
            amount_micros=5_000_000,
            now=scene.ctx.clock.now(),
        )
    second = checkout.add_instance(scene.ctx, begun.owner, Form("Bo", "", "metered", "personal", {}))
    scene.bring_up(second.instance.id)
    scene.vendor.end(row(scene, begun).reference)
    settle(scene, begun)
    back = plan.reactivate(scene.ctx, begun.owner, begun.instance.id)
    scene.pay(back)
    joined = plan.reactivate(scene.ctx, begun.owner, second.instance.id)
    assert joined.checkout is None
    assert row(scene, begun).id == row(scene, second).id
    assert scene.count("subscription", "state = 'active'") == 1


def test_an_assistant_has_one_open_payment_page(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    scene.vendor.end(row(scene, begun).reference)
    settle(scene, begun)
    first = plan.reactivate(scene.ctx, begun.owner, begun.instance.id)
    other = plan.reactivate(scene.ctx, begun.owner, begun.instance.id, "metered")
    assert first.checkout_url != other.checkout_url
    assert scene.count("checkout", "state = 'open'") == 1
    draft = scene.sign_up("new@example.com")
    with pytest.raises(IllegalMove):
        plan.reactivate(scene.ctx, draft.owner, draft.instance.id)
    with pytest.raises(NotFound):
        plan.reactivate(scene.ctx, draft.owner, "ins_none")


def test_a_plan_that_is_disputed_is_not_changed(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    scene.vendor.dispute(scene.vendor.fetch(scene.reference(begun)).payments[0].reference, "open")
    settle(scene, begun)
    with pytest.raises(IllegalMove, match="disputed"):
        plan.change(scene.ctx, begun.owner.account.id, row(scene, begun).id, "metered", USER)
    assert row(scene, begun).plan == "personal"


def test_a_page_that_opens_by_mail_address_is_for_who_has_proven_theirs(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ctx = scene.live(), scene.ctx
    monkeypatch.setattr(Sandbox, "is_customer_by_email", True)
    with pytest.raises(Forbidden, match="mailed to you") as refused:
        plan.portal_url(ctx, begun.owner.account.id)
    assert refused.value.error_code == "email_not_verified"
    scene.vendor.fail_renewal(row(scene, begun).reference)
    scene.settle(begun)
    assert row(scene, begun).pay_url is None
    with ctx.db.tx() as db:
        links.verify(db, begun.owner.user.id, ctx.clock.now())
    scene.settle(begun)
    assert (row(scene, begun).pay_url or "").startswith("http")
    assert plan.portal_url(ctx, begun.owner.account.id).startswith("http")


def test_the_plan_and_its_price_stay_while_renewals_are_held(engine_context: Scene) -> None:
    scene = engine_context
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        db.get_one(Subscription, row(scene, begun).id).held_at = scene.ctx.clock.now()
        db.get_one(Subscription, row(scene, begun).id).amount_micros = 19_000_000  # bought when it was cheaper
    account, subscription = begun.owner.account.id, row(scene, begun).id
    for act in (
        lambda: plan.change(scene.ctx, account, subscription, "yearly", USER),
        lambda: plan.accept_price(scene.ctx, account, subscription, USER),
    ):
        with pytest.raises(IllegalMove, match="disputed"):
            act()
    assert row(scene, begun).plan == "personal"
