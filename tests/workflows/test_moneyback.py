"""Giving up on an assistant that failed: the money goes back once, the subscription ends, nothing is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from clawhaven.billing import checkouts
from clawhaven.billing.models import Receipt
from clawhaven.core.errors import Conflict
from clawhaven.instances import states
from clawhaven.ledger import check_books
from clawhaven.ports.payments import Capability
from clawhaven.workflows import engine, moneyback
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

PRICE = 29_000_000


@pytest.fixture
def running(scene: Scene) -> Iterator[Scene]:
    """The scene with its engine at work."""
    with engine.running(scene.ctx):
        yield scene


def fail(scene: Scene, begun: Begun) -> None:
    with scene.ctx.db.tx() as db:
        states.fail(db, begun.instance.id, scene.ctx.clock.now(), "not_ready", "It was too slow.")


def failed(scene: Scene, **changes: str) -> Begun:
    begun = scene.sign_up(**changes)
    scene.pay(begun)
    fail(scene, begun)
    return begun


def offered(scene: Scene, begun: Begun) -> int | None:
    with scene.ctx.db.read() as db:
        return moneyback.offered_micros(db, scene.ctx, scene.instance(begun.instance.id))


def give_up(scene: Scene, begun: Begun) -> int:
    with scene.ctx.db.tx() as db:
        return moneyback.give_up(db, scene.ctx, begun.instance.id, f"user:{begun.owner.user.id}")


def receipt_of(scene: Scene, begun: Begun) -> Receipt:
    assert begun.checkout
    with scene.ctx.db.read() as db:
        (receipt,) = checkouts.receipts_of(db, begun.checkout.id)
        return receipt


def test_what_was_paid_goes_back_once_and_the_order_ends(running: Scene) -> None:
    scene = running
    begun = failed(scene)
    assert offered(scene, begun) == PRICE
    assert give_up(scene, begun) == PRICE
    with pytest.raises(Conflict) as refused:
        give_up(scene, begun)
    assert refused.value.error_code == "no_money_back"
    scene.wait(lambda: scene.instance(begun.instance.id).state == "deleted")
    scene.wait(lambda: scene.count("refund", "state = 'done'") == 1)
    assert receipt_of(scene, begun).refunded_micros == PRICE
    assert scene.vendor.fetch(scene.reference(begun)).subscription.state == "canceled"  # type: ignore[union-attr]
    assert scene.count("ledger_entry", "kind = 'refund'") == 1
    assert scene.count("notice", "key LIKE 'given-up:%'") == 1
    with scene.ctx.db.read() as db:
        assert check_books(db) == []
        assert moneyback.returned_micros(db, scene.instance(begun.instance.id)) == PRICE


def test_included_credit_goes_with_its_period(running: Scene) -> None:
    scene = running
    begun = failed(scene, plan="metered")
    assert give_up(scene, begun) == 20_000_000
    scene.wait(lambda: scene.count("refund", "state = 'done'") == 1)
    with scene.ctx.db.read() as db:
        assert check_books(db) == []


def test_asked_for_and_deleted_together_or_not_at_all(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = failed(scene)

    def die(*_args: object) -> None:
        raise RuntimeError("killed here")

    monkeypatch.setattr(moneyback.lifecycle, "ask_delete", die)
    with pytest.raises(RuntimeError):
        give_up(scene, begun)
    assert scene.count("refund") == 0
    assert offered(scene, begun) == PRICE


def test_where_a_person_has_to_decide_it_is_not_offered(scene: Scene) -> None:
    lived = scene.live("lived@example.com")
    assert offered(scene, lived) is None
    unpaid = scene.sign_up("unpaid@example.com")
    assert offered(scene, unpaid) is None
    disputed = failed(scene, email="disputed@example.com")
    with scene.ctx.db.tx() as db:
        db.get_one(Receipt, receipt_of(scene, disputed).id).dispute = "open"
    assert offered(scene, disputed) is None
    with pytest.raises(Conflict):
        give_up(scene, disputed)
    assert scene.count("refund") == 0


def test_a_vendor_that_gives_nothing_back_is_left_to_the_operator(scene: Scene) -> None:
    begun = failed(scene)

    class KeepingVendor:
        name = "sandbox"
        capabilities = scene.vendor.capabilities - {Capability.REFUND}

    scene.ctx = dataclasses.replace(scene.ctx, payments={"sandbox": KeepingVendor()})  # type: ignore[dict-item]
    assert offered(scene, begun) is None
