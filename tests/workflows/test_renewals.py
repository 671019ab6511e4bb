"""While a dispute keeps the assistants down, nobody is charged for the next period; afterwards it goes on as before."""

from __future__ import annotations

from typing import Any

import pytest

from clawhaven.billing.models import Subscription
from clawhaven.instances import states
from clawhaven.instances.states import Reason
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import attempts, engine, money, payments, renewals, vendors
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps can be called by themselves: their Context is this scene's."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    return scene


class Plan:
    """A paid plan, and what the vendor and we know of it."""

    def __init__(self, stage: Scene) -> None:
        self.stage, self.begun = stage, stage.live()
        assert self.begun.checkout
        self.settle()

    def settle(self) -> None:
        payments.settle_checkout(_checkout(self.begun))

    def dispute(self, verdict: Any) -> None:
        first = self.stage.vendor.fetch(self.stage.reference(self.begun)).payments[0]
        self.stage.vendor.dispute(first.reference, verdict)

    @property
    def row(self) -> Subscription:
        with self.stage.ctx.db.read() as db:
            return db.query(Subscription).filter_by(checkout_id=_checkout(self.begun)).one()

    @property
    def is_paused(self) -> bool:
        """What the vendor says."""
        found = self.stage.vendor.fetch(self.stage.reference(self.begun)).subscription
        assert found is not None
        return found.is_paused

    @property
    def ours(self) -> tuple[bool, bool]:
        """What we say: known as paused, and held by us."""
        return self.row.paused_at is not None, self.row.held_at is not None

    @property
    def paid(self) -> int:
        return len(self.stage.vendor.fetch(self.stage.reference(self.begun)).payments)

    @property
    def reasons(self) -> list[Reason]:
        return states.reasons(self.stage.instance(self.begun.instance.id))

    @property
    def told_free(self) -> int:
        """How often the operator was told of a period that is not charged."""
        return self.stage.count("notice", "kind = 'alert' AND subject LIKE 'A period of $29.00 is not charged: ada@%'")

    def come_back(self) -> None:
        """What the resume workflow does at its end."""
        with self.stage.ctx.db.tx() as db:
            states.activate(db, self.begun.instance.id, self.stage.ctx.clock.now())


def _checkout(begun: Begun) -> str:
    assert begun.checkout
    return begun.checkout.id


@pytest.mark.parametrize("verdict", ["won", "lost"])
def test_no_period_is_charged_while_a_payment_is_disputed(stage: Scene, verdict: str) -> None:
    plan = Plan(stage)
    assert (plan.is_paused, plan.ours) == (False, (False, False))
    plan.dispute("open")
    plan.settle()
    assert (plan.is_paused, plan.ours, plan.reasons) == (True, (True, True), [Reason.PAYMENT])
    plan.settle()
    stage.vendor.renew(plan.row.reference)
    plan.settle()
    assert (plan.paid, plan.row.state, plan.reasons) == (1, "active", [Reason.PAYMENT])
    plan.dispute(verdict)
    plan.settle()
    assert plan.told_free == 1, "the operator hears of the period that nobody pays"
    plan.settle()
    assert plan.told_free == 1
    assert (plan.is_paused, plan.ours) == (False, (False, False))
    plan.settle()
    stage.vendor.renew(plan.row.reference)
    plan.settle()
    assert (plan.paid, plan.row.state, plan.ours) == (2, "active", (False, False))
    assert plan.reasons == []
    assert stage.count("audit_log", "action LIKE 'renewals.%'") == 2


def test_a_dispute_that_ends_within_its_period_costs_nobody_anything(stage: Scene) -> None:
    plan = Plan(stage)
    for verdict in ("open", "won"):
        plan.dispute(verdict)
        plan.settle()
    assert (plan.is_paused, plan.ours, plan.told_free) == (False, (False, False), 0)


def test_where_a_dispute_does_not_suspend_renewals_go_on(stage: Scene) -> None:
    plan, ctx = Plan(stage), stage.ctx
    object.__setattr__(ctx, "settings", ctx.settings.model_copy(update={"suspend_on_dispute": False}))
    plan.dispute("open")
    plan.settle()
    assert (plan.is_paused, plan.ours, plan.reasons) == (False, (False, False), [])


def test_what_somebody_else_paused_stays_paused(stage: Scene) -> None:
    plan = Plan(stage)
    stage.vendor.pause(plan.row.reference)
    plan.settle()
    assert plan.ours == (True, False)
    for verdict in ("open", "won"):
        plan.dispute(verdict)
        plan.settle()
        assert (plan.is_paused, plan.ours) == (True, (True, False))


def test_a_vendor_that_is_away_is_asked_again(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(stage)
    plan.dispute("open")
    stage.settle(plan.begun)
    with monkeypatch.context() as trouble:
        trouble.setattr(Sandbox, "pause", _fail(ProviderError("away", code="sandbox_down")))
        with pytest.raises(ProviderError):
            renewals.align(stage.ctx, _checkout(plan.begun))
    assert (plan.is_paused, plan.ours) == (False, (False, True)), "written down before the vendor is asked"
    plan.settle()
    assert (plan.is_paused, plan.ours) == (True, (True, True))


def test_killed_between_the_vendor_and_our_note_it_is_released_all_the_same(stage: Scene) -> None:
    plan = Plan(stage)
    plan.dispute("open")
    stage.settle(plan.begun)  # decided, and killed before or after the vendor was asked
    assert plan.ours == (False, True)
    stage.vendor.pause(plan.row.reference)
    plan.dispute("won")
    plan.settle()
    assert (plan.is_paused, plan.ours) == (False, (False, False))


def test_a_won_dispute_that_was_never_held_leaves_nothing_behind(stage: Scene) -> None:
    plan = Plan(stage)
    plan.dispute("open")
    stage.settle(plan.begun)
    plan.dispute("won")
    plan.settle()
    assert (plan.is_paused, plan.ours) == (False, (False, False))


def test_a_vendor_that_refuses_for_good_is_told_once_and_settling_goes_on(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(stage)
    plan.dispute("open")
    monkeypatch.setattr(Sandbox, "pause", _fail(ProviderError("never", permanent=True, code="no")))
    for _ in range(2):
        plan.settle()
    assert plan.reasons == [Reason.PAYMENT]
    assert stage.count("notice", "key LIKE 'renewals:%'") == 1


def test_one_that_ends_meanwhile_is_let_go(stage: Scene) -> None:
    plan = Plan(stage)
    plan.dispute("open")
    plan.settle()
    stage.vendor.end(plan.row.reference)
    plan.settle()
    assert (plan.row.state, plan.row.held_at) == ("canceled", None)
    plan.dispute("won")
    plan.settle()


def test_reconciling_sees_and_mends_what_somebody_released(stage: Scene) -> None:
    plan = Plan(stage)
    plan.dispute("open")
    plan.settle()
    stage.ctx.clock.advance(vendors.YOUNG * 2)
    assert vendors.compare_subscriptions(stage.ctx) == []
    stage.vendor.resume(plan.row.reference)
    (one,) = vendors.compare_subscriptions(stage.ctx)
    assert (one.subject, one.problem) == (plan.row.id, "its renewals are charged though it is disputed")
    money.repair(stage.ctx, [one])
    plan.settle()  # what the repair asks for
    assert (plan.is_paused, plan.ours) == (True, (True, True))


def _fail(error: ProviderError) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise error

    return refuse
