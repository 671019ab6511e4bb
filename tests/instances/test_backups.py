"""Which backups are due, which are kept, and what can be done with one in which state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, IllegalMove, NotFound
from clawhaven.instances import backups, states
from clawhaven.instances.backups import MadeFor
from clawhaven.instances.models import Backup, Instance
from clawhaven.instances.states import Reason, State
from tests.house.test_states import make_row

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def instance_id(db: Database) -> str:
    with db.tx() as session:
        since = NOON - timedelta(days=1)
        return str(
            make_row(session, Instance.__table__, state=str(State.ACTIVE), placement={"port": 1}, active_at=since)
        )


def make(db: Database, instance_id: str, made_for: MadeFor, at: datetime, *, is_ready: bool = True) -> str:
    with db.tx() as session:
        backup = backups.open_backup(session, instance_id, made_for, at)
        if is_ready:
            assert backups.mark_ready(session, backup.id, at, size_bytes=10, digest="d", version="v")
        return backup.id


def listed(db: Database, instance_id: str) -> list[str]:
    with db.read() as session:
        return [one.id for one in backups.list_backups(session, instance_id)]


def test_the_newest_daily_ones_and_safety_copies_are_kept_and_those_by_hand_stay(
    db: Database, instance_id: str
) -> None:
    own = make(db, instance_id, MadeFor.OWNER, NOON - timedelta(days=90))
    daily = [make(db, instance_id, MadeFor.DAILY, NOON - timedelta(days=day)) for day in range(5)]
    safety = [make(db, instance_id, MadeFor.RESTORE, NOON - timedelta(hours=hour + 1)) for hour in range(4)]
    old_failure = make(db, instance_id, MadeFor.DAILY, NOON - timedelta(days=1), is_ready=False)
    new_failure = make(db, instance_id, MadeFor.DAILY, NOON + timedelta(days=1), is_ready=False)
    with db.tx() as session:
        assert backups.mark_failed(session, old_failure, "disk_full")
        assert backups.mark_failed(session, new_failure, "disk_full")
        assert not backups.mark_failed(session, new_failure, "disk_full")
        assert not backups.mark_failed(session, own, "disk_full"), "what is ready stays ready"
        gone = backups.superfluous(session, instance_id, 3)
    assert set(gone) == {*daily[3:], *safety[2:], old_failure}
    with db.tx() as session:
        assert all(backups.begin_removing(session, one) for one in gone)
        assert not backups.begin_removing(session, gone[0])
        assert set(backups.every_id(session, instance_id)) >= set(gone), "their files are still to be removed"
        for one in [*gone, own]:
            backups.drop(session, one)
    assert listed(db, instance_id) == [new_failure, daily[0], safety[0], safety[1], daily[1], daily[2], own]


def test_what_is_no_backup_of_this_assistant_is_not_found(db: Database, instance_id: str) -> None:
    mine = make(db, instance_id, MadeFor.OWNER, NOON)
    with db.tx() as session:
        other = make_row(session, Instance.__table__)
        with pytest.raises(NotFound):
            backups.find(session, other, mine)
        assert backups.find_ready(session, instance_id, mine).id == mine
        making = backups.open_backup(session, instance_id, MadeFor.OWNER, NOON)
        with pytest.raises(IllegalMove, match="still being made"):
            backups.find_ready(session, instance_id, making.id)
        backups.begin_removing(session, mine)
        with pytest.raises(NotFound):
            backups.find(session, instance_id, mine)
        backups.forget(session, instance_id)
        assert backups.every_id(session, instance_id) == []


def test_only_so_many_by_hand(db: Database, instance_id: str) -> None:
    for _ in range(backups.MOST_OWN):
        make(db, instance_id, MadeFor.OWNER, NOON)
    with db.tx() as session, pytest.raises(Conflict) as refused:
        backups.open_backup(session, instance_id, MadeFor.OWNER, NOON)
    assert refused.value.error_code == "too_many_backups"
    make(db, instance_id, MadeFor.DAILY, NOON)


def test_a_day_begins_at_the_hour_that_was_chosen() -> None:
    assert backups.last_boundary(NOON, 12) == NOON
    assert backups.last_boundary(NOON, 13) == NOON - timedelta(hours=23)
    assert backups.last_boundary(NOON, 0) == NOON.replace(hour=0)


def test_one_is_due_once_a_day_and_a_paused_one_once(db: Database, clock: Clock, instance_id: str) -> None:
    def due(now: datetime) -> list[str]:
        with db.read() as session:
            return backups.due(session, backups.last_boundary(now, 3), 10)

    with db.tx() as session:
        make_row(session, Instance.__table__, state=str(State.PROVISIONING), placement={"port": 2})
        make_row(session, Instance.__table__, state=str(State.ACTIVE), active_at=NOON - timedelta(days=1))
        young = {"placement": {"port": 3}, "active_at": NOON - timedelta(hours=1)}
        make_row(session, Instance.__table__, state=str(State.ACTIVE), **young)
        leaving = {"placement": {"port": 4}, "active_at": NOON - timedelta(days=1), "deletion_asked_at": NOON}
        make_row(session, Instance.__table__, state=str(State.ACTIVE), **leaving)
    assert due(NOON) == [instance_id]
    make(db, instance_id, MadeFor.OWNER, NOON)
    assert due(NOON) == [instance_id], "one by hand is none of the daily ones"
    make(db, instance_id, MadeFor.DAILY, NOON, is_ready=False)
    assert due(NOON) == []
    with db.read() as session:
        assert backups.lost(session, NOON) == []
        assert len(backups.lost(session, NOON + timedelta(seconds=1))) == 1
    with db.tx() as session:
        session.query(Instance).filter(Instance.id != instance_id).update({"active_at": None})
    assert due(NOON + timedelta(days=1)) == [instance_id]
    with db.tx() as session:
        states.suspend(session, instance_id, NOON + timedelta(hours=1), Reason.PAYMENT)
    assert due(NOON + timedelta(days=1)) == [instance_id], "it ran after the newest backup"
    make(db, instance_id, MadeFor.DAILY, NOON + timedelta(days=1))
    assert due(NOON + timedelta(days=9)) == [], "nothing has changed since"
    with db.read() as session:
        assert backups.count_states(session) == {"making": 1, "ready": 2, "failed": 0, "removing": 0}
        assert backups.under_way(session, NOON) == 1
        assert backups.sum_bytes(session) == 20
        assert session.query(Backup).count() == 3
