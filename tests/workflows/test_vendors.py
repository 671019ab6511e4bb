"""A repair that does not help, and a word we do not know, are for a person."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from clawhaven.billing import subscriptions
from clawhaven.billing.models import Subscription
from clawhaven.ports.payments import ListedSubscription
from clawhaven.workflows import bookkeeping, money, vendors
from clawhaven.workflows.checkout import Begun
from clawhaven.workflows.vendors import Difference
from tests.workflows.scene import Scene

NIGHT = timedelta(days=1)


def listing(scene: Scene, monkeypatch: pytest.MonkeyPatch, *listed: ListedSubscription) -> None:
    """The same vendor, with another list of its subscriptions."""

    class Other:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def list_subscriptions(self) -> list[ListedSubscription]:
            return list(listed)

    real = scene.vendor
    monkeypatch.setattr(scene, "ctx", dataclasses.replace(scene.ctx, payments={"sandbox": Other()}))


def mine(scene: Scene, begun: Begun) -> Subscription:
    with scene.ctx.db.read() as db:
        row = subscriptions.of_checkout(db, begun.checkout.id)
    assert row is not None
    return row


def just_asked(scene: Scene) -> None:
    """The vendor answers for every subscription, as each hour."""
    with scene.ctx.db.tx() as db:
        db.execute(sa.update(Subscription).values(checked_at=scene.ctx.clock.now()))


def night(scene: Scene) -> Difference:
    """One nightly round; the one difference as it was found."""
    just_asked(scene)
    (found,) = vendors.compare_subscriptions(scene.ctx)
    money.repair(scene.ctx, [found])
    return found


def test_a_difference_that_settling_does_not_remove_goes_to_a_person(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = mine(scene, scene.live())
    listing(scene, monkeypatch, ListedSubscription(row.reference, "incomplete", row.checkout_id, None))
    scene.ctx.clock.advance(bookkeeping.PATIENCE)
    assert night(scene).is_safe
    assert night(scene).is_safe, "its settling is on its way"
    scene.ctx.clock.advance(NIGHT)
    second = night(scene)
    assert (second.is_safe, second.target) == (False, "")
    assert "did not help" in second.repair
    money.report(scene.ctx, [second])
    assert scene.count("notice", "key LIKE 'money:%'") == 1
    # A repair of long ago says nothing about the difference of today.
    scene.ctx.clock.advance(3 * NIGHT)
    assert night(scene).is_safe


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"current_period_end": timedelta(days=400)}, "its period is"),
        ({"current_period_start": timedelta(days=-3)}, "its period is"),
        ({"amount_micros": 31_000_000}, "$29.00 here and $31.00 at sandbox"),
        ({"plan": "yearly"}, "the plan personal here and yearly at sandbox"),
        ({"cancel_at_period_end": True}, "it goes on here and ends with its period at sandbox"),
    ],
)
def test_what_else_a_vendor_sees_otherwise_is_explained_and_settled(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], told: str
) -> None:
    row = mine(scene, scene.live())
    (one,) = scene.vendor.list_subscriptions()
    assert one.seen is not None
    moved = {
        name: getattr(one.seen, name) + value if isinstance(value, timedelta) else value
        for name, value in change.items()
    }
    seen = dataclasses.replace(one.seen, **moved)
    scene.ctx.clock.advance(bookkeeping.PATIENCE)
    assert vendors.compare_subscriptions(scene.ctx) == []
    listing(scene, monkeypatch, dataclasses.replace(one, seen=seen))
    (found,) = vendors.compare_subscriptions(scene.ctx)
    assert (found.subject, found.is_safe, found.target) == (row.id, True, row.checkout_id)
    assert told in found.problem
    scene.ctx.clock.advance(vendors.UNANSWERED)
    (late,) = vendors.compare_subscriptions(scene.ctx)
    assert (late.is_safe, told in late.problem) == (False, True)


def test_less_than_a_second_a_plan_we_do_not_know_and_silence_are_no_difference(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.live()
    (one,) = scene.vendor.list_subscriptions()
    assert one.seen is not None
    end = one.seen.current_period_end + timedelta(milliseconds=999)
    scene.ctx.clock.advance(bookkeeping.PATIENCE)
    for seen in (
        dataclasses.replace(one.seen, current_period_end=end, plan=None, amount_micros=None),
        dataclasses.replace(one.seen, plan="of another shop"),
        None,
    ):
        listing(scene, monkeypatch, dataclasses.replace(one, seen=seen))
        assert vendors.compare_subscriptions(scene.ctx) == []


def test_a_pause_that_nobody_here_asked_for_is_for_a_person(scene: Scene) -> None:
    row = mine(scene, scene.live())
    scene.vendor.pause(row.reference)
    scene.ctx.clock.advance(bookkeeping.PATIENCE)
    (found,) = vendors.compare_subscriptions(scene.ctx)
    assert (found.subject, found.is_safe) == (row.id, False)
    assert "charges no renewals" in found.problem


def test_so_does_a_paid_checkout_that_stays_open(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    scene.ctx.clock.advance(bookkeeping.PATIENCE)
    (first,) = vendors.find_paid_checkouts(scene.ctx)
    assert first.is_safe
    money.repair(scene.ctx, [first])
    scene.ctx.clock.advance(NIGHT)
    (second,) = vendors.find_paid_checkouts(scene.ctx)
    assert not second.is_safe


def test_a_word_that_is_not_ours_is_never_repaired_by_itself(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    row = mine(scene, scene.live())
    listing(scene, monkeypatch, ListedSubscription(row.reference, "hibernating", row.checkout_id, None))
    scene.ctx.clock.advance(bookkeeping.PATIENCE)
    found = night(scene)
    assert (found.is_safe, found.account_id) == (False, row.account_id)
    assert '"hibernating"' in found.problem
    assert scene.count("audit_log", "action = 'money.settle'") == 0
