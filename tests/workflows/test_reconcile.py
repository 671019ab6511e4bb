"""Wanted against real: each planted difference is found, explained, and repaired only where that is safe."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.accounts import signup
from clawhaven.billing import checkouts, patience, subscriptions, waitlist
from clawhaven.billing.models import Checkout, InboxEvent, Subscription
from clawhaven.core.languages import speaking
from clawhaven.instances import operations, states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.notices import kinds
from clawhaven.notices.models import Notice
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import attempts, deletion, engine, letters, payments, reconcile
from tests.workflows.scene import Scene


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps can be called by themselves: their Context is this scene's."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    return scene


def found(scene: Scene) -> dict[str, str]:
    """Subject -> what was done about it."""
    return {finding.subject: finding.repair for finding in reconcile.find(scene.ctx)}


def workflow_states(scene: Scene, wanted: str, state: str) -> None:
    """What the engine would have recorded of workflows that ended."""
    table = "workflow_status" if scene.ctx.db.is_sqlite else "dbos.workflow_status"
    with scene.ctx.db.tx() as db:
        db.execute(
            sa.text(f"UPDATE {table} SET status = :state WHERE workflow_uuid LIKE :wanted"),
            {"state": state, "wanted": wanted},
        )


def test_all_is_well(scene: Scene) -> None:
    scene.live("a@example.com")
    scene.sign_up("b@example.com")
    payments.sync(scene.ctx)
    before = scene.count("operation")
    assert reconcile.find(scene.ctx) == []
    assert scene.count("operation") == before


def test_what_nobody_knows_is_reported_and_left_alone(scene: Scene) -> None:
    stranger = scene.world.root / "ins_stranger"
    stranger.mkdir()
    (stranger / "RUNNING").write_text("0")
    assert found(scene) == {"ins_stranger": "reported, not touched"}
    assert (stranger / "RUNNING").exists()


@pytest.mark.parametrize("state", [State.DELETED, State.PENDING])
def test_what_is_left_over_is_removed(scene: Scene, state: State) -> None:
    begun = scene.put_in(state)
    (scene.world.root / begun.instance.id).mkdir()
    assert found(scene) == {begun.instance.id: "removed"}
    assert scene.world.list() == []
    assert found(scene) == {}


@pytest.mark.parametrize("state", [State.PROVISIONING, State.ACTIVE, State.SUSPENDED, State.FAILED])
def test_what_belongs_to_somebody_is_never_removed(scene: Scene, state: State) -> None:
    begun = scene.put_in(state)
    (scene.world.root / begun.instance.id).mkdir(exist_ok=True)
    reconcile.find(scene.ctx)
    assert scene.world.list() == [begun.instance.id]


def test_a_suspended_one_that_runs_is_stopped_unless_somebody_is_at_it(scene: Scene) -> None:
    begun = scene.put_in(State.SUSPENDED)
    with scene.ctx.db.tx() as db:
        busy = operations.open_operation(db, begun.instance.id, "suspend", scene.ctx.clock.now())
    assert begun.instance.id not in found(scene)
    assert scene.world.running() == [begun.instance.id]
    with scene.ctx.db.tx() as db:
        operations.close(db, busy.id, scene.ctx.clock.now())
    assert found(scene)[begun.instance.id] == "stopped"
    assert scene.world.running() == []
    assert begun.instance.id not in found(scene)


def test_a_runtime_that_is_down_is_said_so(scene: Scene) -> None:
    begun = scene.put_in(State.SUSPENDED)
    payments.sync(scene.ctx)
    (scene.world.root / "DOWN").touch()
    assert found(scene) == {begun.instance.id: "none"}
    assert scene.world.running() == [begun.instance.id]


@pytest.mark.parametrize("kind", ["restart", "configure", "suspend", "resume"])
def test_an_operation_whose_workflow_is_over_is_closed(scene: Scene, kind: str) -> None:
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        stale = operations.open_operation(db, begun.instance.id, kind, scene.ctx.clock.now())
    assert begun.instance.id not in found(scene), "young work is left alone"
    scene.ctx.clock.advance(reconcile.PATIENCE + timedelta(seconds=1))
    assert found(scene)[begun.instance.id] == "closed as failed"
    with scene.ctx.db.read() as db:
        told = operations.as_json(db, operations.latest(db, begun.instance.id, kind) or stale)
    assert (told["state"], told["error"]) == ("failed", "internal_error")
    assert told["message"]


def test_work_that_is_under_way_is_left_alone(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.pay(begun)
    payments.sync(scene.ctx)
    scene.ctx.clock.advance(timedelta(hours=1))
    scene.mailbox.letters.clear()
    before = scene.count("operation")
    assert begun.instance.id not in found(scene)
    assert scene.count("operation") == before


def test_a_provisioning_that_was_lost_is_asked_for_again(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.pay(begun)
    workflow_states(scene, "provision:%", "ERROR")
    scene.ctx.clock.advance(reconcile.PATIENCE + timedelta(seconds=1))
    reconcile.find(scene.ctx)
    with scene.ctx.db.read() as db:
        again = operations.under_way(db, begun.instance.id)
    assert again is not None
    assert (again.kind, again.state) == ("provision", "queued")
    assert scene.count("operation", "kind = 'provision'") == 2
    assert begun.instance.id not in found(scene)


def test_an_event_that_was_not_applied_is_asked_for_again(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    payments.sync(scene.ctx)
    before = scene.count("workflow_status")
    scene.ctx.clock.advance(reconcile.PATIENCE + timedelta(seconds=1))
    assert found(scene) == {}
    workflow_states(scene, "event:%", "ERROR")
    assert sorted(found(scene).values()) == ["asked for again"] * 3
    assert scene.count("workflow_status") == before + 3 + 1
    assert scene.count("workflow_status", "name = 'apply_payment'") == 6
    assert scene.count("workflow_status", "name = 'settle'") == 1, "its open checkout is asked about, once"


def test_an_event_that_fails_for_a_day_is_tried_once_more_then_told_once(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    payments.sync(scene.ctx)
    scene.ctx.clock.advance(reconcile.EVENT_LIFE + timedelta(minutes=1))
    workflow_states(scene, "event:%", "ERROR")
    events = scene.count("payment_event")
    assert sorted(of_events(scene).values()) == ["asked for again"] * events
    assert of_events(scene) == {}, "the last try is under way"
    workflow_states(scene, "event:%", "ERROR")
    scene.ctx.clock.advance(patience.FIRST + reconcile.PATIENCE)
    assert sorted(of_events(scene).values()) == ["the operator was told"] * events
    assert (
        scene.count("payment_event", "state = 'ignored' AND note LIKE 'not applied within a day: it broke%'") == events
    )
    assert of_events(scene) == {}
    assert scene.count("notice", "key LIKE 'events-lost:%'") == 1


def of_events(scene: Scene) -> dict[str, str]:
    """What a look at the inbox found."""
    return {one.subject: one.repair for one in reconcile._unfinished_inbox(scene.ctx)}


def test_an_event_that_is_given_up_says_why(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")

    def refuse(*_: object) -> None:
        raise ProviderError("gone for good", permanent=True, code="account_closed")

    monkeypatch.setattr(Sandbox, "fetch", refuse)
    with engine.running(scene.ctx):
        payments.sync(scene.ctx)
        with scene.ctx.db.read() as db:
            ids = [f"event:sandbox:{one}" for one in db.scalars(sa.select(InboxEvent.event_id))]
        scene.wait(lambda: all(engine.is_over(scene.ctx, one) for one in ids))
    assert {engine.last_word(scene.ctx, one) for one in ids} == {"account_closed"}
    assert engine.last_word(scene.ctx, "event:sandbox:nothing") == ""
    with scene.ctx.db.tx() as db:
        db.execute(sa.update(InboxEvent).values(note="asked for a last time"))
    scene.ctx.clock.advance(reconcile.EVENT_LIFE + timedelta(minutes=1))
    of_events(scene)
    assert scene.count("payment_event", "note = 'not applied within a day: account_closed'") == len(ids)


def test_an_event_of_a_deleted_account_that_is_given_up_is_emptied(stage: Scene) -> None:
    begun = stage.sign_up()
    stage.vendor.complete(stage.reference(begun), "paid")
    payments.sync(stage.ctx)
    with stage.ctx.db.tx() as db:
        db.execute(sa.update(InboxEvent).values(note="asked for a last time"))
        deletion.begin(db, stage.ctx, signup.owner_of(db, begun.owner.account.id), "user:me")
    workflow_states(stage, "event:%", "ERROR")
    stage.ctx.clock.advance(reconcile.EVENT_LIFE + timedelta(minutes=1))
    assert set(of_events(stage).values()) == {"the operator was told"}
    with stage.ctx.db.read() as db:
        rows = db.execute(sa.select(InboxEvent.state, InboxEvent.body, InboxEvent.note)).tuples().all()
    assert set(rows) == {("ignored", b"", "")}


def test_a_vendor_that_is_switched_off_starves_nobody(stage: Scene) -> None:
    begun, now = stage.live(), stage.ctx.clock.now()
    with stage.ctx.db.tx() as db:
        (mine,) = subscriptions.of_account(db, begun.owner.account.id)
        mine.checked_at = now - timedelta(hours=3)
        for number in range(reconcile.SUBSCRIPTIONS_A_ROUND + 1):
            key, at = f"cho_off{number}", now - timedelta(days=9)
            terms = {"account_id": begun.owner.account.id, "plan": "personal", "provider": "gone", "created_at": at}
            db.add(Checkout(id=key, amount_micros=1, state="completed", reference=f"r{number}", **terms))
            db.flush()
            period = {"period_start_at": at, "period_end_at": at, "checked_at": at}
            reference = f"s{number}"
            db.add(
                Subscription(id=f"sub_{key}", checkout_id=key, reference=reference, state="active", **terms, **period)
            )
    (told,) = reconcile._subscriptions_to_check(stage.ctx)
    assert (told.subject, told.problem) == ("gone", "sells 201 subscriptions and is not in PAYMENTS")
    assert stage.count("workflow_status", "name = 'settle'") == 1
    assert stage.count("workflow_status", f"workflow_uuid LIKE 'settle:{begun.checkout.id}:%'") == 1


def add_subscriptions(scene: Scene, account_id: str, names: list[str], provider: str = "sandbox") -> None:
    """Living ones that nobody has asked about for hours, each with its checkout."""
    at = scene.ctx.clock.now() - timedelta(hours=9)
    terms = {"account_id": account_id, "plan": "personal", "provider": provider, "created_at": at}
    with scene.ctx.db.tx() as db:
        db.add_all(
            Checkout(id=f"cho_{name}", amount_micros=1, state="completed", reference=f"r{name}", **terms)
            for name in names
        )
        db.flush()
        period = {"period_start_at": at, "period_end_at": at}
        db.add_all(
            Subscription(
                id=f"sub_{name}", checkout_id=f"cho_{name}", reference=name, state="active", **terms, **period,
                checked_at=at + timedelta(seconds=number),
            )
            for number, name in enumerate(names)
        )  # fmt: skip


def test_210_that_always_fail_do_not_starve_the_40_others(stage: Scene) -> None:
    bad, good = [f"bad{number}" for number in range(210)], [f"good{number}" for number in range(40)]
    add_subscriptions(stage, stage.sign_up().owner.account.id, bad + good)
    asked: dict[str, list[int]] = {}
    for number in range(13 * 12):  # thirteen hours of rounds
        with stage.ctx.db.read() as db:
            before = {row.reference: row.asks for row in db.scalars(sa.select(Subscription))}
        reconcile._subscriptions_to_check(stage.ctx)
        with stage.ctx.db.tx() as db:
            for row in db.scalars(sa.select(Subscription)):
                if row.asks > before[row.reference]:
                    asked.setdefault(row.reference, []).append(number)
                if row.asks and row.reference.startswith("good"):
                    row.checked_at = stage.ctx.clock.now()
                    patience.note_answered(row)
        stage.ctx.clock.advance(timedelta(minutes=5))
    assert all(asked[name][0] <= 1 for name in good), "heard of within two rounds"
    assert all(11 <= len(asked[name]) <= 13 for name in good), "and every hour from then on"
    assert all(5 <= len(asked[name]) <= 8 for name in bad), "what fails is tried again, more and more rarely"


def test_checkouts_and_events_that_always_fail_starve_no_others(stage: Scene) -> None:
    account_id, now = stage.sign_up().owner.account.id, stage.ctx.clock.now()
    terms = {"account_id": account_id, "plan": "", "provider": "sandbox", "kind": "topup", "state": "open"}
    long_ago = now - timedelta(days=2)
    with stage.ctx.db.tx() as db:
        db.add_all(
            Checkout(id=f"cho_{number}", amount_micros=1, created_at=long_ago + timedelta(seconds=number), **terms)
            for number in range(210)
        )
        db.add_all(
            InboxEvent(
                id=f"pev_{number}", provider="sandbox", event_id=f"e{number}", kind="other", vendor_type="x", body=b"",
                state="received", vendor_created_at=now, received_at=now + timedelta(seconds=number),
            )
            for number in range(210)
        )  # fmt: skip
    asked: set[str] = set()
    for _ in range(2):
        asked |= {one.subject for one in reconcile._old_checkouts(stage.ctx)}
        stage.ctx.clock.advance(timedelta(minutes=8))
        workflow_states(stage, "event:%", "ERROR")
        asked |= of_events(stage).keys()
    assert asked == {f"cho_{number}" for number in range(210)} | {f"e{number}" for number in range(210)}


def test_a_letter_that_was_not_sent_is_asked_for_again(scene: Scene) -> None:
    with scene.ctx.db.tx() as db:
        letters.post_to(db, scene.ctx, "x", kinds.alert("s", "t"), "a@example.com")
    before = scene.count("workflow_status")
    scene.ctx.clock.advance(reconcile.PATIENCE + timedelta(seconds=1))
    assert found(scene) == {}
    workflow_states(scene, "deliver:%", "ERROR")
    assert list(found(scene).values()) == ["asked for again"]
    assert scene.count("workflow_status") == before + 1


def test_a_checkout_nobody_paid_expires_and_frees_its_place(stage: Scene) -> None:
    begun = stage.sign_up()
    stage.ctx.clock.advance(checkouts.LIFE + timedelta(minutes=1))
    assert begun.checkout.id in found(stage)
    payments.expire_checkout(begun.checkout.id)
    with stage.ctx.db.read() as db:
        assert checkouts.get(db, begun.checkout.id).state == "expired"
    assert stage.instance(begun.instance.id).deletion_asked_at is not None
    assert begun.checkout.id not in found(stage)


def test_a_checkout_that_was_paid_without_a_word_is_booked(stage: Scene) -> None:
    begun = stage.sign_up()
    stage.vendor.complete(stage.reference(begun), "paid")
    stage.ctx.clock.advance(checkouts.LIFE + timedelta(minutes=1))
    assert begun.checkout.id in found(stage)
    assert payments.settle_checkout(begun.checkout.id) == "paid"
    payments.expire_checkout(begun.checkout.id)
    assert stage.instance(begun.instance.id).state == State.PROVISIONING
    assert stage.count("receipt") == 1


def test_paid_but_not_running_is_told_once_a_day(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.pay(begun)
    with scene.ctx.db.tx() as db:
        states.fail(db, begun.instance.id, scene.ctx.clock.now(), "disk_full", "Full.")
        operations.close(db, (operations.under_way(db, begun.instance.id) or begun.checkout).id, scene.ctx.clock.now())
    for _ in range(3):
        assert found(scene)[begun.instance.id] == "the operator was told"
    assert scene.count("notice", "kind = 'alert'") == 1


def test_a_subscription_that_ended_unheard_is_looked_at_within_the_hour(stage: Scene) -> None:
    begun = stage.live()
    with stage.ctx.db.read() as db:
        row = subscriptions.of_instance(db, begun.instance.id)
    assert row is not None
    stage.vendor.end(row.reference)
    stage.ctx.clock.advance(timedelta(minutes=61))
    before = stage.count("workflow_status")
    reconcile.find(stage.ctx)
    assert stage.count("workflow_status") > before
    assert payments.settle_checkout(begun.checkout.id) == "paid"
    assert states.reasons(stage.instance(begun.instance.id)) == [Reason.PAYMENT]


def test_the_next_in_line_is_invited_once_a_place_is_free(stage: Scene) -> None:
    stage.ctx.settings.max_customers = 1
    begun = stage.sign_up()
    now = stage.ctx.clock.now()
    with stage.ctx.db.tx() as db:
        for number in range(2):
            with speaking("de" if number else "en"):
                waitlist.join(db, f"{'w' * 200}{number}@example.com", now + timedelta(seconds=number))
    reconcile.tidy()
    assert stage.count("notice", "kind = 'place_free'") == 0
    with stage.ctx.db.tx() as db:
        states.mark_deleted(db, begun.instance.id, now)
    for _ in range(3):
        reconcile.tidy()
    assert stage.count("notice", "kind = 'place_free'") == 1, "the place is kept for who was invited"
    stage.ctx.clock.advance(reconcile.INVITATION_LIFE + timedelta(minutes=1))
    reconcile.tidy()
    with stage.ctx.db.read() as db:
        rows = db.scalars(sa.select(Notice).where(Notice.kind == "place_free").order_by(Notice.created_at)).all()
    assert [row.subject for row in rows] == ["A place at Clawhaven is free", "Bei Clawhaven ist ein Platz frei"]


def test_nothing_is_done_twice_by_two_rounds(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.pay(begun)
    with scene.ctx.db.tx() as db:
        db.get_one(Instance, begun.instance.id).deletion_asked_at = scene.ctx.clock.now()
        operations.close(db, (operations.under_way(db, begun.instance.id) or begun.checkout).id, scene.ctx.clock.now())
    assert found(scene)[begun.instance.id] == "asked for again"
    counts = scene.count("operation"), scene.count("workflow_status", "name = 'delete'")
    assert begun.instance.id not in found(scene)
    assert (scene.count("operation"), scene.count("workflow_status", "name = 'delete'")) == counts
