"""What a customer does with an agreement, against the sandbox vendor."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest

from clawhaven import ledger
from clawhaven.accounts import links
from clawhaven.billing import customers
from clawhaven.billing.models import Subscription
from clawhaven.core.audit import AuditEntry
from clawhaven.core.errors import Conflict, Forbidden, IllegalMove, Invalid, NotFound, PaymentRequired
from clawhaven.ports.payments import Capability
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
    assert list(plan.saved_methods(scene.ctx, begun.owner.account.id)) == ["sandbox"]
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


def dearer(scene: Scene, monkeypatch: pytest.MonkeyPatch, micros: int = 39_000_000) -> None:
    """The plan costs something else from now on."""
    now = dataclasses.replace(scene.ctx.plans.get("personal"), price_micros=micros)
    monkeypatch.setitem(scene.ctx.plans._plans, "personal", now)


def noted(scene: Scene, action: str) -> list[dict[str, Any]]:
    """What the audit log says of an action."""
    with scene.ctx.db.read() as db:
        return [one.details for one in db.query(AuditEntry).filter_by(action=action)]


@pytest.mark.parametrize("micros", [39_000_000, 19_000_000])
def test_a_new_price_is_taken_and_paid(engine_context: Scene, monkeypatch: pytest.MonkeyPatch, micros: int) -> None:
    scene = engine_context
    begun = scene.live()
    account, subscription = begun.owner.account.id, row(scene, begun).id
    dearer(scene, monkeypatch, micros)
    assert plan.accept_price(scene.ctx, account, subscription, USER).amount_micros == micros
    assert row(scene, begun).amount_micros == micros
    (line,) = noted(scene, "subscription.accept_price")
    assert (line["before_micros"], line["wanted_micros"], line["amount_micros"]) == (29_000_000, micros, micros)


def test_a_new_price_whose_difference_waits_for_its_payment_is_not_taken(
    engine_context: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = engine_context
    begun = scene.live()
    account, subscription = begun.owner.account.id, row(scene, begun).id
    dearer(scene, monkeypatch)
    monkeypatch.setattr(Sandbox, "change_plan", lambda *_: None)  # as Stripe does with pending_if_incomplete
    with pytest.raises(PaymentRequired, match="paid first") as refused:
        plan.accept_price(scene.ctx, account, subscription, USER)
    assert refused.value.details["pay_url"].startswith("http")
    assert row(scene, begun).amount_micros == 29_000_000
    (line,) = noted(scene, "subscription.accept_price")
    assert (line["wanted_micros"], line["amount_micros"]) == (39_000_000, 29_000_000), "what was asked, and what is"


def test_a_new_price_that_the_card_does_not_pay_is_not_taken(
    engine_context: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = engine_context
    begun = scene.live()
    dearer(scene, monkeypatch)
    scene.vendor.use_card(str(scene.vendor.fetch(scene.reference(begun)).customer_reference), "declined")
    with pytest.raises(PaymentRequired, match="declined"):
        plan.accept_price(scene.ctx, begun.owner.account.id, row(scene, begun).id, USER)
    assert row(scene, begun).amount_micros == 29_000_000
    assert noted(scene, "subscription.accept_price") == []


def test_whoever_owes_or_is_paused_keeps_the_price_and_the_plan(
    engine_context: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = engine_context
    owing, paused = scene.live(), scene.live("bea@example.com")
    dearer(scene, monkeypatch)
    scene.vendor.fail_renewal(row(scene, owing).reference)
    scene.vendor.refund_rest(scene.vendor.fetch(scene.reference(paused)).payments[0].reference)
    for begun, told in ((owing, "what is owed"), (paused, "disputed or returned")):
        settle(scene, begun)
        account, subscription = begun.owner.account.id, row(scene, begun).id
        for act in (
            partial(plan.accept_price, scene.ctx, account, subscription),
            partial(plan.change, scene.ctx, account, subscription, "yearly"),
        ):
            with pytest.raises(IllegalMove, match=told):
                act(USER)
        assert (row(scene, begun).plan, row(scene, begun).amount_micros) == ("personal", 29_000_000)


class ByMail:
    """A second vendor, which knows its customers by their mail address, keeps no card and has a page for them."""

    name = "bymail"
    capabilities = frozenset({Capability.TOPUPS, Capability.PORTAL})
    is_for_production = True
    is_customer_by_email = True
    fee_rate = None
    checkout_origins = ()

    def portal_url(self, customer_reference: str, _return_url: str) -> str:
        return f"https://bymail.example/{customer_reference}"


def test_each_of_two_vendors_has_its_page_and_its_method(scene: Scene) -> None:
    begun = scene.live()
    account, sandbox = begun.owner.account.id, scene.vendor
    vendors: Any = {"bymail": ByMail(), "sandbox": sandbox}
    settings = scene.ctx.settings.model_copy(update={"topups_by": "bymail", "subscriptions_by": "sandbox"})
    ctx = dataclasses.replace(scene.ctx, payments=vendors, settings=settings)
    assert plan.portals(ctx, account) == ["sandbox"]
    assert list(plan.saved_methods(ctx, account)) == ["sandbox"], "whoever sells top-ups"
    with pytest.raises(NotFound):
        plan.portal_url(ctx, account, "bymail")
    with ctx.db.tx() as db:
        customers.remember(db, account, "bymail", "cust_1", ctx.clock.now())
    assert plan.portals(ctx, account) == ["bymail", "sandbox"]
    assert "/sandbox/" in plan.portal_url(ctx, account), "the first that may be shown"
    with pytest.raises(Forbidden):
        plan.portal_url(ctx, account, "bymail")
    with ctx.db.tx() as db:
        links.verify(db, begun.owner.user.id, ctx.clock.now())
    assert plan.portal_url(ctx, account, "bymail") == plan.portal_url(ctx, account) == "https://bymail.example/cust_1"
    assert "/sandbox/" in plan.portal_url(ctx, account, "sandbox")
    with pytest.raises(Invalid, match="not switched on"):
        plan.portal_url(ctx, account, "stripe")
