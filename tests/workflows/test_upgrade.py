"""Another version of OpenClaw: in place and answering, or version and state as before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clawhaven.core.errors import IllegalMove
from clawhaven.instances import backups, states
from clawhaven.instances.backups import MadeFor
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import attempts, boot, engine, upgrade
from tests.workflows.scene import Scene
from tests.workflows.test_backup import ME, ended, listed


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A worker runs, whose steps do not wait between tries; a gateway that is not ready is given up soon."""
    monkeypatch.setattr(attempts, "pause", lambda _seconds: None)
    scene.ctx.settings.start_timeout_seconds = 2
    with engine.running(scene.ctx):
        yield scene


def outdated(scene: Scene, state: State = State.ACTIVE) -> str:
    instance_id = scene.put_in(state).instance.id
    # A worker may be building what was just put there by hand; it writes the placement at the end.
    scene.wait(lambda: scene.count("workflow_status", "name = 'provision' AND status = 'PENDING'") == 0)
    with scene.ctx.db.tx() as db:
        instance = db.get_one(Instance, instance_id)
        instance.openclaw_version = "2026.1.1"
        instance.placement = {**(instance.placement or {}), "version": "2026.1.1"}
    if state == State.SUSPENDED:
        (scene.world.root / instance_id / "RUNNING").unlink()
    (scene.world.root / instance_id / "state" / "memory").write_text("as the old version wrote it")
    return instance_id


def run(scene: Scene, instance_id: str) -> tuple[str, str | None]:
    with scene.ctx.db.tx() as db:
        operation = upgrade.ask_upgrade(db, scene.ctx, instance_id, ME)
        assert upgrade.ask_upgrade(db, scene.ctx, instance_id, ME).id == operation.id
    found = ended(scene, operation)
    return found.state, found.error_code


def test_the_newer_one_is_in_place(stage: Scene) -> None:
    instance_id = outdated(stage)
    assert run(stage, instance_id) == ("done", None)
    found = stage.instance(instance_id)
    assert found.placement is not None
    assert found.placement["version"] == "new"
    assert found.state == State.ACTIVE
    assert stage.world.running() == [instance_id]
    assert found.openclaw_version == "folder", "what the gateway says"
    assert [one.made_for for one in listed(stage, instance_id)] == ["upgrade"]
    assert stage.count("instance_event", "kind = 'upgraded'") == 1


def test_a_paused_one_is_not_changed(stage: Scene) -> None:
    """Nobody would see whether it answers: neither when it is asked, nor when it was paused meanwhile."""
    instance_id = outdated(stage, State.SUSPENDED)
    with pytest.raises(IllegalMove, match="paused"), stage.ctx.db.tx() as db:
        upgrade.ask_upgrade(db, stage.ctx, instance_id, ME)
    other = outdated(stage)
    with stage.ctx.db.tx() as db:
        operation = upgrade.ask_upgrade(db, stage.ctx, other, ME)
        states.suspend(db, other, stage.ctx.clock.now(), Reason.OWNER)
    found = ended(stage, operation)
    assert (found.state, found.error_code) == ("failed", "suspended")
    assert (stage.instance(other).placement or {})["version"] == "2026.1.1"
    assert stage.world.running() == []


def test_one_that_does_not_answer_goes_back_with_its_state(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_id = outdated(stage)
    memory, never = stage.world.root / instance_id / "state" / "memory", stage.world.root / "NEVER_READY"
    real = stage.world.pin

    def pin(placement: Any, to: Any) -> Any:
        if to is None:
            never.touch()
            memory.write_text("as the new version made it")
        else:
            never.unlink()
        return real(placement, to)

    monkeypatch.setattr(stage.world, "pin", pin)
    assert run(stage, instance_id) == ("failed", "put_back")
    found = stage.instance(instance_id)
    assert found.placement is not None
    assert found.placement["version"] == "2026.1.1"
    assert memory.read_text() == "as the old version wrote it"
    assert stage.world.running() == [instance_id]
    assert stage.count("notice", "kind = 'alert'") == 1


def test_killed_once_it_was_changed_and_then_refused_it_is_changed_back(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that changes the version does so, is killed before it can say so, and is refused when it runs again."""
    instance_id = outdated(stage)
    folder, real, refusals = stage.world.root / instance_id, stage.world.pin, [False, True]
    (folder / "VERSION").write_text("2026.1.1")

    def prepare() -> None:
        if refusals.pop(0):
            raise ProviderError("no way", permanent=True, code="npm_unreachable")

    def pin(placement: Any, to: Any) -> Any:
        pinned = real(placement, to)
        (folder / "VERSION").write_text(pinned["version"])
        if to is None:
            raise ProviderError("killed here", code="killed")
        return pinned

    monkeypatch.setattr(stage.world, "prepare", prepare)
    monkeypatch.setattr(stage.world, "pin", pin)
    assert run(stage, instance_id) == ("failed", "npm_unreachable")
    assert (folder / "VERSION").read_text() == "2026.1.1"
    assert (stage.instance(instance_id).placement or {})["version"] == "2026.1.1"
    assert (folder / "state" / "memory").read_text() == "as the old version wrote it"
    assert stage.world.running() == [instance_id]


@pytest.mark.parametrize("moment", ["started", "ready"])
def test_one_that_was_paused_before_it_was_seen_goes_back(
    stage: Scene, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    instance_id = outdated(stage)

    def pause(*_: Any) -> None:
        with stage.ctx.db.tx() as db:
            states.suspend(db, instance_id, stage.ctx.clock.now(), Reason.OWNER)

    def start(placement: Any) -> None:
        real(placement)
        pause()

    real = stage.world.start
    if moment == "started":
        monkeypatch.setattr(stage.world, "start", start)
    else:
        monkeypatch.setattr(boot, "release_slot", pause)
    assert run(stage, instance_id) == ("failed", "suspended")
    assert (stage.instance(instance_id).placement or {})["version"] == "2026.1.1"
    assert stage.world.running() == []
    assert stage.count("instance_event", "kind = 'upgraded'") == 0


def test_nothing_is_changed_without_a_copy(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    instance_id = outdated(scene)
    with scene.ctx.db.tx() as db:
        safety = backups.open_backup(db, instance_id, MadeFor.UPGRADE, scene.ctx.clock.now()).id
    with pytest.raises(engine.StepFailed) as refused:
        upgrade.change_version(instance_id, "op_x", safety, upgrade.note_before(instance_id))
    assert refused.value.code == "no_safety"
    assert (scene.instance(instance_id).placement or {})["version"] == "2026.1.1"


def test_only_to_a_newer_one(stage: Scene) -> None:
    instance_id = stage.live().instance.id
    for version in (None, stage.ctx.settings.openclaw_version, "2099.1.1"):
        with stage.ctx.db.tx() as db:
            db.get_one(Instance, instance_id).openclaw_version = version
        with pytest.raises(IllegalMove, match="no newer version"), stage.ctx.db.tx() as db:
            upgrade.ask_upgrade(db, stage.ctx, instance_id, ME)
    failed = stage.put_in(State.FAILED).instance.id
    with pytest.raises(IllegalMove), stage.ctx.db.tx() as db:
        upgrade.ask_upgrade(db, stage.ctx, failed, ME)
