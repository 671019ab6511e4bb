"""Operations and their steps, as a person watches them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clawhaven.core.db import Database
from clawhaven.instances import operations
from clawhaven.instances.models import Instance
from tests.house.test_states import make_row

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def instance_id(db: Database) -> str:
    """An instance."""
    with db.tx() as tx:
        made: str = make_row(tx, Instance.__table__, id="ins_1")
        return made


def shown(db: Database, operation_id: str) -> str:
    """The steps as one letter each: waiting, running, done, failed, undone."""
    with db.read() as tx:
        return "".join(step.state[0] for step in operations.steps(tx, operation_id))


def test_from_queued_to_done(db: Database, instance_id: str) -> None:
    with db.tx() as tx:
        operation = operations.open_operation(tx, instance_id, "provision", NOW, done=("payment_confirmed",))
    assert shown(db, operation.id) == "dwwwwww"
    for position, name in enumerate(operations.STEPS["provision"][1:], 1):
        with db.tx() as tx:
            operations.begin_step(tx, operation.id, name, NOW)
        assert shown(db, operation.id)[position] == "r"
        with db.tx() as tx:
            operations.end_step(tx, operation.id, name, NOW)
            operations.begin_step(tx, operation.id, name, NOW)
        assert shown(db, operation.id)[position] == "d", "a step that is done does not run again for the eye"
    with db.tx() as tx:
        found = operations.under_way(tx, instance_id)
        assert found is not None
        assert (found.id, found.state) == (operation.id, "running")
        operations.close(tx, operation.id, NOW)
        operations.close(tx, operation.id, NOW, "late", "A late failure changes nothing.")
    with db.read() as tx:
        assert operations.under_way(tx, instance_id) is None
        told = operations.as_json(tx, operations.latest(tx, instance_id) or operation)
    assert (told["state"], told["error"], told["message"]) == ("done", None, None)


def test_undone_but_paid(db: Database, instance_id: str) -> None:
    with db.tx() as tx:
        operation = operations.open_operation(tx, instance_id, "provision", NOW, done=("payment_confirmed",))
        for name in ("reserve_place", "write_files"):
            operations.begin_step(tx, operation.id, name, NOW)
            operations.end_step(tx, operation.id, name, NOW)
        operations.begin_step(tx, operation.id, "start_gateway", NOW)
        operations.end_step(tx, operation.id, "start_gateway", NOW, "failed")
        operations.undo_steps(tx, operation.id, NOW)
        operations.close(tx, operation.id, NOW, "disk_full", "Full.")
    assert shown(db, operation.id) == "duufwww"
    with db.read() as tx:
        told = operations.as_json(tx, operations.latest(tx, instance_id, "provision") or operation)
        assert (told["state"], told["error"], told["ended_at"]) == ("failed", "disk_full", NOW.isoformat())
        assert operations.latest(tx, instance_id, "delete") is None


@pytest.mark.parametrize("kind", sorted(operations.STEPS))
def test_every_kind_opens_with_its_steps(db: Database, instance_id: str, kind: str) -> None:
    with db.tx() as tx:
        first = operations.open_operation(tx, instance_id, kind, NOW)
        later = operations.open_operation(tx, instance_id, kind, NOW + timedelta(seconds=1))
    with db.read() as tx:
        assert [step.name for step in operations.steps(tx, first.id)] == list(operations.STEPS[kind])
        under_way, latest = operations.under_way(tx, instance_id), operations.latest(tx, instance_id, kind)
        assert under_way is not None
        assert latest is not None
        assert (under_way.id, latest.id) == (first.id, later.id)
