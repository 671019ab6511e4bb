"""The health sweep's verdicts: restart at most three times, forgive after quiet, tell the operator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clawhaven.core.db import Database
from clawhaven.instances import health
from clawhaven.instances.health import Outlook, Verdict
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from tests.house.test_states import make_row

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
WELL, RESTART, ALERT, WAIT = Verdict(False, False), Verdict(True, False), Verdict(False, True), Verdict(False, False)


class Sweeps:
    """One instance, looked at minute by minute."""

    def __init__(self, db: Database) -> None:
        self.db = db
        with db.tx() as tx:
            self.id: str = make_row(tx, Instance.__table__, id="ins_1", state=str(State.ACTIVE), placement={"port": 1})

    def look(self, minute: float, status: str = "running", is_healthy: bool = True, detail: str = "") -> Verdict:
        with self.db.tx() as tx:
            now = NOW + timedelta(minutes=minute)
            return health.record(tx, self.id, now, status=status, is_healthy=is_healthy, detail=detail)


@pytest.fixture
def sweeps(db: Database) -> Sweeps:
    """A fresh instance to look at."""
    return Sweeps(db)


@pytest.mark.parametrize("status", ["exited", "stopped", "absent"])
def test_what_is_gone_is_started_three_times_and_then_told(sweeps: Sweeps, status: str) -> None:
    assert sweeps.look(0) == WELL
    found = [sweeps.look(minute, status, False) for minute in range(1, 6)]
    assert found == [RESTART, RESTART, RESTART, ALERT, ALERT]


def test_what_does_not_answer_is_not_restarted_but_told_after_fifteen_minutes(sweeps: Sweeps) -> None:
    assert [sweeps.look(minute, "running", False, "x" * 900) for minute in (0, 5, 14.9)] == [WAIT] * 3
    assert sweeps.look(15, "running", False) == ALERT
    assert sweeps.look(16) == WELL
    assert sweeps.look(17, "running", False) == WAIT, "the clock starts anew"
    with sweeps.db.read() as tx:
        seen = health.observed(tx, sweeps.id)
        assert seen is not None
        assert (seen.is_healthy, seen.status) == (False, "running")


def test_a_day_of_quiet_is_forgiveness(sweeps: Sweeps) -> None:
    for minute in range(3):
        assert sweeps.look(minute, "exited", False) == RESTART
    assert sweeps.look(3, "exited", False) == ALERT
    for minute in range(4, 200):
        assert sweeps.look(minute) == WELL
    assert sweeps.look(200, "exited", False) == RESTART


def test_a_restart_that_helps_for_a_moment_is_counted(sweeps: Sweeps) -> None:
    assert sweeps.look(0, "exited", False) == RESTART
    assert sweeps.look(1) == WELL
    assert sweeps.look(2, "exited", False) == RESTART
    assert sweeps.look(3) == WELL
    assert sweeps.look(4, "exited", False) == RESTART
    assert sweeps.look(5) == WELL
    assert sweeps.look(6, "exited", False) == ALERT


def test_a_gateway_that_crashes_every_three_minutes_is_not_started_forever(sweeps: Sweeps) -> None:
    restarts = sum(
        sweeps.look(minute, *(("exited", False) if minute % 3 == 0 else ("running", True))).should_restart
        for minute in range(60)
    )
    assert restarts <= health.MAX_RESTARTS


def test_the_outlook_is_what_the_sweep_does(sweeps: Sweeps) -> None:
    """Whoever is told that it starts again by itself sees it start again."""
    for minute, (status, expected) in enumerate(
        [
            *[("exited", Outlook.RESTARTED)] * 3,
            *[("exited", Outlook.GIVEN_UP)] * 2,
            ("running", Outlook.SILENT),
            ("unknown", Outlook.UNKNOWN),
        ]
    ):
        verdict = sweeps.look(minute, status, False)
        with sweeps.db.read() as tx:
            seen = health.observed(tx, sweeps.id)
            assert seen is not None
            assert health.outlook(seen) == expected
        assert verdict.should_restart is (expected == Outlook.RESTARTED)


def test_who_is_looked_at(db: Database) -> None:
    with db.tx() as tx:
        for number, state in enumerate(State):
            make_row(
                tx, Instance.__table__, id=f"ins_{number}", slug=f"s{number}", state=str(state), placement={"port": 1}
            )
        make_row(tx, Instance.__table__, id="ins_unplaced", slug="u", state="active")
        make_row(tx, Instance.__table__, id="ins_going", slug="g", state="active", placement={}, deletion_asked_at=NOW)
    with db.read() as tx:
        assert [one.id for one in health.due(tx)] == [f"ins_{list(State).index(State.ACTIVE)}"]
