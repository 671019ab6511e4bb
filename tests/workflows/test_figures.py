"""The installation in numbers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from clawhaven.core.metrics import page
from clawhaven.instances.states import State
from clawhaven.workflows import engine, figures
from clawhaven.workflows.engine import running
from tests.core.test_metrics import samples
from tests.workflows.scene import Scene


def read(scene: Scene) -> dict[str, float]:
    return samples(page([("", figures.read(scene.ctx).snapshot())]))


def test_an_installation_in_numbers(scene: Scene) -> None:
    for state in (State.ACTIVE, State.ACTIVE, State.SUSPENDED):
        scene.put_in(state)
    scene.ctx.clock.advance(timedelta(minutes=10))
    found = read(scene)
    assert found["clawhaven_instances{state=active}"] == 2
    assert found["clawhaven_instances{state=suspended}"] == 1
    assert found["clawhaven_instances{state=failed}"] == 0
    assert found["clawhaven_database_up{}"] == 1
    assert found["clawhaven_database_bytes{}"] > 0
    assert found["clawhaven_calls_open{}"] == 0
    assert found["clawhaven_notices{state=pending}"] >= 2
    assert found["clawhaven_notice_oldest_seconds{}"] >= 600
    assert found["clawhaven_workers{}"] == 0
    assert found[f"clawhaven_workflows{{queue={engine.NOTICES},state=enqueued}}"] >= 2
    with running(scene.ctx):
        scene.wait(lambda: read(scene)["clawhaven_notices{state=pending}"] == 0)
        assert read(scene)["clawhaven_workers{}"] == 1
    assert read(scene)["clawhaven_notice_oldest_seconds{}"] == 0


def test_a_database_that_does_not_answer_is_a_figure_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OperationalError("SELECT 1", {}, Exception("down"))

    monkeypatch.setattr(scene.ctx.db, "read", refuse)
    assert read(scene)["clawhaven_database_up{}"] == 0
