"""A refund from the wish to the books: once at the vendor, once in the ledger, once in the mail."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta

import pytest

from clawhaven.billing import checkouts
from clawhaven.billing.models import Receipt, Refund
from clawhaven.core.errors import Invalid
from clawhaven.ledger import check_books
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability
from clawhaven.workflows import engine, refunds
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

ME = "user:op"


@pytest.fixture
def running(scene: Scene) -> Iterator[Scene]:
    """The scene with its engine at work."""
    with engine.running(scene.ctx):
        yield scene


@pytest.fixture
def stepping(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps called here and now find the scene."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    return scene


def receipt_of(scene: Scene, begun: Begun) -> Receipt:
    assert begun.checkout
    with scene.ctx.db.read() as db:
        (receipt,) = checkouts.receipts_of(db, begun.checkout.id)
        return receipt


def ask(scene: Scene, begun: Begun, amount: int) -> str:
    with scene.ctx.db.tx() as db:
        return refunds.ask(db, scene.ctx, receipt_of(scene, begun).id, amount, "They asked.", ME).id


def row(scene: Scene, refund_id: str) -> Refund:
    with scene.ctx.db.read() as db:
        return db.get_one(Refund, refund_id)


def test_a_refund_is_done_and_booked_once_and_told(running: Scene) -> None:
    scene = running
    begun = scene.live()
    wanted = [ask(scene, begun, 4_000_000), ask(scene, begun, 5_000_000)]
    scene.wait(lambda: all(row(scene, one).state == "done" for one in wanted))
    assert receipt_of(scene, begun).refunded_micros == 9_000_000
    assert all(row(scene, one).reference for one in wanted)
    assert scene.count("ledger_entry", "kind = 'refund'") == 2
    assert scene.count("notice", "kind = 'refund_sent'") == 2
    assert scene.count("audit_log", "action = 'refund.done'") == 2
    with scene.ctx.db.read() as db:
        assert check_books(db) == []


def test_every_step_twice_is_one_refund(stepping: Scene) -> None:
    scene = stepping
    begun = scene.live()
    wanted = ask(scene, begun, 29_000_000)
    with pytest.raises(Invalid):
        ask(scene, begun, 10_000)
    references = {refunds.send_refund(wanted) for _ in range(3)}
    assert len(references) == 1
    (reference,) = references
    assert reference
    for _ in range(2):
        scene.settle(begun)
        refunds.close_refund(wanted, reference)
    assert receipt_of(scene, begun).refunded_micros == 29_000_000
    assert scene.count("notice", "kind = 'refund_sent'") == 1
    assert scene.count("ledger_entry", "kind = 'refund'") == 1


def test_a_refusal_for_good_is_told_to_the_operator_and_frees_the_amount(stepping: Scene) -> None:
    scene = stepping
    begun = scene.live()
    wanted = ask(scene, begun, 29_000_000)
    scene.vendor.refund(receipt_of(scene, begun).reference, 20_000_000, "by hand")
    for _ in range(2):
        assert refunds.send_refund(wanted) is None
    assert row(scene, wanted).state == "failed"
    assert row(scene, wanted).error
    assert scene.count("notice", "key LIKE 'refund-failed:%'") == 1
    scene.settle(begun)
    assert refunds.send_refund(ask(scene, begun, 9_000_000))


def test_a_vendor_that_is_down_is_asked_again_later(stepping: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = stepping
    begun = scene.live()
    wanted = ask(scene, begun, 1_000_000)
    assert refunds.ask_again(scene.ctx) == 0
    scene.ctx.clock.advance(timedelta(minutes=16))
    assert refunds.ask_again(scene.ctx) == 0, "its workflow is still to come"
    monkeypatch.setattr(engine, "is_over", lambda ctx, workflow_id: True)
    assert refunds.ask_again(scene.ctx) == 1
    assert scene.count("workflow_status", f"workflow_uuid LIKE 'refund:{wanted}%'") == 2


def test_it_is_done_only_once_the_books_have_it(stepping: Scene) -> None:
    scene = stepping
    begun = scene.live()
    wanted = ask(scene, begun, 4_000_000)
    reference = refunds.send_refund(wanted)
    assert reference
    refunds.close_refund(wanted, reference)
    assert row(scene, wanted).state == "asked", "the vendor said yes, and its books were not read since"
    scene.settle(begun)
    for _ in range(2):
        refunds.close_refund(wanted, reference)
    assert row(scene, wanted).state == "done"
    assert refunds.send_refund(wanted) == reference, "who comes late asks nobody"
    assert scene.count("notice", "kind = 'refund_sent'") == 1


def test_one_that_never_shows_at_the_vendor_is_for_a_person(stepping: Scene) -> None:
    scene = stepping
    wanted = ask(scene, scene.live(), 4_000_000)
    scene.ctx.clock.advance(refunds.UNSEEN - timedelta(minutes=1))
    refunds.close_refund(wanted, "re_lost")
    assert row(scene, wanted).state == "asked"
    scene.ctx.clock.advance(timedelta(minutes=2))
    for _ in range(2):
        refunds.close_refund(wanted, "re_lost")
    assert row(scene, wanted).state == "failed"
    assert scene.count("notice", "key LIKE 'refund-failed:%'") == 1
    assert scene.count("notice", "kind = 'refund_sent'") == 0


def test_one_that_the_bank_sends_back_fails_and_is_told_once(stepping: Scene) -> None:
    scene = stepping
    begun = scene.live()
    wanted = [ask(scene, begun, amount) for amount in (4_000_000, 5_000_000)]
    for one in wanted:
        reference = refunds.send_refund(one)
        assert reference
        scene.settle(begun)
        refunds.close_refund(one, reference)
    assert refunds.fail_returned(scene.ctx) == 0
    scene.ctx.clock.advance(timedelta(days=20))
    with scene.ctx.db.tx() as db:
        db.get_one(Receipt, receipt_of(scene, begun).id).refunded_micros = 5_000_000
    assert [refunds.fail_returned(scene.ctx) for _ in range(3)] == [1, 0, 0]
    assert [row(scene, one).state for one in wanted] == ["failed", "done"]
    assert scene.count("notice", f"key = 'refund-failed:{wanted[0]}'") == 1
    assert scene.count("audit_log", "action = 'refund.fail'") == 1


def test_a_vendor_that_cannot_refund_is_said_so_with_its_dashboard(scene: Scene) -> None:
    begun = scene.live()

    class KeepingPayments:
        name = "sandbox"
        capabilities = frozenset(Capability) - {Capability.REFUND}

        def refund(self, *args: object) -> str:
            raise ProviderError("not offered", permanent=True, code="not_offered")

    ctx = dataclasses.replace(scene.ctx, payments={"sandbox": KeepingPayments()})  # type: ignore[dict-item]
    with scene.ctx.db.tx() as db, pytest.raises(Invalid, match="dashboard") as refused:
        refunds.ask(db, ctx, receipt_of(scene, begun).id, 1_000_000, "They asked.", ME)
    assert refused.value.details["field"] == "receipt"
    assert scene.count("refund") == 0
