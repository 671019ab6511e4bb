"""Durable work as the operator sees it, and what failed tried again from where it failed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from clawhaven.core.audit import AuditEntry
from clawhaven.core.errors import Conflict, Invalid, NotFound
from clawhaven.workflows import engine, runs
from clawhaven.workflows.engine import enqueue, step, workflow
from tests.workflows.scene import Scene

calls: list[str] = []
is_broken = True


@workflow("rehearse_failing")
def rehearse_failing(name: str) -> str:
    """Two steps; the second gives up as long as it is broken."""
    first_step(name)
    second_step(name)
    return "came through"


@step("first_step")
def first_step(name: str) -> None:
    """Always works."""
    calls.append(f"first {name}")


@step("second_step", attempts=1)
def second_step(name: str) -> None:
    """Works once it is mended."""
    calls.append(f"second {name}")
    if is_broken:
        raise LookupError("no such shelf")


def ask(scene: Scene, *names: str) -> None:
    with scene.ctx.db.tx() as db:
        for name in names:
            options = {"queue": engine.INSTANCES, "partition": f"ins_{name}"}
            enqueue(db, scene.ctx, "rehearse_failing", f"rehearsal:{name}", name, **options)


def test_failed_work_is_told_and_tried_again_from_its_step(scene: Scene) -> None:
    global is_broken
    is_broken, calls[:] = True, []
    ask(scene, "a")
    waiting = runs.list_runs(scene.ctx, "waiting").runs
    assert [(one.name, one.subject, one.state) for one in waiting] == [("rehearse_failing", "ins_a", "waiting")]
    with pytest.raises(Conflict):
        runs.retry(scene.ctx, "rehearsal:a", "user:boss")
    with engine.running(scene.ctx):
        scene.wait(lambda: runs.list_runs(scene.ctx, "failed").runs != [])
        (failed,) = runs.list_runs(scene.ctx, "failed").runs
        assert (failed.id, failed.step, failed.attempts) == ("rehearsal:a", "second_step", 1)
        assert "internal_error" in failed.reason
        with scene.ctx.db.read() as db:
            assert runs.count_states(db)["failed"] == 1
        is_broken = False
        runs.retry(scene.ctx, "rehearsal:a", "user:boss")
        scene.wait(lambda: runs.list_runs(scene.ctx, "done").runs != [])
    (done,) = runs.list_runs(scene.ctx, "done").runs
    assert done.reason == "came through"
    assert calls == ["first a", "second a", "second a"]
    with scene.ctx.db.read() as db:
        (line,) = db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "workflow.retry"))
        assert (line.actor, line.subject) == ("user:boss", "rehearsal:a")
    for wrong, error in (("rehearsal:a", Conflict), ("nothing", NotFound)):
        with pytest.raises(error):
            runs.retry(scene.ctx, wrong, "user:boss")


def test_the_last_step_that_failed_is_the_one_to_try_again() -> None:
    said = [{"done": 1}, {"failed": {"code": "answered"}}, {"done": 2}, {"failed": {"code": "last"}}, {"done": 3}]
    steps = [{"function_id": at, "output": one, "error": None} for at, one in enumerate(said, 1)]
    assert runs._failed_step(steps) == 4
    assert runs._failed_step(steps[:3]) == 2
    assert runs._failed_step(steps[:1]) == 1
    assert runs._failed_step([]) == 1


def test_page_by_page_and_only_known_states(scene: Scene) -> None:
    ask(scene, *"abcde")
    seen, cursor = [], None
    for _ in range(3):
        found = runs.list_runs(scene.ctx, "waiting", cursor, 2)
        seen += [one.id for one in found.runs]
        cursor = found.next_cursor
    assert cursor is None
    assert sorted(seen) == [f"rehearsal:{name}" for name in "abcde"]
    for wrong in ({"state": "x"}, {"cursor": "x"}):
        with pytest.raises(Invalid):
            runs.list_runs(scene.ctx, **wrong)
