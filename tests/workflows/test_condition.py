"""The condition of the parts: what is found, and that it never raises."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy.exc import OperationalError

from clawhaven.instances import health
from clawhaven.instances.states import State
from clawhaven.notices.models import Notice
from clawhaven.workflows import condition, engine
from clawhaven.workflows.condition import Word
from tests.workflows.scene import Scene


class There:
    """A proxy that answers."""

    def answers(self) -> bool:
        return True


def look(scene: Scene) -> dict[str, condition.Part]:
    ctx = replace(scene.ctx, model=cast(Any, There()))
    return {part.name: part for part in condition.look(ctx)}


def test_everything_is_fine_but_what_is_not_running(scene: Scene) -> None:
    found = look(scene)
    assert [part.name for part in condition.look(scene.ctx)] == list(found)
    assert {name for name, part in found.items() if part.word is not Word.FINE} <= {"work"}
    with scene.ctx.db.read() as db:
        has_workers = engine.count_workers(db) > 0
    assert (found["work"].word is Word.FINE) is has_workers
    assert {part.name: part.word for part in condition.look(scene.ctx)}["model"] is Word.DOWN


def test_letters_that_wait_are_late(scene: Scene) -> None:
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        db.add(
            Notice(
                id="not_1",
                key="k",
                kind="welcome",
                recipient="a@example.com",
                subject="s",
                sealed_text="x",
                state="pending",
                created_at=now - timedelta(minutes=14),
            )
        )
    assert look(scene)["letters"].word is Word.FINE
    with scene.ctx.db.tx() as db:
        db.get_one(Notice, "not_1").created_at = now - timedelta(minutes=16)
    found = look(scene)["letters"]
    assert (found.word, found.since) == (Word.DISTURBED, now - timedelta(minutes=16))


def test_assistants_that_do_not_answer(scene: Scene) -> None:
    first = scene.put_in(State.ACTIVE, "one@example.com").instance.id
    second = scene.put_in(State.ACTIVE, "two@example.com").instance.id
    since = _see(scene, first, is_healthy=False)
    _see(scene, second, is_healthy=True)
    found = look(scene)["assistants"]
    assert (found.word, found.since) == (Word.DISTURBED, since)
    _see(scene, second, is_healthy=False)
    assert look(scene)["assistants"].word is Word.DOWN


def test_without_a_database(scene: Scene) -> None:
    class Gone:
        def read(self) -> None:
            raise OperationalError("SELECT 1", None, OSError("gone"))

    parts = condition.look(replace(scene.ctx, db=cast(Any, Gone()), model=cast(Any, There())))
    assert {part.name: part.word for part in parts} == {"web": Word.FINE, "database": Word.DOWN, "model": Word.FINE}
    assert condition.worst(parts) is Word.DOWN
    assert condition.worst(parts[:1]) is Word.FINE


def _see(scene: Scene, instance_id: str, *, is_healthy: bool) -> datetime:
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        health.record(db, instance_id, now, status="running", is_healthy=is_healthy, detail="")
    return now
