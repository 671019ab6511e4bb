"""Charges that are not wanted any more, that were refused, or whose money is on its way: never twice, told once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from clawhaven.billing import checkouts
from clawhaven.billing.models import Checkout
from clawhaven.billing.wallet import Auto
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import ChargeRequest
from clawhaven.providers.payments.sandbox_trouble import Trouble
from clawhaven.workflows import balance, engine, payments, topups
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene
from tests.workflows.test_topups import (
    DOLLAR,
    act,
    become,
    begun,
    charge,
    dollars,
    hurried,
    letters,
    move,
    row,
    save,
)

__all__ = ["begun", "hurried"]


def test_a_refusal_after_a_lost_answer_leaves_the_charge_open_and_asks_the_operator_once(
    hurried: Scene, begun: Begun
) -> None:
    save(hurried, begun)
    move(hurried, begun, -16)
    pending = charge(hurried, begun)
    assert pending is not None
    customer = hurried.vendor.fetch(hurried.reference(begun)).customer_reference
    asked = ChargeRequest(pending.id, customer or "", pending.amount_micros, "credit", {"checkout": pending.id})
    made = hurried.vendor.charge_saved(asked)
    become(hurried, "scus_gone")
    for _ in range(3):
        act(hurried, begun)
        hurried.ctx.clock.advance(topups.STUCK)
        topups.sweep(hurried.ctx)
    assert letters(hurried) == [], "whether it was charged is not known"
    assert hurried.count("notice", f"key = 'charge-unclear:{pending.id}' AND kind = 'alert'") == 1
    known = charge(hurried, begun)
    assert known is not None
    assert (known.id, known.state, known.reference) == (pending.id, "open", None)
    assert row(hurried, begun).auto_state == Auto.FIRED
    with hurried.ctx.db.tx() as db:
        checkouts.attach(db, pending.id, made.reference, made.url)
    act(hurried, begun)
    assert dollars(hurried, begun) == 39
    assert row(hurried, begun).auto_state == Auto.ARMED


def test_nothing_is_tried_again_once_a_vendor_may_have_forgotten_the_key(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    move(hurried, begun, -16)
    hurried.ctx.clock.advance(checkouts.LIFE)
    topups.sweep(hurried.ctx)
    assert hurried.count("workflow_status", "name = 'charge_topup'") == 1


def test_what_was_switched_off_is_not_charged(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    move(hurried, begun, -16)
    pending = charge(hurried, begun)
    save(hurried, begun, is_auto=False)
    assert act(hurried, begun) == "refused"
    known = charge(hurried, begun)
    assert known is not None
    assert pending is not None
    assert (known.id, known.state, known.reference) == (pending.id, "expired", None)
    assert (row(hurried, begun).auto_state, letters(hurried), dollars(hurried, begun)) == (Auto.ARMED, [], 14)
    save(hurried, begun)
    assert act(hurried, begun) == "paid"
    assert dollars(hurried, begun) == 39


def test_what_was_charged_before_it_was_switched_off_is_booked(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    move(hurried, begun, -16)
    pending = charge(hurried, begun)
    assert pending is not None
    engine._context = hurried.ctx
    assert topups.charge(pending.id)
    engine._context = None
    save(hurried, begun, is_auto=False)
    assert act(hurried, begun) == "paid"
    assert dollars(hurried, begun) == 39


def test_what_expired_is_not_charged(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    move(hurried, begun, -16)
    pending = charge(hurried, begun)
    assert pending is not None
    with hurried.ctx.db.tx() as db:
        checkouts.expire(db, pending.id, hurried.ctx.clock.now())
    assert act(hurried, begun) == "refused"
    assert dollars(hurried, begun) == 14


def test_what_is_to_be_charged_waits_for_no_dispute(hurried: Scene, begun: Begun) -> None:
    page = topups.open_topup(hurried.ctx, begun.owner, 20 * DOLLAR)
    hurried.vendor.complete(page.reference or "", "paid")
    engine._context = hurried.ctx
    payments.settle_checkout(page.id)
    engine._context = None
    save(hurried, begun)
    move(hurried, begun, -36)
    (paid,) = hurried.vendor.fetch(page.reference or "").payments
    hurried.vendor.dispute(paid.reference, "open")
    engine._context = hurried.ctx
    payments.settle_checkout(page.id)
    engine._context = None
    assert act(hurried, begun) == "refused"
    (text,) = letters(hurried)
    assert balance.DISPUTED in text
    assert dollars(hurried, begun) == 14
    assert row(hurried, begun).auto_state == Auto.FAILED


def test_money_that_is_on_its_way_is_waited_for(hurried: Scene, begun: Begun) -> None:
    ctx = dataclasses.replace(hurried.ctx, payments={"sandbox": Slow(hurried.ctx.payments["sandbox"])})
    scene = dataclasses.replace(hurried, ctx=ctx)
    save(scene, begun)
    move(scene, begun, -16)
    for _ in range(3):
        assert act(scene, begun) == "processing"
        scene.ctx.clock.advance(topups.STUCK)
        topups.sweep(scene.ctx)
    known = charge(scene, begun)
    assert known is not None
    assert (known.state, row(scene, begun).auto_state, letters(scene)) == ("open", Auto.FIRED, [])
    assert act(hurried, begun) == "paid"
    assert dollars(hurried, begun) == 39


class Slow:
    """The sandbox vendor as one whose bank takes days."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def fetch(self, reference: str) -> Any:
        return dataclasses.replace(self._real.fetch(reference), checkout_state="processing", payments=())


class Deaf:
    """The sandbox vendor as one whose answers to charges are lost on their way."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def charge_saved(self, request: ChargeRequest) -> Any:
        self._real.charge_saved(request)
        raise ProviderError("The connection was closed.", code="sandbox_down")


@pytest.fixture
def unheard(hurried: Scene, begun: Begun) -> Checkout:
    """A crossing that was charged, and nobody here knows."""
    save(hurried, begun)
    move(hurried, begun, -16)
    ctx = dataclasses.replace(hurried.ctx, payments={"sandbox": Deaf(hurried.ctx.payments["sandbox"])})
    assert act(dataclasses.replace(hurried, ctx=ctx), begun) == "sandbox_down"
    known = charge(hurried, begun)
    assert known is not None
    assert (known.state, known.reference) == ("open", None)
    return known


@pytest.mark.parametrize("is_on_again", [True, False])
def test_a_crossing_is_charged_once_though_it_is_switched_off_and_on(
    hurried: Scene, begun: Begun, unheard: Checkout, is_on_again: bool
) -> None:
    save(hurried, begun, is_auto=False)
    if is_on_again:
        save(hurried, begun)
    known = charge(hurried, begun)
    assert known is not None
    assert (known.id, known.state, row(hurried, begun).auto_state) == (unheard.id, "open", Auto.FIRED)
    assert act(hurried, begun) == "paid"
    save(hurried, begun)
    assert (dollars(hurried, begun), row(hurried, begun).auto_count) == (39, 1)
    assert hurried.count("receipt", "amount_micros = 25000000") == 1
    assert row(hurried, begun).auto_state == Auto.ARMED


def test_what_was_charged_before_a_dispute_is_booked(hurried: Scene, begun: Begun, unheard: Checkout) -> None:
    page = topups.open_topup(hurried.ctx, begun.owner, 20 * DOLLAR)
    hurried.vendor.complete(page.reference or "", "paid")
    (paid,) = hurried.vendor.fetch(page.reference or "").payments
    hurried.vendor.dispute(paid.reference, "open")
    engine._context = hurried.ctx
    payments.settle_checkout(page.id)
    engine._context = None
    assert act(hurried, begun) == "paid"
    assert (dollars(hurried, begun), letters(hurried)) == (59, [])


def test_what_a_vendor_may_still_be_charging_is_given_up_only_later(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    move(hurried, begun, -16)
    hurried.vendor.make_trouble(Trouble(is_down=True))
    assert act(hurried, begun) == "sandbox_down"
    hurried.vendor.make_trouble(Trouble())
    save(hurried, begun, is_auto=False)
    for state, auto in (("open", Auto.FIRED), ("expired", Auto.ARMED)):
        assert act(hurried, begun) == "refused"
        known = charge(hurried, begun)
        assert known is not None
        assert (known.state, row(hurried, begun).auto_state) == (state, auto)
        hurried.ctx.clock.advance(topups.STUCK)
    save(hurried, begun)
    assert act(hurried, begun) == "paid"
    assert (dollars(hurried, begun), row(hurried, begun).auto_count) == (39, 2)
