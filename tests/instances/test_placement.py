"""Ports and boot slots: never shared, never above the limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from clawhaven.core.db import Database
from clawhaven.core.errors import AtCapacity
from clawhaven.instances import placement
from clawhaven.instances.models import BootSlot, Instance, Port
from tests.house.test_states import make_row

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LIFE = timedelta(minutes=6)


@pytest.fixture
def ids(db: Database) -> list[str]:
    """Forty instances."""
    with db.tx() as tx:
        return [make_row(tx, Instance.__table__, id=f"ins_{number}", deleted_at=NOW) for number in range(40)]


def test_thirty_two_at_once_get_thirty_two_ports(db: Database, ids: list[str]) -> None:
    def take(instance_id: str) -> int:
        with db.tx() as tx:
            return placement.take_port(tx, "host", instance_id, 30_000, 30_031)

    with ThreadPoolExecutor(32) as pool:
        ports = list(pool.map(take, ids[:32]))
    assert sorted(ports) == list(range(30_000, 30_032))
    assert [take(instance_id) for instance_id in ids[:32]] == ports, "asking again is the same port"
    with pytest.raises(AtCapacity, match="30000 and 30031"):
        take(ids[32])
    with db.tx() as tx:
        placement.release_port(tx, ids[5])
        placement.release_port(tx, ids[5])
    assert take(ids[32]) == ports[5]
    with db.tx() as tx:
        assert placement.take_port(tx, "other host", ids[33], 30_000, 30_031) == 30_000


def test_a_port_somebody_else_listens_on_rests_for_an_hour(db: Database, ids: list[str]) -> None:
    with db.tx() as tx:
        assert placement.take_port(tx, "host", ids[0], 30_000, 30_001) == 30_000
        placement.block_port(tx, "host", 30_000, NOW)
        assert placement.take_port(tx, "host", ids[0], 30_000, 30_001) == 30_001
    with db.tx() as tx:
        placement.unblock_ports(tx, NOW + timedelta(minutes=59))
        with pytest.raises(AtCapacity):
            placement.take_port(tx, "host", ids[1], 30_000, 30_001)
    with db.tx() as tx:
        placement.unblock_ports(tx, NOW + timedelta(minutes=61))
        assert placement.take_port(tx, "host", ids[1], 30_000, 30_001) == 30_000


def test_a_port_outside_the_range_or_on_another_host_is_given_up(db: Database, ids: list[str]) -> None:
    with db.tx() as tx:
        assert placement.take_port(tx, "host", ids[0], 30_000, 30_009) == 30_000
    with db.tx() as tx:
        assert placement.take_port(tx, "host", ids[0], 40_000, 40_009) == 40_000
    with db.tx() as tx:
        assert placement.take_port(tx, "other host", ids[0], 40_000, 40_009) == 40_000
        assert tx.query(Port).count() == 1


def test_boots_never_exceed_their_slots(db: Database, ids: list[str]) -> None:
    most: list[int] = []

    def boot(instance_id: str) -> bool:
        with db.tx() as tx:
            got = placement.take_boot_slot(tx, "host", instance_id, 3, NOW, LIFE)
            most.append(tx.scalar(sa.select(sa.func.count()).select_from(BootSlot)) or 0)
        if got:
            with db.tx() as tx:
                placement.release_boot_slot(tx, instance_id)
        return got

    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(boot, ids))
    assert max(most) <= 3
    assert sum(got) >= 3
    with db.read() as tx:
        assert tx.query(BootSlot).count() == 0


def test_a_slot_is_kept_given_back_and_lost_by_a_crash(db: Database, ids: list[str]) -> None:
    with db.tx() as tx:
        take = placement.take_boot_slot
        assert take(tx, "host", ids[0], 2, NOW, LIFE)
        assert take(tx, "host", ids[0], 2, NOW, LIFE), "asking again is the same slot"
        assert take(tx, "host", ids[1], 2, NOW, LIFE)
        assert not take(tx, "host", ids[2], 2, NOW, LIFE)
        assert take(tx, "other host", ids[2], 2, NOW, LIFE)
        assert not take(tx, "host", ids[3], 1, NOW, LIFE), "fewer slots than are taken"
        assert take(tx, "host", ids[3], 2, NOW + LIFE + timedelta(seconds=1), LIFE)
        placement.release_boot_slot(tx, ids[3])
        placement.release_boot_slot(tx, ids[3])
    with db.tx() as tx:
        assert placement.take_boot_slot(tx, "host", ids[4], 1, NOW, LIFE)
