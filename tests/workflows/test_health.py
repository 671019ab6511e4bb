"""The sweep over the fleet: looks at everyone, starts what is down, tells what stays down, once a day."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clawhaven.instances import operations
from clawhaven.instances.models import Observed, Operation
from clawhaven.instances.states import State
from clawhaven.workflows import attempts, engine, health
from tests.workflows.scene import Scene


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps can be called by themselves."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    return scene


def sweep(scene: Scene, *, is_startup: bool = False) -> tuple[int, int, int]:
    """Seen, unhealthy, restarted; what was asked for is done at once."""
    counts = health.sweep_gateways(is_startup)
    with scene.ctx.db.tx() as db:
        for row in db.query(Operation).filter_by(kind="restart"):
            operations.close(db, row.id, scene.ctx.clock.now())
    scene.ctx.clock.advance(timedelta(minutes=1))
    return counts["seen"], counts["unhealthy"], counts["restarted"]


def test_only_who_should_run_is_looked_at(stage: Scene) -> None:
    for state in State:
        stage.put_in(state)
    assert sweep(stage) == (1, 0, 0)
    assert stage.count("operation", "kind = 'restart'") == 0


def test_a_gateway_that_is_down_is_started_three_times_and_then_told_once(stage: Scene) -> None:
    begun = stage.live()
    stage.world.stop({"folder": begun.instance.id, "port": 0}, 0)
    assert [sweep(stage) for _ in range(6)] == [(1, 1, 1)] * 3 + [(1, 1, 0)] * 3
    assert stage.count("operation", "kind = 'restart'") == 3
    assert stage.count("notice", "kind = 'alert'") == 1
    assert stage.count("audit_log", "action = 'instance.restart' AND actor = 'workflow:health_sweep'") == 3
    assert stage.instance(begun.instance.id).state == State.ACTIVE, "looking never changes the lifecycle"


def test_at_our_own_start_a_stopped_gateway_costs_no_try(stage: Scene) -> None:
    begun = stage.live()
    stage.world.stop({"folder": begun.instance.id, "port": 0}, 0)
    assert [sweep(stage, is_startup=True) for _ in range(5)] == [(1, 1, 1)] * 5
    with stage.ctx.db.read() as db:
        assert db.get_one(Observed, begun.instance.id).restarts == 0


def test_one_that_is_being_worked_on_is_left_alone(stage: Scene) -> None:
    begun = stage.live()
    stage.world.stop({"folder": begun.instance.id, "port": 0}, 0)
    with stage.ctx.db.tx() as db:
        operations.open_operation(db, begun.instance.id, "configure", stage.ctx.clock.now())
    assert health.sweep_gateways(False)["restarted"] == 0
    assert stage.count("observation") == 0


def test_an_engine_that_is_down_restarts_nobody_and_is_told_after_a_while(stage: Scene) -> None:
    begun = stage.live()
    (stage.world.root / "DOWN").touch()
    assert {sweep(stage) for _ in range(15)} == {(1, 1, 0)}
    assert stage.count("notice", "kind = 'alert'") == 0
    assert sweep(stage) == (1, 1, 0)
    assert stage.count("notice", "kind = 'alert'") == 1
    (stage.world.root / "DOWN").unlink()
    assert sweep(stage) == (1, 0, 0)
    with stage.ctx.db.read() as db:
        seen = db.get_one(Observed, begun.instance.id)
        assert (seen.status, seen.is_healthy, seen.unhealthy_since) == ("running", True, None)


def test_one_that_breaks_the_look_hides_no_other(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sorted([stage.live("a@example.com").instance.id, stage.live("b@example.com").instance.id])
    honest = health.look

    def look(ctx: object, instance: object) -> tuple[str, bool, str]:
        if instance.id == first:  # type: ignore[attr-defined]
            raise LookupError("nonsense in its answer")
        return honest(ctx, instance)  # type: ignore[arg-type]

    monkeypatch.setattr(health, "look", look)
    monkeypatch.setattr(health.log, "exception", lambda *_, **__: None)
    assert sweep(stage) == (2, 1, 0)
    with stage.ctx.db.read() as db:
        assert db.get(Observed, second) is not None
        assert db.get(Observed, first) is None
