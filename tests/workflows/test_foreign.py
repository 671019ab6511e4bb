"""A payment in another currency: nothing is given for it, it goes back whole, once, and nothing else stops for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from clawhaven.accounts import signup
from clawhaven.instances.states import State
from clawhaven.ledger import check_books
from clawhaven.ports.payments import ForeignPayment, VendorState
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import deletion, engine, payments, topups, vendors
from tests.workflows.scene import Scene


@pytest.fixture
def euros(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Payments of the sandbox that were made in euros: to be filled with references, or "all"."""
    foreign: set[str] = set()
    fetch = Sandbox.fetch

    def tell(vendor: Sandbox, reference: str) -> VendorState:
        seen = fetch(vendor, reference)
        strange = [one for one in seen.payments if foreign & {"all", one.reference}]
        return dataclasses.replace(
            seen,
            payments=tuple(one for one in seen.payments if one not in strange),
            foreign=tuple(
                ForeignPayment(one.reference, "29.00 EUR", one.refunded_micros == one.amount_micros) for one in strange
            ),
        )

    monkeypatch.setattr(Sandbox, "fetch", tell)
    return foreign


def test_an_order_paid_in_euros_ends_and_the_money_goes_back(scene: Scene, euros: set[str]) -> None:
    begun = scene.sign_up("ada@example.com")
    reference = scene.reference(begun)
    scene.vendor.complete(reference, "paid")
    euros.add("all")
    with engine.running(scene.ctx):
        with scene.ctx.db.tx() as db:
            payments.ask_settle(db, scene.ctx, begun.checkout.id)
        scene.wait(lambda: scene.count("instance", "state = 'deleted'") == 1)
        scene.wait(lambda: scene.vendor.list_subscriptions() == [])
        scene.wait(lambda: scene.vendor.fetch(reference).foreign[0].is_returned)
        with scene.ctx.db.tx() as db:
            scene.ctx.clock.advance(vendors.YOUNG * 2)
            payments.ask_settle(db, scene.ctx, begun.checkout.id)
        scene.wait(lambda: scene.count("workflow_status", "status IN ('PENDING', 'ENQUEUED')") == 0)
    assert scene.count("receipt") == scene.count("credit_grant") == 0
    assert scene.instance(begun.instance.id).paid_at is None
    subjects = [one.subject for one in scene.mailbox.letters]
    assert subjects.count("A payment of 29.00 EUR cannot be taken: ada@example.com") == 1
    assert subjects.count("We return your payment of 29.00 EUR") == 1
    assert vendors.find_paid_checkouts(scene.ctx) == []
    with scene.ctx.db.read() as db:
        assert check_books(db) == []


def test_a_renewal_in_euros_stops_no_mirror_and_no_deletion(scene: Scene, euros: set[str]) -> None:
    begun = scene.live("ada@example.com")
    (listed,) = scene.vendor.list_subscriptions()
    scene.vendor.renew(listed.reference)
    first, second = (one.reference for one in scene.vendor.fetch(scene.reference(begun)).payments)
    euros.add(second)
    scene.settle(begun)
    assert scene.count("receipt") == 1
    assert scene.instance(begun.instance.id).state == State.ACTIVE
    with engine.running(scene.ctx):
        with scene.ctx.db.tx() as db:
            deletion.begin(db, scene.ctx, signup.owner_of(db, begun.owner.account.id), "user:me")
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NOT NULL") == 1)
    seen = scene.vendor.fetch(scene.reference(begun))
    assert [one.is_returned for one in seen.foreign] == [True]
    assert [one.reference for one in seen.payments] == [first]


def test_a_top_up_in_euros_fills_no_balance(scene: Scene, euros: set[str]) -> None:
    begun = scene.live("ada@example.com")
    opened = topups.open_topup(scene.ctx, begun.owner, 10_000_000)
    reference = str(opened.reference)
    scene.vendor.complete(reference, "paid")
    euros.update(one.reference for one in scene.vendor.fetch(reference).payments)
    with engine.running(scene.ctx):
        with scene.ctx.db.tx() as db:
            payments.ask_settle(db, scene.ctx, opened.id)
        scene.wait(lambda: scene.vendor.fetch(reference).foreign[0].is_returned)
    assert scene.count("receipt") == 1, "the plan's alone"
    assert scene.count("checkout", "state = 'expired' AND last_outcome = 'cancelled'") == 1
