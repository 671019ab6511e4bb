"""kill -9 while an assistant's key for the models is replaced: it ends with one new key, and works on the way."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from clawhaven.core.secrets import hash_token
from clawhaven.metering import Grant
from tests.journeys.installation import Installation

STEPS = ("make_key", "close_gateway", "open_gateway", "see_ready", "see_channels", "finish")
KILLS = [*(("sqlite", step) for step in STEPS), ("postgresql", "make_key"), ("postgresql", "open_gateway")]


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    installation = Installation(tmp_path, database_url)
    yield installation
    installation.close()


def granted(house: Installation) -> Grant:
    with house.db.read() as db:
        return db.scalars(sa.select(Grant)).one()


@pytest.mark.parametrize(("database_url", "after"), KILLS, indirect=["database_url"])
def test_killed_after_any_step_it_goes_on_to_the_end(house: Installation, after: str) -> None:
    first = house.start()
    begun = house.sign_up("dora@example.com")
    cookies, instance_id = dict(begun.cookies), begun.json()["instance_id"]
    house.pay(begun.json()["checkout_url"])
    house.wait_for(instance_id, "active")
    # Nothing is under way any more: on PostgreSQL a dead worker's lease would hold the next operation up.
    house.wait(lambda: house.count("operation", "state <> 'done'") == 0, "the provisioning to end")
    time.sleep(1)
    secrets = house.folder / "world" / instance_id / "secrets" / "secrets.json"

    def in_files() -> str:
        return hash_token(json.loads(secrets.read_text())["house"]["key"])

    before = in_files()
    house.kill(first)
    dying = house.start(crash_after=after)
    assert house.http.post(f"/api/instances/{instance_id}/replace-key", cookies=cookies).status_code == 202
    house.wait(lambda: dying.poll() is not None, "the crash")
    assert dying.returncode == -signal.SIGKILL, house.log_tail()
    seen = granted(house)
    made = seen.key_hash
    is_running_with_it = after not in ("make_key", "close_gateway")
    assert made != before
    assert seen.replaced_key_hash == (None if is_running_with_it else before)
    assert in_files() == (made if is_running_with_it else before)
    with house.db.tx() as db:
        db.connection().exec_driver_sql("UPDATE executor_lease SET seen = 0")
    house.start()
    house.wait(lambda: house.count("operation", "state IN ('queued', 'running')") == 0, "the operation to end")
    seen = granted(house)
    assert (seen.key_hash, seen.replaced_key_hash, in_files(), seen.is_active) == (made, None, made, True)
    assert house.count("operation", "kind = 'replace_key' AND state = 'done'") == 1
    assert house.world.running() == house.world.made() == [instance_id]
    assert house.count("boot_slot") == 0
    assert house.problems() == []
