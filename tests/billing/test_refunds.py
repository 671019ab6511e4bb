"""What may be asked back of a payment: never more than is left, whatever is under way."""

from __future__ import annotations

import pytest

from clawhaven.billing import checkouts, refunds
from clawhaven.billing.models import Receipt
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, NotFound
from tests.workflows.scene import Scene

ME = "user:op"


def paid(scene: Scene) -> str:
    begun = scene.live()
    assert begun.checkout
    with scene.ctx.db.read() as db:
        (receipt,) = checkouts.receipts_of(db, begun.checkout.id)
        return receipt.id


def test_what_is_under_way_counts_and_what_failed_does_not(scene: Scene) -> None:
    receipt_id, now = paid(scene), scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        receipt = refunds.receipt_of(db, receipt_id)
        first = refunds.open_refund(db, receipt, 20_000_000, "They  asked.", ME, now)
        assert (first.reason, first.state, refunds.left_of(db, receipt)) == ("They asked.", "asked", 9_000_000)
        with pytest.raises(Invalid) as refused:
            refunds.open_refund(db, receipt, 9_010_000, "And more.", ME, now)
        assert refused.value.details["field"] == "amount"
        assert refunds.fail(db, first.id, "no", now)
        assert not refunds.fail(db, first.id, "no", now)
        assert refunds.left_of(db, receipt) == 29_000_000
        second = refunds.open_refund(db, receipt, 29_000_000, "All of it.", ME, now)
        receipt.refunded_micros = 29_000_000
        db.flush()
        assert refunds.finish(db, second.id, "re_1", now)
        assert not refunds.finish(db, second.id, "re_1", now)
        with pytest.raises(IllegalMove):
            refunds.fail(db, second.id, "late", now)
        assert refunds.left_of(db, receipt) == 0
        assert refunds.left_over(db, now) == []


@pytest.mark.parametrize(
    ("amount", "reason", "field"),
    [
        (0, "Sorry.", "amount"),
        (-1_000_000, "Sorry.", "amount"),
        (5_000, "Sorry.", "amount"),
        (29_010_000, "Sorry.", "amount"),
        (1_000_000, " x ", "reason"),
        (1_000_000, "x" * 301, "reason"),
    ],
)
def test_a_wrong_wish_names_its_field(scene: Scene, amount: int, reason: str, field: str) -> None:
    receipt_id = paid(scene)
    with scene.ctx.db.tx() as db, pytest.raises(Invalid) as refused:
        refunds.open_refund(db, refunds.receipt_of(db, receipt_id), amount, reason, ME, scene.ctx.clock.now())
    assert refused.value.details["field"] == field


def test_a_disputed_payment_and_an_unknown_one_are_refused(scene: Scene) -> None:
    receipt_id, now = paid(scene), scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        for verdict in ("open", "lost"):
            receipt = db.get_one(Receipt, receipt_id)
            receipt.dispute = verdict
            db.flush()
            with pytest.raises(Conflict):
                refunds.open_refund(db, refunds.receipt_of(db, receipt_id), 1_000_000, "Sorry.", ME, now)
        with pytest.raises(NotFound):
            refunds.receipt_of(db, "rcp_gone")
