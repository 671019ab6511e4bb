"""The worker door: work, schedules and the sandbox vendor's own clock, for as long as it is asked to."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from clawhaven import worker, workflows
from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from clawhaven.workflows import engine
from clawhaven.workflows.schedule import SCHEDULES, WORKFLOWS
from tests.workflows.scene import set_up


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_works_until_it_is_told_to_stop(settings: Settings, clock: Clock) -> None:
    with set_up(settings, clock) as scene:
        begun = scene.sign_up()
        scene.pay(begun)
        stop = threading.Event()
        thread = threading.Thread(target=worker.run, args=(scene.ctx, stop))
        thread.start()
        try:
            scene.wait(lambda: scene.instance(begun.instance.id).state == "active")
            scene.wait(lambda: scene.count("notice", "state <> 'sent'") == 0)
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive()
        assert scene.world.running() == [begun.instance.id], "stopping a worker stops no assistant"
        assert scene.count("executor_lease") == 0
        with pytest.raises(RuntimeError):
            engine.context()


def test_no_workflow_is_forgotten() -> None:
    folder = Path(str(workflows.__file__)).parent
    defining = {path.stem for path in folder.glob("*.py") if "\n@workflow(" in path.read_text()}
    assert len(defining) > 10
    assert defining <= {module.__name__.rpartition(".")[2] for module in WORKFLOWS}


def test_every_schedule_runs_something_that_is_there() -> None:
    known = {name for module in WORKFLOWS for name in vars(module)}
    assert {"health", "reconcile"} <= {entry["name"] for entry in SCHEDULES}
    for entry in SCHEDULES:
        assert entry["function"].__name__ in known
        assert len(entry["cron"].split()) == 5
