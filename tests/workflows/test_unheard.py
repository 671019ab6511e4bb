"""Payments that no event tells of: found by asking, soon and not for ever; events of others keep nothing waiting."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from clawhaven import wiring
from clawhaven.billing import checkouts, subscriptions
from clawhaven.billing.models import Checkout, InboxEvent
from clawhaven.providers.payments.creem import Creem
from clawhaven.providers.payments.sandbox_trouble import Trouble
from clawhaven.workflows import alarms, attempts, engine, payments, reconcile, topups
from tests.fakes.creem_books import PERSONAL, SECRET, TOPUP, iso
from tests.fakes.creem_server import KEY, CreemServer
from tests.workflows.scene import Scene
from tests.workflows.test_alarms import alerts, at_the_begin_of_a_day

ROUND = timedelta(minutes=5)


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps can be called by themselves: their Context is this scene's."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    return scene


def sell_by_creem(scene: Scene, vendor: CreemServer) -> None:
    """From now on this is the only vendor; its webhooks reach nobody."""
    options = Creem.Options(
        _env_file=None,
        creem_api_key=SecretStr(KEY),
        creem_webhook_secret=SecretStr(SECRET),
        creem_api_url=vendor.url,
        creem_topup_product=TOPUP,
        creem_products=f"personal={PERSONAL}",
    )
    creem = Creem(options, scene.ctx.settings, scene.ctx.clock)
    scene.ctx = dataclasses.replace(scene.ctx, payments={"creem": wiring.Guarded(creem)})


def of_events(scene: Scene, wanted: str = "event:%") -> int:
    """Workflows of this name that are not over."""
    waiting = f"status IN ('ENQUEUED', 'PENDING', 'DELAYED') AND workflow_uuid LIKE '{wanted}'"
    return scene.count("workflow_status", waiting)


def test_a_first_subscription_at_creem_is_served_without_its_webhooks(scene: Scene) -> None:
    with CreemServer() as vendor:
        sell_by_creem(scene, vendor)
        begun = scene.sign_up()
        vendor.pay(scene.reference(begun))
        with engine.running(scene.ctx):
            assert payments.sync(scene.ctx) == 2
            scene.wait(lambda: of_events(scene) == 0)
    assert scene.count("payment_event", "state = 'handled'") == 2
    assert begun.checkout is not None
    with scene.ctx.db.read() as db:
        assert checkouts.get(db, begun.checkout.id).state == "completed"
        bought = subscriptions.of_checkout(db, begun.checkout.id)
        assert bought is not None
        assert bought.state == "active"
    assert scene.count("receipt") == 1


def test_a_top_up_at_creem_is_served_without_its_webhook(scene: Scene) -> None:
    owner = scene.live().owner
    with CreemServer() as vendor:
        sell_by_creem(scene, vendor)
        bought = topups.open_topup(scene.ctx, owner, 25_000_000)
        vendor.pay(bought.reference or "")
        assert payments.sync(scene.ctx) == 0, "Creem's lists do not name its checkout"
        scene.ctx.clock.advance(payments.YOUNG + timedelta(seconds=1))
        with engine.running(scene.ctx):
            assert {one.subject for one in reconcile.find(scene.ctx)} == {"sandbox"}, "which is switched off here"
            scene.wait(lambda: scene.count("checkout", f"id = '{bought.id}' AND state = 'completed'") == 1)
            scene.wait(lambda: of_events(scene, "settle:%") == 0)
    assert scene.count("receipt", "amount_micros = 25000000") == 1


def asked_about(scene: Scene, ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Checkouts that one round asks about."""
    asked: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(payments, "ask_settle", lambda db, ctx, checkout_id, **_: asked.append(checkout_id))
        ask()
    return asked


def test_an_open_page_is_asked_about_more_and_more_rarely_and_expires_on_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, clock = scene.sign_up(), scene.ctx.clock
    assert begun.checkout is not None
    minutes: list[int] = []
    for passed in range(0, 26 * 60, 5):
        if asked_about(scene, lambda: payments.ask_open(scene.ctx), monkeypatch):
            minutes.append(passed)
        late = asked_about(scene, lambda: reconcile._old_checkouts(scene.ctx), monkeypatch)
        if late:
            break
        clock.advance(ROUND)
    assert minutes[:4] == [5, 15, 35, 75]
    assert all(later - earlier <= max(earlier, 10) + 5 for earlier, later in itertools.pairwise(minutes))
    assert len(minutes) <= 10
    assert (passed, late) == (24 * 60, [begun.checkout.id]), "at the end of its life, whenever it was asked about last"
    with scene.ctx.db.read() as db:
        known = checkouts.get(db, begun.checkout.id)
        assert known.asks == 1, "a vendor that is away now is asked again in ten minutes"
        assert known.ask_at is not None
        assert known.ask_at <= clock.now() + timedelta(minutes=10)


def test_only_pages_that_can_be_paid_are_asked_about_and_each_has_its_turn(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id, now = stage.sign_up().owner.account.id, stage.ctx.clock.now()
    terms: dict[str, Any] = {"account_id": account_id, "plan": "", "kind": "topup", "amount_micros": 1}

    def page(
        name: str, age: timedelta, provider: str = "sandbox", state: str = "open", has_page: bool = True
    ) -> Checkout:
        made_at, reference = now - age, name if has_page else None
        return Checkout(id=name, created_at=made_at, provider=provider, state=state, reference=reference, **terms)

    good = [f"cho_{number}" for number in range(2 * payments.CHECKOUTS_A_ROUND)]
    with stage.ctx.db.tx() as db:
        db.add_all(page(name, timedelta(hours=1, seconds=number)) for number, name in enumerate(good))
        db.add(page("young", timedelta(minutes=1)))
        db.add(page("old", timedelta(hours=25)))
        db.add(page("done", timedelta(hours=1), state="completed"))
        db.add(page("unmade", timedelta(hours=1), has_page=False))
        db.add(page("elsewhere", timedelta(hours=1), provider="gone"))
    first = asked_about(stage, lambda: payments.ask_open(stage.ctx), monkeypatch)
    assert first == good[: payments.CHECKOUTS_A_ROUND - 1 : -1], "the oldest first"
    second = asked_about(stage, lambda: payments.ask_open(stage.ctx), monkeypatch)
    assert {*first, *second} == set(good)
    assert asked_about(stage, lambda: payments.ask_open(stage.ctx), monkeypatch) == []


def received(scene: Scene, **changes: Any) -> str:
    """A stored event that names nothing of ours; its row."""
    now = scene.ctx.clock.now()
    given: dict[str, Any] = {
        "id": f"pev_{time.monotonic_ns()}",
        "provider": "sandbox",
        "event_id": f"evt_{time.monotonic_ns()}",
        "kind": "payment_succeeded",
        "vendor_type": "invoice.paid",
        "subscription_reference": "sub_of_another_shop",
        "body": b"",
        "state": "received",
        "vendor_created_at": now,
        "received_at": now,
        **changes,
    }
    with scene.ctx.db.tx() as db:
        db.add(InboxEvent(**given))
    return str(given["id"])


def test_an_event_waits_only_while_a_page_of_its_vendor_is_being_made(stage: Scene) -> None:
    stage.sign_up()
    foreign, now = received(stage), stage.ctx.clock.now()
    assert not payments.is_ours(foreign)
    with stage.ctx.db.tx() as db:
        db.execute(sa.update(Checkout).values(reference=None))
    assert payments.is_ours(foreign), "its page is being made"
    for changes in (
        {"kind": "other"},
        {"vendor_created_at": now - payments.OVERTAKING - timedelta(seconds=5)},
        {"checkout_key": "cho_of_another_shop"},
        {"provider": "stripe"},
    ):
        assert not payments.is_ours(received(stage, **changes)), changes


def test_an_event_whose_page_is_made_between_two_looks_is_not_dropped(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = stage.sign_up()
    reference = stage.reference(begun)
    with stage.ctx.db.tx() as db:
        db.execute(sa.update(Checkout).values(reference=None))
    event = received(stage, checkout_reference=reference, subscription_reference=None)

    def made_meanwhile(_row_id: str) -> bool:
        with stage.ctx.db.tx() as db:
            db.execute(sa.update(Checkout).values(reference=reference))
        return False

    monkeypatch.setattr(payments, "is_ours", made_meanwhile)
    assert payments.apply_payment.__wrapped__(event) == "handled"  # type: ignore[attr-defined]


def test_foreign_events_keep_a_customer_waiting_no_longer(scene: Scene) -> None:
    begun = scene.sign_up()
    foreign = [received(scene) for _ in range(40)]
    with engine.running(scene.ctx):
        began = time.monotonic()
        with scene.ctx.db.tx() as db:
            for row_id in foreign:
                payments.ask(db, scene.ctx, db.get_one(InboxEvent, row_id))
        scene.vendor.complete(scene.reference(begun), "paid")
        payments.sync(scene.ctx)
        scene.wait(lambda: scene.count("subscription", "state = 'active'") == 1)
        scene.wait(lambda: of_events(scene) == 0)
        assert time.monotonic() - began < 60, "not ten minutes of sleep, eight at a time"
    assert scene.count("payment_event", "state = 'ignored'") == 40


def test_webhooks_that_do_not_arrive_are_told_from_the_second_look_on(scene: Scene) -> None:
    at_the_begin_of_a_day(scene)
    scene.vendor.make_trouble(Trouble(is_dropping=True))

    def buy(email: str, age: timedelta) -> None:
        scene.vendor.complete(scene.reference(scene.sign_up(email)), "paid")
        scene.ctx.clock.advance(age)

    for number in range(3):
        buy(f"past-{number}@example.com", ROUND)
    assert payments.sync(scene.ctx) == 9
    assert alerts(scene) == [], "what a new installation finds is its past"
    for number in range(3):
        buy(f"late-{number}@example.com", timedelta(seconds=30))
        assert payments.sync(scene.ctx) == 3
    assert alerts(scene) == [], "these are on their way"
    buy("first@example.com", ROUND)
    assert payments.sync(scene.ctx) == 3
    assert alerts(scene) == []
    buy("second@example.com", ROUND)
    assert payments.sync(scene.ctx) == 3
    (told,) = alerts(scene)
    assert "/api/webhooks/sandbox" in told


@pytest.mark.parametrize("is_deaf", [True, False])
def test_what_is_made_of_creems_lists_counts_where_no_event_told_of_the_payment(scene: Scene, is_deaf: bool) -> None:
    at_the_begin_of_a_day(scene)
    scene.ctx.clock.advance(payments.ON_ITS_WAY)
    with CreemServer() as vendor:
        sell_by_creem(scene, vendor)
        payments.sync(scene.ctx)
        for number in range(alarms.MISSED_AN_HOUR + 1):
            vendor.pay(scene.reference(scene.sign_up(f"c{number}@example.com")))
        if not is_deaf:
            for headers, body in vendor.told:
                payments.receive(scene.ctx, "creem", headers, body)
        assert payments.sync(scene.ctx) == 2 * (alarms.MISSED_AN_HOUR + 1)
    assert len(alerts(scene)) == is_deaf


def test_a_made_change_without_a_payment_says_nothing_of_webhooks(scene: Scene) -> None:
    at_the_begin_of_a_day(scene)
    scene.ctx.clock.advance(payments.ON_ITS_WAY)
    with CreemServer() as vendor:
        sell_by_creem(scene, vendor)
        for number in range(alarms.MISSED_AN_HOUR + 1):
            vendor.pay(scene.reference(scene.sign_up(f"c{number}@example.com")))
        payments.sync(scene.ctx)
        for one in vendor.subscriptions.values():
            one["updated_at"] = iso(datetime.fromisoformat(one["updated_at"]) + timedelta(milliseconds=1))
        assert payments.sync(scene.ctx) == alarms.MISSED_AN_HOUR + 1
    assert alerts(scene) == []


@pytest.mark.parametrize("is_heard", [False, True])
def test_one_payment_in_silence_is_told_where_payments_are_rare(scene: Scene, is_heard: bool) -> None:
    at_the_begin_of_a_day(scene)
    scene.ctx.clock.advance(payments.ON_ITS_WAY)
    with CreemServer() as vendor:
        sell_by_creem(scene, vendor)
        payments.sync(scene.ctx)
        vendor.pay(scene.reference(scene.sign_up()))
        assert payments.sync(scene.ctx) > 0
        assert alerts(scene) == []
        scene.ctx.clock.advance(timedelta(hours=1))
        if is_heard:
            alarms.note_heard(scene.ctx, "creem")
        scene.ctx.clock.advance(alarms.SILENCE)
        payments.sync(scene.ctx)
        payments.sync(scene.ctx)
    assert len(alerts(scene)) == (not is_heard)
