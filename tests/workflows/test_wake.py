"""The owner's start, from everywhere it can be pressed."""

from __future__ import annotations

import pytest

from clawhaven.billing import subscriptions
from clawhaven.core.errors import PaymentRequired
from clawhaven.instances import operations, states
from clawhaven.instances.states import Reason, State
from clawhaven.workflows import lifecycle, wake
from tests.workflows.scene import Scene


def start(scene: Scene, instance_id: str) -> str:
    with scene.ctx.db.tx() as db:
        return wake.ask_start(db, scene.ctx, instance_id, "user:me").kind


def test_a_failed_one_that_is_paid_for_is_tried_again_and_one_that_is_not_is_not(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.pay(begun)
    with scene.ctx.db.tx() as db:
        busy = operations.under_way(db, begun.instance.id)
        assert busy is not None
        states.fail(db, begun.instance.id, scene.ctx.clock.now(), "disk_full", "Full.")
        operations.close(db, busy.id, scene.ctx.clock.now(), "disk_full", "Full.")
    assert start(scene, begun.instance.id) == "provision"
    assert scene.instance(begun.instance.id).state == State.PROVISIONING
    with scene.ctx.db.tx() as db:
        states.fail(db, begun.instance.id, scene.ctx.clock.now(), "disk_full", "Full.")
        row = subscriptions.of_instance(db, begun.instance.id)
    assert row is not None
    scene.vendor.end(row.reference)
    scene.settle(begun)
    with pytest.raises(PaymentRequired):
        start(scene, begun.instance.id)
    assert scene.instance(begun.instance.id).state == State.FAILED


def test_a_stopped_one_wakes_and_one_whose_resume_failed_is_asked_again(scene: Scene) -> None:
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        lifecycle.ask_suspend(db, scene.ctx, begun.instance.id, Reason.OWNER, "user:me")
    assert start(scene, begun.instance.id) == "resume"
    with scene.ctx.db.tx() as db:
        for row in operations.queued(db, begun.instance.id):
            operations.close(db, row.id, scene.ctx.clock.now(), "not_ready", "It did not come up.")
    assert scene.instance(begun.instance.id).state == State.SUSPENDED
    assert start(scene, begun.instance.id) == "resume"
    assert scene.count("operation", "kind = 'resume'") == 2


def test_a_running_one_just_runs(scene: Scene) -> None:
    begun = scene.live()
    before = scene.count("operation")
    assert start(scene, begun.instance.id) == "provision", "what brought it up"
    assert scene.count("operation") == before


@pytest.mark.parametrize(
    ("reason", "way"), [(Reason.PAYMENT, "/billing"), (Reason.BALANCE, "/topup"), (Reason.ABUSE, "")]
)
def test_a_suspended_one_stays_so_and_says_why_and_where_to_pay(scene: Scene, reason: Reason, way: str) -> None:
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        lifecycle.ask_suspend(db, scene.ctx, begun.instance.id, reason, "system")
    with pytest.raises(PaymentRequired, match=f"is paused: {states.BECAUSE[reason]}") as refused:
        start(scene, begun.instance.id)
    assert refused.value.error_code == "suspended"
    assert refused.value.details["reasons"] == [str(reason)]
    url = refused.value.details["pay_url"]
    assert url == (f"{scene.ctx.settings.base_url}{way}" if way else None)
    assert (url or scene.ctx.settings.support_address) in refused.value.message
    assert scene.instance(begun.instance.id).state == State.SUSPENDED
    assert scene.count("operation", "kind = 'resume'") == 0


@pytest.mark.parametrize(
    ("state", "way"),
    [("past_due", "https://pay.example/invoice"), ("unpaid", "https://pay.example/invoice"), ("canceled", "/billing")],
)
def test_what_is_owed_is_paid_at_the_vendor_s_page_while_that_helps(scene: Scene, state: str, way: str) -> None:
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        row = subscriptions.of_instance(db, begun.instance.id)
        assert row is not None
        row.pay_url, row.state = "https://pay.example/invoice", state
        lifecycle.ask_suspend(db, scene.ctx, begun.instance.id, Reason.PAYMENT, "system")
    with pytest.raises(PaymentRequired) as refused:
        start(scene, begun.instance.id)
    url = refused.value.details["pay_url"]
    assert url == (way if way.startswith("https") else f"{scene.ctx.settings.base_url}{way}")
    assert url in refused.value.message
