"""The engine: work exists if and only if its rows do, and a worker that dies loses none of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from clawhaven.core.ids import new_id
from clawhaven.workflows import engine
from tests.journeys.installation import Installation
from tests.workflows.scene import Scene


def test_work_is_rolled_back_with_its_rows_and_asked_for_once(scene: Scene) -> None:
    def ask(name: str, *, breaks: bool = False) -> None:
        with scene.ctx.db.tx() as db:
            engine.enqueue(db, scene.ctx, "deliver", name, "not_x", queue=engine.NOTICES)
            if breaks:
                raise LookupError

    with pytest.raises(LookupError):
        ask("one", breaks=True)
    assert scene.count("workflow_status") == 0
    for _ in range(3):
        ask("one")
    assert scene.count("workflow_status") == 1
    assert engine.is_over(scene.ctx, "one") is False
    assert engine.is_over(scene.ctx, "never asked for") is True


def test_steps_outside_a_launched_engine_say_so() -> None:
    with pytest.raises(RuntimeError, match="not launched"):
        engine.context()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_second_worker_on_one_sqlite_file_is_refused(scene: Scene) -> None:
    with engine.running(scene.ctx):
        second = engine.Engine(scene.ctx)
        with pytest.raises(RuntimeError, match="Another Clawhaven worker"):
            second.launch()
    with engine.running(scene.ctx):
        assert engine.context() is scene.ctx


@pytest.fixture
def house(tmp_path: Path, postgres_url: str, postgres_template: str) -> Iterator[Installation]:
    """An installation on PostgreSQL."""
    name = f"chaos_{new_id('x')[-8:]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"')
    made = Installation(tmp_path, postgres_url.rsplit("/", 1)[0] + f"/{name}", boot_seconds=3)
    yield made
    made.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_another_worker_takes_over_what_a_killed_one_was_at(house: Installation) -> None:
    """An API, two workers; the one that provisions is killed in the middle; its lease is aged to save a minute."""
    house.start(worker=False)
    workers = {worker.pid: worker for worker in (house.start(api=False) for _ in range(2))}
    house.wait(lambda: house.count("executor_lease") == 2, "both workers")
    begun = [house.sign_up(f"c{number}@example.com").json() for number in range(3)]
    for one in begun:
        house.pay(one["checkout_url"])
    house.wait(lambda: house.world.running(), "a gateway to boot")
    with house.db.read() as db:
        busy = db.execute(
            sa.text("SELECT executor_id FROM dbos.workflow_status WHERE name = 'provision' AND status = 'PENDING'")
        ).scalars()
        executor = str(next(iter(busy)))
    dead = workers.pop(int(executor.rsplit("-", 2)[1]))
    (alive,) = workers.values()
    house.kill(dead)
    assert dead.returncode == -signal.SIGKILL
    assert house.count("instance", "state = 'active'") < 3
    with house.db.tx() as db:
        db.execute(sa.text("UPDATE executor_lease SET seen = 0 WHERE executor_id = :dead"), {"dead": executor})
    for one in begun:
        house.wait_for(one["instance_id"], "active", seconds=120)
    assert alive.poll() is None
    assert house.world.running() == sorted(one["instance_id"] for one in begun)
    assert len(house.world.made()) == house.count("port_allocation") == 3
    assert house.count("receipt") == house.count("subscription", "state = 'active'") == 3
    assert house.count("notice", "kind = 'ready'") == house.count("notice", "kind = 'receipt'") == 3
    house.wait(lambda: house.count("payment_event", "state = 'received'") == 0, "the inbox to be empty")
    house.wait(lambda: house.count("operation", "state <> 'done'") == 0, "every operation to be done")
    assert house.count("boot_slot") == 0
    assert house.problems() == []
