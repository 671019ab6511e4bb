"""Which OpenClaw an assistant runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clawhaven.core.db import Database
from clawhaven.instances import releases
from clawhaven.instances.models import Instance
from tests.house.test_states import make_row

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("version", "than", "is_older"),
    [
        ("2026.9.6", "2026.9.10", True),
        ("2026.9.6", "2026.9.6", False),
        ("2026.10.1", "2026.9.6", False),
        ("v2026.9.6-beta", "2026.9.7", True),
        (None, "2026.9.6", False),
        ("folder", "2026.9.6", False),
        ("2026.9.6", "latest", False),
    ],
)
def test_older(version: str | None, than: str, *, is_older: bool) -> None:
    assert releases.is_older(version, than) is is_older


def test_the_time_is_that_of_the_change(db: Database) -> None:
    with db.tx() as session:
        instance_id = make_row(session, Instance.__table__)
    seen = []
    for hour, version in enumerate(["2026.9.6", "2026.9.6", None, "2026.9.7", "x" * 60]):
        with db.tx() as session:
            releases.note_seen(session, instance_id, version, NOON + timedelta(hours=hour))
        with db.read() as session:
            found = session.get_one(Instance, instance_id)
            assert found.openclaw_since_at is not None
            seen.append((found.openclaw_version, (found.openclaw_since_at - NOON) / timedelta(hours=1)))
    assert seen == [("2026.9.6", 0), ("2026.9.6", 0), ("2026.9.6", 0), ("2026.9.7", 3), ("x" * 40, 4)]
