"""kill -9 after every step of deleting an account: whoever starts again ends with nothing left but the books."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.installation import Installation
from tests.workflows.test_deletion import traces

STEPS = ("end_agreements", "see_assistants_gone", "remove_customers", "say_goodbye", "erase", "remove_gateway")
EMAIL = "zelda.quimby@example.com"
WORDS = ("zelda", "quimby", "Xanthippe", "Ferdinand")


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    installation = Installation(tmp_path, database_url)
    yield installation
    installation.close()


@pytest.mark.parametrize("after", STEPS)
def test_killed_after_a_step(house: Installation, after: str) -> None:
    first = house.start()
    about = {"assistant_name": "Xanthippe", "custom_instructions": "My cat is called Ferdinand."}
    begun = house.sign_up(EMAIL, **about)
    cookies, body = dict(begun.cookies), begun.json()
    house.pay(body["checkout_url"])
    house.wait_for(body["instance_id"], "active")
    house.wait(lambda: house.count("operation", "state <> 'done'") == 0, "the provisioning to end")
    house.wait(lambda: house.count("payment_event", "state = 'received'") == 0, "the inbox to be empty")
    assert traces(house.db, WORDS)
    time.sleep(1)
    house.kill(first)
    process = house.start(crash_after=after)
    with house.db.tx() as db:  # as if a mailed link had opened the session
        db.connection().exec_driver_sql("UPDATE user_account SET verified_at = created_at")
    answer = house.http.request("DELETE", "/api/auth/me", json={"confirm": EMAIL}, cookies=cookies)
    assert answer.status_code == 202, answer.text
    assert house.http.get("/api/auth/me", cookies=cookies).status_code == 401
    house.wait(lambda: process.poll() is not None, "the crash")
    assert process.returncode == -signal.SIGKILL, house.log_tail()
    with house.db.tx() as db:
        db.connection().exec_driver_sql("UPDATE executor_lease SET seen = 0")
    house.start()
    house.wait(lambda: house.count("account_deletion", "ended_at IS NULL") == 0, "the end of the deletion", 120)
    house.wait(lambda: house.count("payment_event", "state = 'received'") == 0, "the last events")
    assert house.world.list() == []
    assert house.count("instance", "state <> 'deleted'") == house.count("subscription", "state <> 'canceled'") == 0
    assert house.count("receipt") == 1
    assert house.problems() == []
    # What the vendor says afterwards is emptied by the sweep; everything else is gone already.
    left = [line for line in traces(house.db, WORDS) if not line.startswith('"payment_event"')]
    assert left == []
