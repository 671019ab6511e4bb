"""kill -9 after every single step: whoever starts again ends in the same state, one gateway, one charge."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.installation import Installation

CHECKOUT_AND_PROVISION = (
    "find_checkout",
    "settle_checkout",
    "close_event",
    "reserve_place",
    "write_files",
    "start_gateway",
    "wait_ready",
    "connect_channels",
    "activate",
    "send",
)
FAILING = ("undo", "fail")
ENDING = ("close_gateway", "finish", "end_subscription", "remove_gateway", "forget")


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    installation = Installation(tmp_path, database_url)
    yield installation
    installation.close()


def _restart(house: Installation, dead: object) -> None:
    """Wait for the crash, then start again. A PostgreSQL lease of a dead worker is aged first, to save a minute."""
    house.wait(lambda: dead.poll() is not None, "the crash")  # type: ignore[attr-defined]
    assert dead.returncode == -signal.SIGKILL, house.log_tail()  # type: ignore[attr-defined]
    with house.db.tx() as db:
        db.connection().exec_driver_sql("UPDATE executor_lease SET seen = 0")
    house.start()


def _assert_whole(house: Installation, instance_id: str) -> None:
    assert house.world.running() == [instance_id]
    assert house.world.made() == [instance_id]
    assert house.count("port_allocation") == 1
    assert house.count("boot_slot") == 0
    assert house.count("receipt") == 1
    assert house.count("ledger_entry", "kind = 'payment'") == 1
    assert house.count("subscription", "state = 'active'") == 1
    house.wait(lambda: house.count("operation", "state <> 'done'") == 0, "the operation to be closed")
    assert house.count("model_grant", "is_active") == 1
    assert house.problems() == []
    for kind in ("ready", "receipt", "welcome"):
        assert house.count("notice", f"kind = '{kind}'") == 1
    house.wait(lambda: house.count("notice", "state <> 'sent'") == 0, "every notice to be sent")


@pytest.mark.parametrize("after", CHECKOUT_AND_PROVISION)
def test_killed_after_a_step_of_the_way_up(house: Installation, after: str) -> None:
    process = house.start(crash_after=after)
    begun = house.sign_up("alice@example.com").json()
    if process.poll() is None:
        house.pay(begun["checkout_url"])
    _restart(house, process)
    house.wait_for(begun["instance_id"], "active")
    house.wait(lambda: house.count("payment_event", "state = 'received'") == 0, "the inbox to be empty")
    _assert_whole(house, begun["instance_id"])


@pytest.mark.parametrize("after", FAILING)
def test_killed_while_undoing_a_failure(house: Installation, after: str) -> None:
    process = house.start(crash_after=after)
    (house.folder / "world" / "DIES").touch()
    begun = house.sign_up("bob@example.com").json()
    house.pay(begun["checkout_url"])
    _restart(house, process)
    seen = house.wait_for(begun["instance_id"], "failed")
    assert seen["error"] == "gateway_exited"
    house.wait(lambda: house.count("operation", "state IN ('queued', 'running')") == 0, "the operation to end")
    assert house.world.list() == []
    assert house.count("port_allocation") == house.count("boot_slot") == house.count("model_grant", "is_active") == 0
    assert house.count("notice", "kind = 'instance_error'") == 1
    assert house.count("receipt") == 1
    assert house.problems() == []


@pytest.mark.parametrize("after", ENDING)
def test_killed_after_a_step_of_the_way_down(house: Installation, after: str) -> None:
    first = house.start()
    begun = house.sign_up("carol@example.com")
    cookies, body = dict(begun.cookies), begun.json()
    house.pay(body["checkout_url"])
    house.wait_for(body["instance_id"], "active")
    # Nothing is under way any more: on PostgreSQL a dead worker's lease would hold this assistant's next operation up.
    house.wait(lambda: house.count("operation", "state <> 'done'") == 0, "the provisioning to end")
    time.sleep(1)
    house.kill(first)
    process = house.start(crash_after=after)
    verb = "stop" if after in ("close_gateway", "finish") else "delete"
    path = f"/api/instances/{body['instance_id']}"
    if verb == "stop":
        house.http.post(f"{path}/stop", cookies=cookies)
    else:
        house.http.delete(path, cookies=cookies)
    _restart(house, process)
    house.wait(lambda: house.count("operation", "state IN ('queued', 'running')") == 0, "the operation to end")
    assert house.world.running() == []
    assert house.status(body["instance_id"])["status"] == ("suspended" if verb == "stop" else "deleted")
    if verb == "delete":
        assert house.world.list() == []
        assert house.count("port_allocation") == house.count("model_grant") == house.count("channel_connection") == 0
    assert house.problems() == []


def test_faults_end_in_failed_with_a_reason_and_can_be_tried_again(house: Installation) -> None:
    house.start(START_TIMEOUT_SECONDS="10")
    begun = house.sign_up("dora@example.com")
    cookies, body = dict(begun.cookies), begun.json()
    house.pay(body["checkout_url"])
    (house.folder / "world" / "DISK_FULL").touch()
    path = f"/api/instances/{body['instance_id']}"
    expected = {"DISK_FULL": "disk_full", "NPM_DOWN": "npm_unreachable", "DIES": "gateway_exited"}
    expected |= {"DOWN": "docker_down", "NEVER_READY": "not_ready"}
    for fault, code in expected.items():
        (house.folder / "world" / fault).touch()
        if fault != "DISK_FULL":
            assert house.http.post(f"{path}/start", cookies=cookies).status_code == 202
        house.wait_for(body["instance_id"], "provisioning", "failed")
        seen = house.wait_for(body["instance_id"], "failed")
        assert seen["error"] == code
        assert seen["message"]
        (house.folder / "world" / fault).unlink()
        house.wait(lambda: house.count("operation", "state IN ('queued', 'running')") == 0, "the operation to end")
        assert house.world.list() == []
        assert house.count("port_allocation") == house.count("boot_slot") == 0
    assert house.http.post(f"{path}/start", cookies=cookies).status_code == 202
    house.wait_for(body["instance_id"], "active")
    assert house.count("receipt") == 1
    assert house.count("usage") == 0
    assert house.problems() == []


def test_a_taken_port_is_left_alone(house: Installation) -> None:
    house.start(PORT_RANGE_START="20000", PORT_RANGE_END="20010")
    (house.folder / "world" / "PORT_TAKEN:20000").touch()
    begun = house.sign_up("eve@example.com").json()
    house.pay(begun["checkout_url"])
    house.wait_for(begun["instance_id"], "active")
    assert house.count("port_allocation", "port = 20001 AND instance_id IS NOT NULL") == 1
    assert house.count("port_allocation", "port = 20000 AND instance_id IS NULL") == 1
