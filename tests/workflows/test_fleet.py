"""The operator's list of assistants."""

from __future__ import annotations

import pytest

from clawhaven.core.errors import Invalid
from clawhaven.instances import health
from clawhaven.instances.states import State
from clawhaven.workflows import fleet
from tests.workflows.scene import Scene


def names(scene: Scene, state: str = "", search: str = "") -> set[str]:
    with scene.ctx.db.read() as db:
        return {one.instance.id for one in fleet.list_fleet(db, state, search).ships}


def test_by_state_by_trouble_and_by_words(scene: Scene) -> None:
    made = {state: scene.put_in(state, f"{state}@example.com").instance.id for state in State}
    for state in State:
        assert names(scene, state) == {made[state]}
    assert names(scene) == set(made.values()) - {made[State.DELETED]}
    assert names(scene, fleet.TROUBLE) == {made[State.FAILED]}
    now, running = scene.ctx.clock.now(), made[State.ACTIVE]
    with scene.ctx.db.tx() as db:
        health.record(db, running, now, status="exited", is_healthy=False, detail="code 1")
    assert names(scene, fleet.TROUBLE) == {made[State.FAILED], running}
    assert names(scene, search="ACTIVE@") == {running}
    assert names(scene, search=running) == {running}
    assert names(scene, search="%") == set()
    with scene.ctx.db.read() as db:
        (ship,) = fleet.list_fleet(db, search=running).ships
        assert ship.seen is not None
        assert (ship.email, ship.seen.status, ship.host) == ("active@example.com", "exited", scene.ctx.host)
        assert fleet.count_states(db) == dict.fromkeys(map(str, State), 1)
        for wrong in ({"state": "x"}, {"cursor": "x"}):
            with pytest.raises(Invalid):
                fleet.list_fleet(db, **wrong)


def test_page_by_page(scene: Scene) -> None:
    made = {scene.sign_up(f"u{number}@example.com").instance.id for number in range(5)}
    seen: list[str] = []
    cursor = None
    with scene.ctx.db.read() as db:
        for _ in range(3):
            found = fleet.list_fleet(db, cursor=cursor, limit=2)
            seen += [one.instance.id for one in found.ships]
            cursor = found.next_cursor
    assert cursor is None
    assert len(seen) == 5
    assert set(seen) == made
