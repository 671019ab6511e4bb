"""The operator hears of each dispute, each verdict and each payment that went back, once."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from clawhaven import ledger
from clawhaven.billing import checkouts, wallet
from clawhaven.billing.models import Checkout, Wallet
from clawhaven.billing.wallet import Auto, Level
from clawhaven.core.errors import PaymentRequired
from clawhaven.instances import states
from clawhaven.instances.states import Reason
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.workflows import access, balance, disputes, settlement, topups
from tests.workflows.scene import Scene

DOLLAR = 1_000_000
HOUR = timedelta(hours=1)


def test_each_turn_is_told_once(scene: Scene) -> None:
    begun = scene.live()
    assert begun.checkout
    for refunded, verdict in ((0, None), (5, None), (0, "open"), (0, "open"), (0, "won"), (29_000_000, None)):
        with scene.ctx.db.tx() as db:
            (receipt,) = checkouts.receipts_of(db, begun.checkout.id)
            receipt.dispute, receipt.refunded_micros = verdict, refunded
            db.flush()
            for _ in range(2):
                disputes.alert(db, scene.ctx, [receipt])
    assert scene.count("notice", "kind = 'alert'") == 3
    assert scene.count("notice", f"recipient = '{scene.ctx.settings.support_address}'") == 3


def test_a_question_of_a_bank_is_no_dispute(scene: Scene) -> None:
    begun = scene.live()
    assert begun.checkout
    subjects = {
        "inquiry": "is asked about by their bank: ada@example.com",
        "inquiry_closed": "was asked about by their bank, which has closed the matter: ada@example.com",
    }
    (payment,) = scene.vendor.fetch(scene.reference(begun)).payments
    for word, subject in subjects.items():
        due = scene.ctx.clock.now() + timedelta(days=9) if word == "inquiry" else None
        seen = scene.vendor.fetch(scene.reference(begun))
        seen = dataclasses.replace(seen, payments=(dataclasses.replace(payment, dispute=word, dispute_due_at=due),))
        for _ in range(2):
            with scene.ctx.db.tx() as db:
                settlement.equalise(db, scene.ctx, checkouts.get(db, begun.checkout.id), seen)
        assert scene.instance(begun.instance.id).state == "active"
        with scene.ctx.db.read() as db:
            (row,) = db.query(Notice).filter_by(kind="alert", subject=f"A payment of $29.00 {subject}")
            text = scene.ctx.keys.open(row.sealed_text, outbox.PURPOSE)
        assert ("Answer by: " in text, "It is not a dispute" in text) == (word == "inquiry",) * 2, text
    assert scene.count("notice", "kind = 'alert'") == 2
    with scene.ctx.db.tx() as db:
        (receipt,) = checkouts.receipts_of(db, begun.checkout.id)
        receipt.refunded_micros = receipt.amount_micros
        disputes.alert(db, scene.ctx, [receipt])
    assert scene.count("notice", "subject LIKE '%was given back in full%'") == 1


def test_the_operator_reads_who_how_much_until_when_and_where(scene: Scene) -> None:
    begun = scene.live()
    (payment,) = scene.vendor.fetch(scene.reference(begun)).payments
    scene.vendor.dispute(payment.reference, "open")
    scene.settle(begun)
    due = scene.ctx.clock.now() + timedelta(days=7)
    with scene.ctx.db.read() as db:
        (row,) = db.query(Notice).filter_by(kind="alert")
        text, subject = scene.ctx.keys.open(row.sealed_text, outbox.PURPOSE), row.subject
    assert subject == "A payment of $29.00 is disputed at their bank: ada@example.com"
    for part in (
        "Customer: ada@example.com\nAmount: $29.00\n",
        f"Answer by: {due.day} {due:%B %Y}",
        f"/admin/accounts/{begun.owner.account.id}\n",
        "no renewal is charged",
    ):
        assert part in text, text
    scene.vendor.dispute(payment.reference, "won")
    scene.settle(begun)
    assert scene.count("notice", "kind = 'alert' AND subject LIKE '%the dispute is won:%'") == 1


class Payer:
    """A metered customer with 10 dollars of credit and a top-up of 500."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.begun = scene, scene.live(plan="metered")
        self.account_id = self.begun.owner.account.id
        self.page: Checkout = topups.open_topup(scene.ctx, self.begun.owner, 500 * DOLLAR)
        scene.vendor.complete(self.page.reference or "", "paid")
        self.settle()

    def settle(self) -> None:
        ctx = self.scene.ctx
        for _ in range(2):
            seen = ctx.payments["sandbox"].fetch(self.page.reference or "")
            with ctx.db.tx() as db:
                settlement.equalise(db, ctx, checkouts.get(db, self.page.id), seen)
                assert ledger.check_books(db) == []

    def dispute(self, verdict: Any, part_micros: int | None = None) -> None:
        (payment,) = self.scene.vendor.fetch(self.page.reference or "").payments
        self.scene.vendor.dispute(payment.reference, verdict, part_micros)
        self.settle()

    def pass_by(self, time: timedelta) -> None:
        self.scene.ctx.clock.advance(time)
        topups.sweep(self.scene.ctx)

    def book(self, dollars: int, key: str) -> None:
        with self.scene.ctx.db.tx() as db:
            wallet_id, now = access.wallet_of(db, self.scene.ctx, self.account_id), self.scene.ctx.clock.now()
            one = {"key": key, "ledger_account_id": wallet_id, "amount_micros": abs(dollars) * DOLLAR, "now": now}
            if dollars > 0:
                ledger.credit(db, **one)
            else:
                ledger.debit(db, kind="usage", **one)
            balance.look(db, self.scene.ctx, self.account_id)

    @property
    def dollars(self) -> tuple[float, float]:
        """The balance, and what of it is held."""
        with self.scene.ctx.db.read() as db:
            found = ledger.balances(db, wallet.KIND)[self.account_id]
            return found.balance_micros / DOLLAR, found.held_micros / DOLLAR

    @property
    def row(self) -> Wallet:
        with self.scene.ctx.db.read() as db:
            return db.get_one(Wallet, self.account_id)

    @property
    def reasons(self) -> list[Reason]:
        return states.reasons(self.scene.instance(self.begun.instance.id))


@pytest.mark.parametrize("verdict", ["won", "lost"])
def test_a_disputed_top_up_is_not_spent_while_it_is_disputed(scene: Scene, verdict: str) -> None:
    payer = Payer(scene)
    payer.dispute("open")
    assert payer.dollars == (510, 500)
    with pytest.raises(PaymentRequired):
        payer.book(-1, "use")
    assert payer.row.level == Level.DEPLETED
    payer.pass_by(HOUR)
    assert payer.reasons == [Reason.BALANCE]
    payer.dispute(verdict)
    payer.pass_by(HOUR)
    assert payer.dollars == ((510, 0) if verdict == "won" else (10, 0))
    assert payer.reasons == ([] if verdict == "won" else [Reason.BALANCE])


def test_what_comes_in_or_free_meanwhile_is_set_aside_up_to_what_is_disputed(scene: Scene) -> None:
    payer = Payer(scene)
    payer.book(-450, "spent")
    with scene.ctx.db.tx() as db:
        wallet_id = access.wallet_of(db, scene.ctx, payer.account_id)
        ledger.hold(db, "call", wallet_id, 5 * DOLLAR, scene.ctx.clock.now() + HOUR, now=scene.ctx.clock.now())
    payer.dispute("open")
    assert payer.dollars == (60, 50), "45 are set aside, 5 are in use"
    with scene.ctx.db.tx() as db:
        ledger.settle(db, "call", 2 * DOLLAR, to="usage_revenue", now=scene.ctx.clock.now())
    payer.pass_by(timedelta(minutes=1))
    assert payer.dollars == (58, 48)
    payer.book(460, "more")
    assert payer.dollars == (518, 500)
    assert payer.row.level == Level.OK
    payer.book(-8, "use")
    payer.dispute("lost")
    assert payer.dollars == (10, 0)


@pytest.mark.parametrize("verdict", ["won", "lost"])
def test_of_a_top_up_only_what_is_disputed_is_set_aside_and_lost(scene: Scene, verdict: str) -> None:
    payer = Payer(scene)
    payer.dispute("open", 100 * DOLLAR)
    assert payer.dollars == (510, 100)
    assert payer.row.level == Level.OK
    payer.dispute(verdict)
    payer.pass_by(HOUR)
    assert payer.dollars == ((510, 0) if verdict == "won" else (410, 0))
    with scene.ctx.db.read() as db:
        texts = [
            scene.ctx.keys.open(one.sealed_text, outbox.PURPOSE) for one in db.query(Notice).filter_by(kind="alert")
        ]
    assert len(texts) == 2
    for text in texts:
        assert "Amount: $500.00\nDisputed of it: $100.00\n" in text


def test_a_refusal_meanwhile_is_forgotten_when_it_is_won(scene: Scene) -> None:
    payer = Payer(scene)
    payer.dispute("open")
    with scene.ctx.db.tx() as db:
        assert wallet.mark_refused(db, payer.account_id, scene.ctx.clock.now() + HOUR)
    payer.dispute("won")
    assert (payer.row.refused_at, payer.row.level) == (None, Level.OK)
    payer.pass_by(HOUR)
    assert payer.reasons == []


def test_where_the_operator_lets_it_count_only_the_alert_is_sent(scene: Scene) -> None:
    payer = Payer(scene)
    payer.dispute("open")
    object.__setattr__(scene.ctx, "settings", scene.ctx.settings.model_copy(update={"suspend_on_dispute": False}))
    topups.sweep(scene.ctx)
    assert payer.dollars == (510, 0), "what was set aside before comes free"
    payer.settle()
    assert payer.dollars == (510, 0)
    assert scene.count("notice", "kind = 'alert'") == 1


def test_no_automatic_top_up_while_one_is_disputed(scene: Scene) -> None:
    payer, ctx = Payer(scene), scene.ctx
    with ctx.db.tx() as db:
        balance.save_auto(
            db,
            ctx,
            payer.account_id,
            is_auto=True,
            threshold_micros=20 * DOLLAR,
            amount_micros=25 * DOLLAR,
            actor="user:ada",
        )
    payer.dispute("open")
    for _ in range(3):
        payer.pass_by(HOUR)
    assert (payer.row.auto_state, payer.row.auto_error) == (Auto.FAILED, balance.DISPUTED)
    assert scene.count("checkout", "kind = 'auto_topup'") == 0
    assert scene.count("notice", "kind = 'auto_topup_failed'") == 1
    payer.dispute("won")
    assert payer.row.auto_state == Auto.ARMED
