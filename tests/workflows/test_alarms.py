"""What the operator is told of a payment vendor: once, and only where there is something to do."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.core.errors import Unavailable
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import alarms, checkout
from tests.workflows.scene import Scene


def alerts(scene: Scene) -> list[str]:
    """Subject and text of every letter to the operator, oldest first."""
    with scene.ctx.db.read() as db:
        found = db.scalars(sa.select(Notice).where(Notice.kind == "alert").order_by(Notice.created_at))
        told = [outbox.message(db, one.id, scene.ctx.keys) for one in found]
    return [f"{one.subject}\n{one.text}" for one in told if one is not None]


def at_the_begin_of_a_day(scene: Scene) -> None:
    """The counted hours are those of the clock."""
    clock = scene.ctx.clock
    clock.advance(timedelta(seconds=86_400 - clock.now().timestamp() % 86_400))


def test_events_that_did_not_arrive_are_told_beyond_a_few_an_hour_and_once_a_day(scene: Scene) -> None:
    at_the_begin_of_a_day(scene)
    for _ in range(3):
        alarms.note_missed(scene.ctx, "sandbox", alarms.MISSED_AN_HOUR)
        scene.ctx.clock.advance(timedelta(hours=1))
    assert alerts(scene) == []
    for count in (0, alarms.MISSED_AN_HOUR, 500, 1):
        alarms.note_missed(scene.ctx, "sandbox", count)
    (told,) = alerts(scene)
    assert told.startswith("Webhooks of sandbox do not arrive\n")
    assert f"{scene.ctx.settings.base_url}/api/webhooks/sandbox" in told
    scene.ctx.clock.advance(timedelta(days=1))
    alarms.note_missed(scene.ctx, "sandbox", 500)
    assert len(alerts(scene)) == 2


def test_a_page_that_is_refused_for_good_is_told_once_a_day_for_each_code(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_begin_of_a_day(scene)
    refusal = ProviderError("not now", code="sandbox_down")

    def refuse(*_: object) -> None:
        raise refusal

    monkeypatch.setattr(Sandbox, "create_checkout", refuse)
    begun = scene.sign_up()
    assert begun.checkout is not None
    assert begun.checkout_url == f"{scene.ctx.settings.base_url}/checkout/{begun.checkout.id}"
    assert alerts(scene) == [], "who is away comes back"
    for code in ("product_missing", "product_missing", "stripe_key"):
        refusal = ProviderError(f"The vendor says {code}.", permanent=True, code=code)
        with pytest.raises(Unavailable):
            checkout.page_for(scene.ctx, begun.checkout.id)
    missing, key = alerts(scene)
    assert missing.startswith("sandbox makes no payment page: product_missing\n")
    assert "The vendor says product_missing. (product_missing)" in missing
    assert begun.checkout.id in missing
    assert "stripe_key" in key
    scene.ctx.clock.advance(timedelta(days=1))
    scene.sign_up("bea@example.com")
    assert len(alerts(scene)) == 3


def test_the_first_lost_event_is_told_where_nothing_is_heard_after_it(scene: Scene) -> None:
    at_the_begin_of_a_day(scene)
    ctx, clock = scene.ctx, scene.ctx.clock
    alarms.note_heard(ctx, "sandbox")
    clock.advance(timedelta(hours=1))
    alarms.note_lost(ctx, "sandbox", [])
    for _ in range(2):  # a later one does not begin the wait again
        alarms.note_lost(ctx, "sandbox", [clock.now()])
        clock.advance(alarms.SILENCE / 2 - timedelta(minutes=1))
        alarms.watch_silence(ctx, "sandbox")
        assert alerts(scene) == []
    clock.advance(timedelta(minutes=3))
    for _ in range(2):
        alarms.watch_silence(ctx, "sandbox")
        alarms.watch_silence(ctx, "creem")
    (told,) = alerts(scene)
    assert told.startswith("Webhooks of sandbox do not arrive\nAn event of sandbox of ")
    assert "01:00 (UTC) did not reach this installation" in told
    assert f"{ctx.settings.base_url}/api/webhooks/sandbox" in told


def test_a_lost_event_among_others_that_come_is_not_told(scene: Scene) -> None:
    at_the_begin_of_a_day(scene)
    ctx, clock = scene.ctx, scene.ctx.clock
    alarms.note_lost(ctx, "sandbox", [clock.now()])
    alarms.note_heard(ctx, "creem")
    clock.advance(timedelta(hours=5))
    alarms.note_heard(ctx, "sandbox")
    clock.advance(timedelta(hours=5))
    alarms.watch_silence(ctx, "sandbox")
    assert alerts(scene) == []
