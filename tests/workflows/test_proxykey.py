"""Replacing the key for the models: both are accepted on the way, the new one alone at the end, whatever happens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from clawhaven.core.errors import IllegalMove, RateLimited, Unauthorized
from clawhaven.core.secrets import hash_token
from clawhaven.instances.drafts import PROXY_KEY_PURPOSE
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import Reason, State
from clawhaven.metering import find_bearer
from clawhaven.ports.runtime import Placement
from clawhaven.workflows import access, attempts, engine, lifecycle, proxykey
from tests.workflows.scene import Scene
from tests.workflows.test_backup import ended

ME = "user:me"


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A worker runs, whose steps do not wait between tries; a gateway that is not ready is given up soon."""
    monkeypatch.setattr(attempts, "pause", lambda _seconds: None)
    scene.ctx.settings.start_timeout_seconds = 2
    with engine.running(scene.ctx):
        yield scene


@pytest.fixture
def by_hand(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps are run by the test itself."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    return scene


def ready(scene: Scene, state: State = State.ACTIVE) -> str:
    instance_id = scene.put_in(state).instance.id
    # A worker may be building what was just put there by hand; it writes the placement at the end.
    scene.wait(lambda: scene.count("workflow_status", "name = 'provision' AND status = 'PENDING'") == 0)
    if state == State.SUSPENDED:
        (scene.world.root / instance_id / "RUNNING").unlink()
    return instance_id


def key_of(scene: Scene, instance_id: str) -> str:
    return scene.ctx.keys.open(scene.instance(instance_id).proxy_key, PROXY_KEY_PURPOSE)


def in_files(scene: Scene, instance_id: str) -> str:
    tree = json.loads((scene.world.root / instance_id / "secrets" / "secrets.json").read_text())
    return str(tree["house"]["key"])


def is_accepted(scene: Scene, key: str) -> bool:
    try:
        with scene.ctx.db.read() as db:
            find_bearer(db, hash_token(key))
    except Unauthorized:
        return False
    return True


def ask(scene: Scene, instance_id: str) -> Operation:
    with scene.ctx.db.tx() as db:
        return proxykey.ask_replace(db, scene.ctx, instance_id, ME)


def run(scene: Scene, instance_id: str) -> tuple[str, str | None]:
    found = ended(scene, ask(scene, instance_id))
    return found.state, found.error_code


def look_at(scene: Scene, monkeypatch: pytest.MonkeyPatch, verb: str, *keys: str) -> list[list[bool]]:
    """Which of these keys, and of the one that is in the row by then, are accepted when the runtime does this."""
    real, seen = getattr(scene.world, verb), list[list[bool]]()

    def spy(placement: Placement, *more: Any) -> Any:
        known = [*keys, key_of(scene, placement["folder"])]
        seen.append([is_accepted(scene, key) for key in known])
        return real(placement, *more)

    monkeypatch.setattr(scene.world, verb, spy)
    return seen


def test_both_are_accepted_until_it_runs_with_the_new_one(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_id = ready(stage)
    before = key_of(stage, instance_id)
    assert in_files(stage, instance_id) == before
    stops = look_at(stage, monkeypatch, "stop", before)
    starts = look_at(stage, monkeypatch, "start", before)
    assert run(stage, instance_id) == ("done", None)
    after = key_of(stage, instance_id)
    assert after != before
    assert after.startswith("chp_")
    assert in_files(stage, instance_id) == after
    assert (stops[0], starts) == ([True, True], [[True, True]])
    assert (is_accepted(stage, before), is_accepted(stage, after)) == (False, True)
    assert stage.world.running() == [instance_id]
    assert stage.instance(instance_id).state == State.ACTIVE
    assert stage.count("model_grant", "is_active AND replaced_key_hash IS NULL") == 1
    assert stage.count("audit_log", f"action = 'instance.replace_key' AND actor = '{ME}'") == 1
    assert stage.count("instance_event", "kind = 'key_replaced'") == 1


def test_asked_by_many_at_once_it_makes_one(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_id = ready(stage)
    gate, asked = threading.Event(), list[str]()
    real = stage.world.stop

    def stop(placement: Placement, drain_seconds: float) -> None:
        assert gate.wait(30)
        real(placement, drain_seconds)

    monkeypatch.setattr(stage.world, "stop", stop)
    threads = [threading.Thread(target=lambda: asked.append(ask(stage, instance_id).id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stage.wait(lambda: stage.count("model_grant", "replaced_key_hash IS NOT NULL") == 1)
    made = key_of(stage, instance_id)
    operation = ask(stage, instance_id)
    assert set(asked) == {operation.id}
    gate.set()
    assert ended(stage, operation).state == "done"
    assert key_of(stage, instance_id) == made
    assert stage.count("operation", "kind = 'replace_key'") == 1
    assert stage.count("audit_log", "action = 'instance.replace_key'") == 1


def test_a_paused_one_gets_it_when_it_is_started_next(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_id = ready(stage, State.SUSPENDED)
    before = key_of(stage, instance_id)
    assert run(stage, instance_id) == ("done", None)
    made = key_of(stage, instance_id)
    assert made != before
    assert stage.world.running() == []
    assert run(stage, instance_id) == ("done", None)
    assert key_of(stage, instance_id) == made, "nobody has seen it yet: there is no need for another one"
    assert stage.count("instance_event", "kind = 'key_replaced'") == 0
    (stage.world.root / instance_id / "RUNNING").write_text("0")  # a stop that never came through
    starts = look_at(stage, monkeypatch, "start", before)
    with stage.ctx.db.tx() as db:
        operation = lifecycle.ask_resume(db, stage.ctx, instance_id, Reason.OWNER, ME)
    assert operation is not None
    assert ended(stage, operation).state == "done"
    assert starts == [[True, True]]
    assert (stage.world.root / instance_id / "RUNNING").read_text() != "0", "what ran with the one before is stopped"
    assert in_files(stage, instance_id) == made
    assert (is_accepted(stage, before), is_accepted(stage, made)) == (False, True)
    assert stage.count("instance_event", "kind = 'key_replaced'") == 1


def test_one_that_cannot_be_restarted_goes_on_with_its_key_until_it_can(stage: Scene) -> None:
    instance_id = ready(stage)
    before, down = key_of(stage, instance_id), stage.world.root / "DOWN"
    down.touch()
    assert run(stage, instance_id) == ("failed", "docker_down")
    made = key_of(stage, instance_id)
    assert (is_accepted(stage, before), is_accepted(stage, made)) == (True, True)
    down.unlink()
    with stage.ctx.db.tx() as db:
        operation = lifecycle.ask_restart(db, stage.ctx, instance_id, ME)
    assert ended(stage, operation).state == "done"
    assert (is_accepted(stage, before), is_accepted(stage, made)) == (False, True)
    assert in_files(stage, instance_id) == key_of(stage, instance_id) == made


def test_a_plan_that_changes_meanwhile_ends_no_key(by_hand: Scene) -> None:
    scene, ctx = by_hand, by_hand.ctx
    instance_id = scene.live().instance.id
    before = key_of(scene, instance_id)
    with ctx.db.tx() as db:
        access.replace_key(db, ctx, db.get_one(Instance, instance_id))
        instance = db.get_one(Instance, instance_id)
        access.grant(db, ctx, instance, ctx.keys.open(instance.proxy_key, PROXY_KEY_PURPOSE))
    assert (is_accepted(scene, before), is_accepted(scene, key_of(scene, instance_id))) == (True, True)


def test_a_step_that_is_killed_before_it_is_recorded_does_the_same_again(by_hand: Scene) -> None:
    scene = by_hand
    instance_id = scene.live().instance.id
    before, operation_id, made = key_of(scene, instance_id), ask(scene, instance_id).id, set[str]()
    for _ in range(2):
        proxykey.make_key(instance_id, operation_id)
        made.add(key_of(scene, instance_id))
    (after,) = made
    for _ in range(2):
        lifecycle.close_gateway(instance_id, operation_id)
        assert (is_accepted(scene, before), is_accepted(scene, after)) == (True, True)
        assert in_files(scene, instance_id) == before
    for _ in range(2):
        assert lifecycle.open_gateway(instance_id, operation_id)
        assert (is_accepted(scene, before), is_accepted(scene, after)) == (False, True)
    assert in_files(scene, instance_id) == after != before
    assert scene.count("instance_event", "kind = 'key_replaced'") == 1


def test_only_what_runs_or_is_paused_has_a_key_to_replace(by_hand: Scene) -> None:
    scene = by_hand
    words = {
        State.PENDING: "waiting for its payment",
        State.PROVISIONING: "being built",
        State.FAILED: "could not be started",
        State.DELETED: "is deleted",
    }
    for state, called in words.items():
        instance_id = scene.put_in(state).instance.id
        before = scene.counts()
        with pytest.raises(IllegalMove, match=called):
            ask(scene, instance_id)
        assert scene.counts() == before
    instance_id = scene.live().instance.id
    with scene.ctx.db.tx() as db:
        lifecycle.ask_delete(db, scene.ctx, instance_id, ME)
    with pytest.raises(IllegalMove, match="being deleted"):
        ask(scene, instance_id)


def test_one_that_is_deleted_meanwhile_gets_none(by_hand: Scene) -> None:
    scene = by_hand
    instance_id = scene.live().instance.id
    before, operation_id = key_of(scene, instance_id), ask(scene, instance_id).id
    with scene.ctx.db.tx() as db:
        lifecycle.ask_delete(db, scene.ctx, instance_id, ME)
    with pytest.raises(engine.StepFailed) as refused:
        proxykey.make_key(instance_id, operation_id)
    assert refused.value.code == "cancelled"
    assert key_of(scene, instance_id) == before


def test_so_often_an_hour(by_hand: Scene) -> None:
    scene = by_hand
    instance_id = scene.live().instance.id
    for _ in range(proxykey.AN_HOUR):
        operation = ask(scene, instance_id)
        with scene.ctx.db.tx() as db:
            db.get_one(Operation, operation.id).state = "done"
    with pytest.raises(RateLimited):
        ask(scene, instance_id)
