"""The owner's one-time link: whoever opens it first is the owner, and nobody else ever."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clawhaven.instances import connections, states
from clawhaven.instances.models import Connection, InstanceEvent
from clawhaven.instances.states import State
from clawhaven.ports.channel import OwnerClaim
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import attempts, claim, engine, files, listening
from clawhaven.workflows.attempts import StepFailed
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps can be called by themselves, and wait for nothing."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    monkeypatch.setattr(attempts, "pause", lambda seconds: None)
    attempts.stopping.clear()
    return scene


def connection_of(scene: Scene, begun: Begun) -> Connection:
    with scene.ctx.db.read() as db:
        (found,) = connections.list_connections(db, begun.instance.id)
        return found


def events(scene: Scene, kind: str) -> list[str]:
    with scene.ctx.db.read() as db:
        return [row.message for row in db.query(InstanceEvent).filter_by(kind=kind)]


def test_the_first_who_opens_the_link_is_the_owner(stage: Scene) -> None:
    begun = stage.live()
    token = stage.connected(begun)
    stage.telegram.looks = [OwnerClaim(None, None, 5), OwnerClaim(None, None, 9), OwnerClaim("42", "ada", 12)]
    assert claim.poll_for_owner(connection_of(stage, begun).id) == "claimed"
    assert stage.telegram.asked == [(token, 0), (token, 5), (token, 9)]
    row = connection_of(stage, begun)
    assert (row.owner_external_id, row.owner_username, row.claim_token) == ("42", "ada", None)
    assert events(stage, "claimed") == ["The bot knows its owner now and answers nobody else."]
    assert stage.telegram.confirmed == ["42"]
    assert stage.count("operation", "kind = 'configure'") == 1
    assert stage.count("audit_log", "action = 'channel.claim'") == 1
    stage.telegram.looks = [OwnerClaim("66", "eve", 20)]
    assert claim.poll_for_owner(row.id) == "claimed"
    assert connection_of(stage, begun).owner_external_id == "42"
    assert len(stage.telegram.asked) == 3, "nobody is listened to any more"


def test_before_the_claim_the_gateway_does_not_know_the_bot_and_after_it_serves_one(stage: Scene) -> None:
    begun = stage.live()
    stage.connected(begun)
    files.apply_config(stage.ctx, begun.instance.id)
    path = stage.world.root / begun.instance.id / files.CONFIG
    assert '"telegram"' not in path.read_text().partition('"channels"')[2][:200]
    stage.telegram.looks = [OwnerClaim("42", None, 1)]
    claim.poll_for_owner(connection_of(stage, begun).id)
    files.apply_config(stage.ctx, begun.instance.id)
    written = path.read_text()
    assert '"42"' in written
    assert "allowlist" in written
    assert "A" * 35 not in written, "the token is in the secrets file only"
    assert "A" * 35 in (stage.world.root / begun.instance.id / files.SECRETS).read_text()


def test_somebody_else_was_faster(stage: Scene) -> None:
    begun = stage.live()
    stage.connected(begun)
    row = connection_of(stage, begun)
    with stage.ctx.db.tx() as db:
        assert connections.claim(db, row.id, "1", "first", stage.ctx.clock.now())
    assert claim._record(stage.ctx, row, "2", "second") is False
    assert connection_of(stage, begun).owner_external_id == "1"
    assert events(stage, "claimed") == []


@pytest.mark.parametrize("how", ["disconnected", "deleted", "failed"])
def test_what_is_gone_is_listened_to_no_more(stage: Scene, how: str) -> None:
    begun = stage.put_in(State.FAILED) if how == "failed" else stage.live()
    stage.connected(begun)
    row = connection_of(stage, begun)
    with stage.ctx.db.tx() as db:
        if how == "disconnected":
            connections.disconnect(db, begun.instance.id)
        elif how == "deleted":
            states.mark_deleted(db, begun.instance.id, stage.ctx.clock.now())
    assert claim.poll_for_owner(row.id) == "gone"
    assert stage.telegram.asked == []


def test_a_network_that_comes_back_is_asked_again_and_one_that_refuses_is_told(stage: Scene) -> None:
    begun = stage.live()
    stage.connected(begun)
    row = connection_of(stage, begun)
    away = ProviderError("no answer", code="telegram_down")
    stage.telegram.looks = [away, away, OwnerClaim("42", "ada", 1)]
    assert claim.poll_for_owner(row.id) == "claimed"
    other = stage.live("eve@example.com")
    stage.connected(other, "987654321:" + "B" * 35)
    stage.telegram.looks = [ProviderError("revoked", permanent=True, code="invalid_bot_token")]
    with pytest.raises(StepFailed) as caught:
        claim.poll_for_owner(connection_of(stage, other).id)
    claim.note_problem(other.instance.id, caught.value.message)
    assert events(stage, "channel_problem") == ["revoked"]
    assert connection_of(stage, other).owner_external_id is None


def test_a_worker_that_stops_leaves_the_round_unrecorded(stage: Scene) -> None:
    begun = stage.live()
    stage.connected(begun)
    attempts.stopping.set()
    try:
        with pytest.raises(attempts.Interrupted):
            claim.poll_for_owner(connection_of(stage, begun).id)
    finally:
        attempts.stopping.clear()
    assert stage.telegram.asked == []


def test_asking_for_a_listener_many_times_is_one_and_later_another(scene: Scene) -> None:
    begun = scene.live()
    scene.connected(begun)
    now = scene.ctx.clock.now()
    scene.ctx.clock.advance(timedelta(seconds=600 - now.timestamp() % 600))  # the beginning of a round
    for _ in range(3):
        with scene.ctx.db.tx() as db:
            listening.listen(db, scene.ctx, begun.instance.id)
            assert (listening.pending_url(db, scene.ctx, begun.instance.id) or "").startswith("https://t.me/")
    assert scene.count("workflow_status", "name = 'claim'") == 1
    scene.ctx.clock.advance(timedelta(minutes=10))
    with scene.ctx.db.tx() as db:
        listening.listen(db, scene.ctx, begun.instance.id)
    assert scene.count("workflow_status", "name = 'claim'") == 2
    with scene.ctx.db.tx() as db:
        connections.claim(db, connection_of(scene, begun).id, "42", None, now)
        listening.listen(db, scene.ctx, begun.instance.id)
        assert listening.pending_url(db, scene.ctx, begun.instance.id) is None
    assert scene.count("workflow_status", "name = 'claim'") == 2


def test_the_whole_way_through_the_engine(scene: Scene) -> None:
    begun = scene.live()
    scene.connected(begun)
    scene.telegram.looks = [OwnerClaim(None, None, 3), OwnerClaim("42", "ada", 4)]
    with scene.ctx.db.tx() as db:
        listening.listen(db, scene.ctx, begun.instance.id)
    with engine.running(scene.ctx):
        scene.wait(lambda: scene.count("operation", "kind = 'configure' AND state = 'done'") == 1)
    assert connection_of(scene, begun).owner_external_id == "42"
    assert '"42"' in (scene.world.root / begun.instance.id / files.CONFIG).read_text()
