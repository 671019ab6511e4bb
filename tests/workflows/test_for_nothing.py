"""Ways to have something for nothing, or to be charged twice: each is closed, or told to the operator."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from clawhaven import ledger
from clawhaven.accounts import signup
from clawhaven.billing import coupons, subscriptions
from clawhaven.billing.models import Receipt, Subscription
from clawhaven.billing.plans import Catalogue
from clawhaven.core.errors import AppError, Conflict, IllegalMove, Invalid
from clawhaven.instances import states
from clawhaven.ledger import check_books
from clawhaven.ports.payments import Price
from clawhaven.workflows import attempts, balance, checkout, deletion, engine, payments, plan, settlement, topups
from clawhaven.workflows.checkout import Begun, Form
from tests.workflows.scene import Scene

DOLLAR = 1_000_000
USER = "user:test"
MORE = Form("Bo", "Help me.", "metered", "personal", {})


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps can be called by themselves, and every plan begins with a week of trial where a test wants one."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    return scene


def with_trials(stage: Scene) -> Scene:
    plans = {one.id: dataclasses.replace(one, trial_days=7) for one in stage.ctx.plans}
    stage.ctx = dataclasses.replace(stage.ctx, plans=Catalogue(plans))
    return stage


def checkout_id(begun: Begun) -> str:
    assert begun.checkout
    return begun.checkout.id


def row(stage: Scene, begun: Begun) -> Subscription:
    with stage.ctx.db.read() as db:
        found = subscriptions.of_instance(db, begun.instance.id)
    assert found is not None
    return found


def give(stage: Scene, begun: Begun, micros: int) -> None:
    with stage.ctx.db.tx() as db:
        balance.give_credit(db, stage.ctx, begun.owner.account.id, micros, "For the test", USER, key=f"give-{micros}")


def delete_account(stage: Scene, begun: Begun) -> None:
    with stage.ctx.db.tx() as db:
        owner = signup.owner_of(db, begun.owner.account.id)
        deletion.begin(db, stage.ctx, owner, USER)
    deletion.end_agreements(begun.owner.account.id)
    deletion.erase(begun.owner.account.id)


@pytest.mark.parametrize("again", ["ada+two@example.com", "ADA@example.com", "a.d.a+x@googlemail.com"])
def test_a_person_has_one_trial_in_whatever_account(stage: Scene, again: str) -> None:
    with_trials(stage)
    first = "ada@gmail.com" if "googlemail" in again else "ada@example.com"
    begun = stage.live(first)
    assert row(stage, begun).state == "trialing"
    if signup.normalise_email(again) == first:
        delete_account(stage, begun)
    second = stage.sign_up(again)
    assert second.checkout
    assert second.checkout.trial_days == 0
    assert stage.sign_up("grace@example.com").checkout.trial_days == 7  # type: ignore[union-attr]


def test_of_many_pages_of_one_person_one_has_a_trial_until_nobody_pays_it(stage: Scene) -> None:
    with_trials(stage)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: stage.sign_up(f"ada+{number}@example.com"), range(4)))
    (lucky,) = [one for one in made if one.checkout and one.checkout.trial_days]
    payments.expire_checkout(checkout_id(lucky))
    after = stage.sign_up("ada+late@example.com")
    assert after.checkout
    assert after.checkout.trial_days == 7
    # The page that we gave up is paid after all: nothing was given for it, and it ends at the vendor.
    stage.vendor.complete(stage.reference(lucky), "paid")
    assert payments.settle_checkout(checkout_id(lucky)) == settlement.UNWANTED
    payments.give_back(checkout_id(lucky))
    assert [one.state for one in stage.vendor.list_subscriptions()] in ([], ["canceled"])


@pytest.mark.parametrize("kind", ["credit", "percent"])
def test_a_person_uses_a_coupon_once_in_whatever_account(stage: Scene, kind: str) -> None:
    now = stage.ctx.clock.now()
    with stage.ctx.db.tx() as db:
        coupons.create(db, "GIFT", kind=kind, value=50 if kind == "percent" else 5 * DOLLAR, now=now)

    def use(email: str) -> Begun:
        if kind == "percent":
            return stage.live(email, coupon="GIFT")
        begun = stage.live(email, plan="metered")
        with stage.ctx.db.tx() as db:
            balance.redeem(db, stage.ctx, begun.owner.account.id, "gift", USER)
        return begun

    begun = use("ada@example.com")
    with pytest.raises(Invalid, match="used this coupon"):
        use("ada+2@example.com")
    delete_account(stage, begun)
    with pytest.raises(Invalid, match="used this coupon"):
        use("ada@example.com")
    use("grace@example.com")
    with stage.ctx.db.read() as db:
        assert coupons.get(db, "GIFT").redeemed == 2
        assert check_books(db) == []


def test_a_coupon_of_a_page_that_nobody_paid_can_be_used_again(stage: Scene) -> None:
    with stage.ctx.db.tx() as db:
        coupons.create(db, "HALF", kind="percent", value=50, now=stage.ctx.clock.now())
    begun = stage.sign_up(coupon="half")
    with pytest.raises(Invalid, match="used this coupon"):
        stage.sign_up("ada+2@example.com", coupon="half")
    payments.expire_checkout(checkout_id(begun))
    assert stage.sign_up("ada+3@example.com", coupon="half").checkout


@pytest.mark.parametrize("trouble", ["open", "refunded"])
def test_nothing_is_built_on_a_payment_that_went_back(stage: Scene, trouble: Any) -> None:
    begun = stage.live(plan="metered")
    give(stage, begun, 100 * DOLLAR)
    (payment,) = stage.vendor.fetch(stage.reference(begun)).payments
    if trouble == "open":
        stage.vendor.dispute(payment.reference, "open")
    else:
        stage.vendor.refund_rest(payment.reference)
    payments.settle_checkout(checkout_id(begun))
    before = stage.counts()
    with pytest.raises(IllegalMove, match="missing, disputed or returned"):
        checkout.add_instance(stage.ctx, begun.owner, MORE)
    assert stage.counts() == before
    if trouble == "open":
        stage.vendor.dispute(payment.reference, "won")
        payments.settle_checkout(checkout_id(begun))
        assert checkout.add_instance(stage.ctx, begun.owner, MORE).checkout is None


def test_fewer_places_than_assistants_are_refused_here_and_told_when_the_vendor_says_so(stage: Scene) -> None:
    begun = stage.live(plan="metered")
    give(stage, begun, 100 * DOLLAR)
    for name in ("Bo", "Cy"):
        checkout.add_instance(stage.ctx, begun.owner, dataclasses.replace(MORE, assistant_name=name))
    subscription = row(stage, begun)
    with pytest.raises(Invalid, match="Delete some first"):
        plan.change(stage.ctx, begun.owner.account.id, subscription.id, "personal", USER)
    small = stage.ctx.plans.get("personal")
    price = Price(small.id, small.name, small.price_micros, small.interval)
    stage.vendor.change_plan(subscription.reference, price, "by-hand")
    for _ in range(2):
        payments.settle_checkout(checkout_id(begun))
    assert stage.count("instance", "plan = 'personal'") == 3
    assert stage.count("notice", "subject LIKE 'A plan of 1 pays for 3 assistants: ada@%'") == 1


def test_a_top_up_that_was_spent_and_given_back_is_a_debt(stage: Scene) -> None:
    begun = stage.live(plan="metered")
    account_id = begun.owner.account.id
    bought = topups.open_topup(stage.ctx, begun.owner, 50 * DOLLAR)
    stage.vendor.complete(bought.reference or "", "paid")
    payments.settle_checkout(bought.id)
    with stage.ctx.db.tx() as db:
        balance.correct(db, stage.ctx, account_id, -40 * DOLLAR, "Spent on calls", USER, key="spent")
    (payment,) = stage.vendor.fetch(bought.reference or "").payments
    stage.vendor.refund_rest(payment.reference)
    for _ in range(2):
        payments.settle_checkout(bought.id)
    with stage.ctx.db.read() as db:
        wallet_id = ledger.account_of(db, "wallet", account_id)
        assert wallet_id
        assert ledger.balance(db, wallet_id).balance_micros == (10 - 40) * DOLLAR
        assert check_books(db) == []
    with pytest.raises(AppError, match="at least"):
        checkout.add_instance(stage.ctx, begun.owner, MORE)


def test_two_tabs_are_one_page_and_one_payment(stage: Scene) -> None:
    begun = stage.live(plan="metered")
    with ThreadPoolExecutor(4) as pool:
        pages = {one.id for one in pool.map(lambda _: topups.open_topup(stage.ctx, begun.owner, 20 * DOLLAR), range(4))}
    assert len(pages) == 1
    with pytest.raises(Conflict):
        stage.sign_up("ada@example.com")
    with pytest.raises(Conflict):
        plan.reactivate(stage.ctx, begun.owner, begun.instance.id)
    assert stage.count("receipt") == 1


def test_who_deletes_and_comes_back_pays_again(stage: Scene) -> None:
    begun = stage.live()
    delete_account(stage, begun)
    again = stage.sign_up("ada@example.com")
    assert again.owner.account.id != begun.owner.account.id
    assert states.reasons(stage.instance(again.instance.id)) == []
    assert stage.instance(again.instance.id).paid_at is None
    payments.settle_checkout(checkout_id(begun))
    assert stage.instance(again.instance.id).state == "pending"
    with stage.ctx.db.read() as db:
        assert db.query(Receipt).filter_by(account_id=again.owner.account.id).count() == 0
