"""What was given back and comes to us again is ours, and the customer's, again: exactly, once, and told once."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from clawhaven import ledger
from clawhaven.billing import checkouts, credits, wallet
from clawhaven.billing.models import Receipt, Refund
from clawhaven.instances import states
from clawhaven.instances.states import Reason
from clawhaven.ports.payments import VendorState
from clawhaven.workflows import bookkeeping, margin, settlement, topups
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

DOLLAR = 1_000_000


class Payment:
    """A payment whose refunds come back: of a plan, or a top-up of 500 dollars."""

    def __init__(self, scene: Scene, begun: Begun, checkout_id: str) -> None:
        self.scene, self.begun, self.checkout_id = scene, begun, checkout_id
        self.account_id = begun.owner.account.id

    @classmethod
    def of_plan(cls, scene: Scene, plan: str = "metered") -> Payment:
        begun = scene.live(plan=plan)
        assert begun.checkout
        return cls(scene, begun, begun.checkout.id)

    @classmethod
    def of_topup(cls, scene: Scene) -> Payment:
        begun = scene.live(plan="metered")
        page = topups.open_topup(scene.ctx, begun.owner, 500 * DOLLAR)
        scene.vendor.complete(page.reference or "", "paid")
        made = cls(scene, begun, page.id)
        made.settle()
        return made

    def look(self) -> VendorState:
        with self.scene.ctx.db.read() as db:
            reference = checkouts.get(db, self.checkout_id).reference
        return self.scene.ctx.payments["sandbox"].fetch(reference or "")

    def settle(self, seen: VendorState | None = None, age: timedelta = timedelta()) -> None:
        """As after an event; `age`: so long ago the vendor was asked. Twice, and the books add up each time."""
        ctx, read = self.scene.ctx, seen or self.look()
        for _ in range(2):
            with ctx.db.tx() as db:
                known = checkouts.get(db, self.checkout_id)
                settlement.equalise(db, ctx, known, read, ctx.clock.now() - age)
                assert ledger.check_books(db) == []
        assert bookkeeping.find_unbooked(ctx) == []

    def give_back(self) -> None:
        self.scene.vendor.refund_rest(self.receipt.reference)
        self.settle()

    def come_back(self) -> None:
        self.scene.vendor.fail_refunds(self.receipt.reference)
        self.settle()

    @property
    def receipt(self) -> Receipt:
        with self.scene.ctx.db.read() as db:
            (found,) = checkouts.receipts_of(db, self.checkout_id)
        return found

    @property
    def dollars(self) -> float:
        with self.scene.ctx.db.read() as db:
            return ledger.balances(db, wallet.KIND)[self.account_id].balance_micros / DOLLAR

    @property
    def letters(self) -> tuple[int, int]:
        """To the operator and to the customer."""
        count = self.scene.count
        return count("notice", "key LIKE 'refund-undone:%'"), count("notice", "kind = 'refund_returned'")


def test_a_top_up_is_on_the_balance_again_however_often_it_goes_and_comes(scene: Scene) -> None:
    paid = Payment.of_topup(scene)
    for number in (1, 2, 3):
        paid.give_back()
        assert (paid.dollars, paid.receipt.refunded_micros) == (10, 500 * DOLLAR)
        paid.come_back()
        assert (paid.dollars, paid.receipt.refunded_micros, paid.receipt.returns) == (510, 0, number)
        assert paid.letters == (number, number)
    assert scene.count("ledger_entry", "kind = 'refund'") == 6


def test_a_plan_is_paid_again_with_its_credit_and_its_assistant(scene: Scene) -> None:
    paid = Payment.of_plan(scene)
    assert paid.dollars == 10
    paid.give_back()
    assert paid.dollars == 0
    assert Reason.PAYMENT in states.reasons(scene.instance(paid.begun.instance.id))
    before = scene.count("ledger_entry")
    paid.come_back()
    assert paid.dollars == 10
    assert Reason.PAYMENT not in states.reasons(scene.instance(paid.begun.instance.id))
    assert scene.count("ledger_entry") == before + 3
    now = scene.ctx.clock.now()
    with scene.ctx.db.read() as db:
        total = margin.report(db, scene.ctx, f"{now:%Y-%m}").total
    assert (total.subscription_micros, total.refunded_micros, total.credits_micros) == (20 * DOLLAR, 0, 10 * DOLLAR)
    # What is left of the credit ends with its period, as if nothing had happened.
    with scene.ctx.db.read() as db:
        (grant,) = credits.of_account(db, paid.account_id)
    assert grant.expires_at
    scene.ctx.clock.advance(grant.expires_at - now + timedelta(minutes=1))
    topups.sweep(scene.ctx)
    assert paid.dollars == 0
    assert paid.letters == (1, 1)


def test_credit_of_a_period_that_is_over_is_not_given_again(scene: Scene) -> None:
    paid = Payment.of_plan(scene)
    paid.give_back()
    scene.ctx.clock.advance(timedelta(days=40))
    paid.come_back()
    assert paid.dollars == 0
    assert paid.letters == (1, 1)


def test_what_was_asked_before_the_refund_was_booked_does_not_take_it_back(scene: Scene) -> None:
    paid = Payment.of_topup(scene)
    before = paid.look()
    scene.ctx.clock.advance(timedelta(minutes=1))
    paid.give_back()
    paid.settle(before, age=timedelta(seconds=30))
    assert (paid.dollars, paid.receipt.returns, paid.letters) == (10, 0, (0, 0))
    scene.ctx.clock.advance(timedelta(minutes=1))
    paid.settle(before)
    assert (paid.dollars, paid.receipt.returns) == (510, 1)


def test_a_lost_dispute_that_is_decided_anew(scene: Scene) -> None:
    paid = Payment.of_topup(scene)
    for verdict in ("open", "lost"):
        scene.vendor.dispute(paid.receipt.reference, verdict)  # type: ignore[arg-type]
        paid.settle()
    assert paid.dollars == 10
    seen = paid.look()
    (one,) = seen.payments
    paid.settle(dataclasses.replace(seen, payments=(dataclasses.replace(one, dispute="won", refunded_micros=0),)))
    assert (paid.dollars, paid.letters) == (510, (1, 1))


@pytest.mark.parametrize("is_whole", [True, False])
def test_the_operators_refund_has_failed_after_all_and_can_be_made_again(scene: Scene, is_whole: bool) -> None:
    paid, now = Payment.of_topup(scene), scene.ctx.clock.now()
    amount = (500 if is_whole else 40) * DOLLAR
    with scene.ctx.db.tx() as db:
        receipt = db.get_one(Receipt, paid.receipt.id)
        terms = {"account_id": receipt.account_id, "receipt_id": receipt.id, "actor": "user:op", "created_at": now}
        db.add(Refund(id="ref_1", amount_micros=amount, reason="Asked.", state="done", ended_at=now, **terms))
    scene.vendor.refund(paid.receipt.reference, amount, "ref_1")
    paid.settle()
    assert paid.dollars == 510 - amount / DOLLAR
    paid.come_back()
    with scene.ctx.db.read() as db:
        assert db.get_one(Refund, "ref_1").state == "failed"
    assert (paid.dollars, paid.letters) == (510, (1, 1))


def test_an_older_answer_lifts_no_dispute(scene: Scene) -> None:
    paid = Payment.of_plan(scene)
    before = paid.look()
    scene.vendor.dispute(paid.receipt.reference, "open")
    paid.settle()
    (known,) = before.payments
    unseen = dataclasses.replace(before, payments=(dataclasses.replace(known, refunded_micros=None),))
    for answer, age in ((before, timedelta(minutes=1)), (unseen, timedelta())):
        paid.settle(answer, age)
        assert paid.receipt.dispute == "open"
        assert paid.receipt.period_start_at == known.period_start
        assert Reason.PAYMENT in states.reasons(scene.instance(paid.begun.instance.id))
    scene.vendor.dispute(paid.receipt.reference, "won")
    paid.settle()
    assert Reason.PAYMENT not in states.reasons(scene.instance(paid.begun.instance.id))


def test_an_older_answer_gives_nothing_back_again(scene: Scene) -> None:
    paid = Payment.of_topup(scene)
    paid.give_back()
    gone = paid.look()
    paid.come_back()
    paid.settle(gone, timedelta(minutes=1))
    assert (paid.dollars, paid.receipt.refunded_micros) == (510, 0)
    paid.settle(gone)
    assert paid.dollars == 10, "the vendor says so now"
