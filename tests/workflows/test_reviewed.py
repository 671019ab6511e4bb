"""Sequences that a review found broken, each as it broke: lost entitlement, failed work, renewals, races."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.accounts import links
from clawhaven.billing import subscriptions
from clawhaven.core.errors import AppError, PaymentRequired
from clawhaven.instances import operations, states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.ledger import check_books
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.sandbox_trouble import Trouble
from clawhaven.workflows import attempts, deletion, engine, lifecycle, payments, provision, reconcile, settlement, wake
from tests.workflows.scene import TOKEN, Scene


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Steps can be called by themselves: their Context is this scene's."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    return scene


def _operation(scene: Scene, instance_id: str, kind: str) -> str:
    with scene.ctx.db.read() as db:
        found = operations.latest(db, instance_id, kind)
    assert found is not None
    return found.id


def test_a_subscription_that_ends_while_provisioning_leaves_nothing_running_unpaid(stage: Scene) -> None:
    begun = stage.sign_up()
    stage.pay(begun)
    with stage.ctx.db.read() as db:
        subscription = subscriptions.of_instance(db, begun.instance.id)
    assert subscription is not None
    stage.vendor.end(subscription.reference)
    stage.settle(begun)
    assert stage.instance(begun.instance.id).state == State.PROVISIONING
    operation = _operation(stage, begun.instance.id, "provision")
    provision.reserve_place(begun.instance.id, operation)
    provision.activate(begun.instance.id, operation)
    assert states.reasons(stage.instance(begun.instance.id)) == [Reason.PAYMENT]
    assert stage.count("model_grant", "is_active") == 0


def test_activation_runs_again_without_waking_what_was_stopped_since(stage: Scene) -> None:
    begun = stage.live()
    operation = _operation(stage, begun.instance.id, "provision")
    with stage.ctx.db.tx() as db:
        lifecycle.ask_suspend(db, stage.ctx, begun.instance.id, Reason.OWNER, "user:x")
    provision.activate(begun.instance.id, operation)
    provision.undo(begun.instance.id, operation)
    provision.fail(begun.instance.id, operation, "internal_error", "late")
    assert stage.instance(begun.instance.id).state == State.SUSPENDED
    assert stage.count("model_grant", "is_active") == 0
    assert stage.world.list() == [begun.instance.id]


@pytest.mark.parametrize("is_proven", [True, False])
def test_the_link_that_makes_the_bot_ones_own_is_mailed_to_proven_addresses_alone(
    stage: Scene, is_proven: bool
) -> None:
    begun = stage.sign_up(token=TOKEN)
    stage.pay(begun)
    with stage.ctx.db.tx() as db:
        if is_proven:
            links.verify(db, begun.owner.user.id, stage.ctx.clock.now())
    operation = _operation(stage, begun.instance.id, "provision")
    provision.reserve_place(begun.instance.id, operation)
    provision.activate(begun.instance.id, operation)
    with stage.ctx.db.read() as db:
        (letter,) = db.query(Notice).filter_by(kind="ready")
    text = stage.ctx.keys.open(letter.sealed_text, outbox.PURPOSE)
    assert ("?start=" in text, f"/ready/{begun.instance.id}" in text) == (is_proven, True)


def test_every_renewal_is_booked_once(stage: Scene) -> None:
    begun = stage.live()
    with stage.ctx.db.read() as db:
        subscription = subscriptions.of_instance(db, begun.instance.id)
    assert subscription is not None
    for _ in range(3):
        stage.vendor.renew(subscription.reference)
        stage.settle(begun)
        stage.settle(begun)
    assert stage.count("receipt") == 4
    assert stage.count("ledger_entry", "kind = 'payment'") == stage.count("ledger_entry", "kind = 'plan'") == 4
    assert stage.count("notice", "kind = 'receipt'") == 4
    with stage.ctx.db.read() as db:
        assert check_books(db) == []


def test_a_delete_that_failed_is_asked_for_again_and_then_told(stage: Scene) -> None:
    begun = stage.live()
    with stage.ctx.db.tx() as db:
        first = lifecycle.ask_delete(db, stage.ctx, begun.instance.id, "user:x")
        operations.close(db, first.id, stage.ctx.clock.now(), "docker_down", "down")
    for tries in range(1, reconcile.MAX_TRIES_AN_HOUR):
        assert begun.instance.id in {finding.subject for finding in reconcile.find(stage.ctx)}
        again = _operation(stage, begun.instance.id, "delete")
        assert stage.count("operation", "kind = 'delete'") == tries + 1
        with stage.ctx.db.tx() as db:
            operations.close(db, again, stage.ctx.clock.now(), "docker_down", "down")
    repairs = {finding.subject: finding.repair for finding in reconcile.find(stage.ctx)}
    assert repairs[begun.instance.id] == "the operator was told; tried again later"
    assert stage.count("notice", "kind = 'alert'") == 1
    stage.ctx.clock.advance(timedelta(hours=2))
    reconcile.find(stage.ctx)
    assert stage.count("operation", "kind = 'delete' AND state = 'queued'") == 1


def test_a_resume_that_failed_is_asked_for_again(stage: Scene) -> None:
    begun = stage.live()
    with stage.ctx.db.tx() as db:
        lifecycle.ask_suspend(db, stage.ctx, begun.instance.id, Reason.PAYMENT, "test")
        db.execute(sa.text("UPDATE operation SET state = 'done'"))
        asked = lifecycle.ask_resume(db, stage.ctx, begun.instance.id, Reason.PAYMENT, "test")
        assert asked is not None
        operations.close(db, asked.id, stage.ctx.clock.now(), "not_ready", "not ready")
    lifecycle.stop_again(begun.instance.id)
    assert stage.world.running() == []
    assert "asked for again" in {finding.repair for finding in reconcile.find(stage.ctx)}
    assert stage.count("operation", "kind = 'resume' AND state = 'queued'") == 1


def test_one_look_that_breaks_hides_no_other(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_ctx: object) -> list[reconcile.Finding]:
        raise ZeroDivisionError

    (stage.world.root / "ins_unknown").mkdir()
    monkeypatch.setattr(reconcile, "LOOKS", (broken, *reconcile.LOOKS))
    found = {finding.subject: finding.repair for finding in reconcile.find(stage.ctx)}
    assert found["broken"] == "none; see the log"
    assert found["ins_unknown"] == "reported, not touched"
    assert (stage.world.root / "ins_unknown").is_dir()


def test_two_starts_at_once_ask_for_one_provisioning(stage: Scene) -> None:
    begun = stage.sign_up()
    stage.pay(begun)
    with stage.ctx.db.tx() as db:
        db.execute(sa.text("UPDATE operation SET state = 'failed'"))
        states.fail(db, begun.instance.id, stage.ctx.clock.now(), "disk_full", "full")
    barrier = threading.Barrier(6)
    refused: list[str] = []

    def start() -> None:
        barrier.wait()
        try:
            with stage.ctx.db.tx() as db:
                wake.ask_start(db, stage.ctx, begun.instance.id, "user:x")
        except AppError as error:
            refused.append(error.error_code)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.count("operation", "kind = 'provision' AND state = 'queued'") == 1
    assert refused == ["illegal_move"] * 5


def test_reasons_that_come_and_go_at_the_same_time_are_all_kept(stage: Scene) -> None:
    begun = stage.live()
    with stage.ctx.db.tx() as db:
        lifecycle.ask_suspend(db, stage.ctx, begun.instance.id, Reason.OWNER, "user:x")
    barrier = threading.Barrier(2)

    def lift() -> None:
        barrier.wait()
        with stage.ctx.db.tx() as db:
            lifecycle.ask_resume(db, stage.ctx, begun.instance.id, Reason.OWNER, "user:x")

    def suspend() -> None:
        barrier.wait()
        with stage.ctx.db.tx() as db:
            lifecycle.ask_suspend(db, stage.ctx, begun.instance.id, Reason.PAYMENT, "test")

    threads = [threading.Thread(target=lift), threading.Thread(target=suspend)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states.reasons(stage.instance(begun.instance.id)) == [Reason.PAYMENT]


def test_a_failed_assistant_whose_subscription_ended_is_not_started(stage: Scene) -> None:
    begun = stage.sign_up()
    stage.pay(begun)
    with stage.ctx.db.tx() as db:
        states.fail(db, begun.instance.id, stage.ctx.clock.now(), "disk_full", "full")
        reference = subscriptions.of_instance(db, begun.instance.id)
    assert reference is not None
    stage.vendor.end(reference.reference)
    stage.settle(begun)
    with stage.ctx.db.tx() as db, pytest.raises(PaymentRequired, match="subscription has ended"):
        wake.ask_start(db, stage.ctx, begun.instance.id, "user:x")


def test_connecting_a_bot_leaves_what_the_assistant_wrote(stage: Scene) -> None:
    begun = stage.live()
    written = stage.world.root / begun.instance.id / "state/workspace/USER.md"
    soul = written.with_name("SOUL.md")
    written.write_text("She likes tea.")
    soul.write_text("Mine.")
    with stage.ctx.db.tx() as db:
        asked = lifecycle.ask_configure(db, stage.ctx, begun.instance.id, "user:x", ["telegram"])
    assert asked is not None
    assert lifecycle.write_changes(begun.instance.id, asked.id, False)
    assert (written.read_text(), soul.read_text()) == ("She likes tea.", "Mine.")
    assert lifecycle.write_changes(begun.instance.id, asked.id, True)
    assert written.read_text() == "She likes tea."
    assert soul.read_text() != "Mine."


def test_the_database_refusing_costs_no_step(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "pause", lambda _seconds: None)
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        if len(calls) < 5:
            raise sa.exc.OperationalError("UPDATE", {}, Exception("deadlock detected"))
        if len(calls) < 6:
            raise ProviderError("not now")
        return "done"

    assert attempts.attempt("work", 2, 0.01, work) == {"done": "done"}
    assert len(calls) == 6


def test_stopping_does_not_use_up_the_tries(stage: Scene) -> None:
    def work() -> str:
        attempts.stopping.set()
        raise ProviderError("not now")

    try:
        with pytest.raises(attempts.Interrupted):
            attempts.attempt("work", 5, 0.01, work)
    finally:
        attempts.stopping.clear()


def test_an_old_free_place_is_kept_for_who_was_invited(stage: Scene) -> None:
    begun = stage.sign_up()
    with stage.ctx.db.tx() as db:
        taken = stage.ctx.settings.max_customers
        assert reconcile.signups.free_places(db, stage.ctx) == taken - 1
    stage.ctx.clock.advance(timedelta(minutes=61))
    with stage.ctx.db.read() as db:
        assert reconcile.signups.free_places(db, stage.ctx) == taken
        assert db.get_one(Instance, begun.instance.id).state == State.PENDING
    assert stage.pay(begun) == "paid"
    assert stage.instance(begun.instance.id).state == State.PROVISIONING


def test_one_unreadable_event_stops_no_other(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = stage.sign_up()
    stage.vendor.complete(stage.reference(begun), "paid")
    real = stage.vendor.unseen(stage.ctx.clock.now() - timedelta(days=1))
    assert real
    monkeypatch.setattr(type(stage.vendor._Guarded__provider), "unseen", lambda _self, _since: [({}, b"{}"), *real])
    assert payments.sync(stage.ctx) == len(real)


@pytest.mark.parametrize("is_account", [False, True])
def test_what_its_vendor_does_not_know_any_more_has_ended(stage: Scene, is_account: bool) -> None:
    begun = stage.live()
    with stage.ctx.db.tx() as db:
        db.execute(sa.text("UPDATE subscription SET reference = 'ssub_gone'"))
        asked = lifecycle.ask_delete(db, stage.ctx, begun.instance.id, "user:x")
    if is_account:
        with stage.ctx.db.tx() as db:
            db.execute(sa.text("UPDATE checkout SET reference = 'sco_gone'"))
        assert deletion.end_agreements(begun.owner.account.id)
    assert lifecycle.delete.__wrapped__(begun.instance.id, asked.id) == "deleted"  # type: ignore[attr-defined]
    assert stage.instance(begun.instance.id).state == State.DELETED
    assert stage.count("subscription", "state = 'canceled'") == 1
    assert stage.count("audit_log", "action = 'subscription.unknown'") == 1
    assert stage.count("notice", "key LIKE 'unknown:%'") == 1


def test_what_goes_on_at_its_vendor_after_it_ended_here_is_ended_and_given_back(stage: Scene) -> None:
    """The vendor did not know it for a moment, as when another account's key is set."""
    begun = stage.live()
    with stage.ctx.db.tx() as db:
        real = db.scalar(sa.text("SELECT reference FROM subscription"))
        db.execute(sa.text("UPDATE subscription SET reference = 'ssub_gone'"))
        asked = lifecycle.ask_delete(db, stage.ctx, begun.instance.id, "user:x")
    assert lifecycle.delete.__wrapped__(begun.instance.id, asked.id) == "deleted"  # type: ignore[attr-defined]
    with stage.ctx.db.tx() as db:
        db.execute(sa.text("UPDATE subscription SET reference = :real"), {"real": real})
    seen = stage.vendor.fetch(stage.reference(begun))
    assert seen.subscription is not None
    assert seen.subscription.state == "active"
    stage.ctx.clock.advance(timedelta(days=32))
    stage.vendor.renew(real)
    assert begun.checkout is not None
    assert payments.settle.__wrapped__(begun.checkout.id, False) == settlement.UNWANTED  # type: ignore[attr-defined]
    seen = stage.vendor.fetch(stage.reference(begun))
    assert seen.subscription is not None
    assert seen.subscription.state == "canceled"
    assert [payment.refunded_micros for payment in seen.payments][-1] == 29_000_000


def test_a_vendor_that_does_not_answer_has_ended_nothing(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "pause", lambda seconds: None)
    begun = stage.live()
    with stage.ctx.db.tx() as db:
        asked = lifecycle.ask_delete(db, stage.ctx, begun.instance.id, "user:x")
    stage.vendor.make_trouble(Trouble(is_down=True))
    assert lifecycle.delete.__wrapped__(begun.instance.id, asked.id) == "sandbox_down"  # type: ignore[attr-defined]
    assert stage.instance(begun.instance.id).state == State.ACTIVE
    assert stage.count("subscription", "state = 'active'") == 1
