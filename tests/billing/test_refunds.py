"""What may be asked back of a payment: never more than is left, whatever is under way."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clawhaven.billing import checkouts, refunds
from clawhaven.billing.models import Receipt, Refund
from clawhaven.core.errors import Conflict, Invalid, NotFound
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
        assert not refunds.fail(db, second.id, "late", now), "a refusal that comes late changes nothing"
        assert refunds.left_of(db, receipt) == 0
        assert refunds.left_over(db, now) == []


def done(scene: Scene, receipt_id: str, *amounts: int) -> list[str]:
    """Refunds of these amounts, done one after the other."""
    ids, now = [], scene.ctx.clock.now()
    for number, amount in enumerate(amounts):
        with scene.ctx.db.tx() as db:
            receipt = refunds.receipt_of(db, receipt_id)
            row = refunds.open_refund(db, receipt, amount, "Sorry.", ME, now)
            assert not refunds.is_seen(db, row)
            receipt.refunded_micros += amount
            db.flush()
            assert refunds.is_seen(db, row)
            refunds.finish(db, row.id, f"re_{number}", now + timedelta(minutes=number))
        ids.append(row.id)
    return ids


@pytest.mark.parametrize(
    ("told", "failed"),
    [
        (12_000_000, []),
        (20_000_000, []),
        (7_000_000, [1]),
        (9_000_000, [0]),
        (8_000_000, [2]),
        (11_000_000, [2]),
        (5_000_000, [2, 0]),
        (0, [2, 1, 0]),
    ],
)
def test_what_the_vendor_takes_back_fails_once(scene: Scene, told: int, failed: list[int]) -> None:
    receipt_id, now = paid(scene), scene.ctx.clock.now()
    ids = done(scene, receipt_id, 3_000_000, 5_000_000, 4_000_000)
    with scene.ctx.db.tx() as db:
        receipt = refunds.receipt_of(db, receipt_id)
        assert [row.id for row in refunds.undo(db, receipt, told, now)] == [ids[number] for number in failed]
        assert refunds.undo(db, receipt, told, now) == []
        assert [db.get_one(Refund, one).state for one in ids] == [
            "failed" if number in failed else "done" for number in range(3)
        ]


def test_only_what_is_overstated_is_looked_at(scene: Scene) -> None:
    receipt_id, now = paid(scene), scene.ctx.clock.now()
    done(scene, receipt_id, 3_000_000, 5_000_000)
    with scene.ctx.db.tx() as db:
        assert refunds.overstated(db, now) == []
        refunds.receipt_of(db, receipt_id).refunded_micros = 5_000_000
        db.flush()
        assert [one.id for one in refunds.overstated(db, now)] == [receipt_id]
        assert refunds.overstated(db, now + timedelta(hours=1)) == []


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
