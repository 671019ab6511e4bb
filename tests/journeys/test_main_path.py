"""From sign-up to an active assistant and away again, with the outside stood in for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.journeys.installation import Installation


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    installation = Installation(tmp_path, database_url)
    yield installation
    installation.close()


def test_sign_up_pay_chat_stop_start_delete(house: Installation) -> None:
    house.start()
    begun = house.sign_up("alice@example.com")
    assert begun.status_code == 201, begun.text
    body = begun.json()
    assert body["status"] == "pending"
    cookies = dict(begun.cookies)
    assert house.status(body["instance_id"])["status"] == "pending"
    assert house.world.list() == []

    house.pay(body["checkout_url"], duplicate=2, reorder=True)
    live = house.wait_for(body["instance_id"], "active")
    assert [step["state"] for step in live["steps"]] == ["done"] * 7
    assert "email" not in live
    assert house.world.running() == [body["instance_id"]]

    me = {"cookies": cookies}
    path = f"/api/instances/{body['instance_id']}"
    answer = house.http.post(f"{path}/chat", json={"message": "hello"}, **me)
    assert answer.json()["reply"] == "You said: hello"

    assert house.http.post(f"{path}/stop", **me).status_code == 202
    house.wait(lambda: house.world.running() == [], "the gateway to stop")
    stopped = house.http.get(path, **me).json()
    assert (stopped["status"], stopped["suspended_for"]) == ("suspended", ["owner"])
    refused = house.http.post(f"{path}/chat", json={"message": "hello"}, **me)
    assert (refused.status_code, refused.json()["error"]) == (409, "illegal_move")

    assert house.http.post(f"{path}/start", **me).status_code == 202
    house.wait_for(body["instance_id"], "active")
    assert house.world.running() == [body["instance_id"]]

    assert house.http.delete(path, **me).status_code == 202
    house.wait_for(body["instance_id"], "deleted")
    assert house.world.list() == []
    assert house.count("port_allocation") == 0
    assert house.count("model_grant") == 0
    assert house.count("subscription", "state = 'active'") == 0 or house.wait(
        lambda: house.count("subscription", "state = 'active'") == 0, "the subscription to end"
    )
    assert house.count("receipt") == 1
    assert house.problems() == []
    assert house.count("notice", "kind = 'ready'") == 1


def test_decline_then_pay_and_cancel(house: Installation) -> None:
    house.start()
    declined = house.sign_up("bob@example.com").json()
    house.pay(declined["checkout_url"], "declined")
    house.wait(lambda: house.count("checkout", "last_outcome = 'declined'") == 1, "the decline")
    assert house.status(declined["instance_id"])["status"] == "pending"
    house.pay(declined["checkout_url"], "paid")
    house.wait_for(declined["instance_id"], "active")

    cancelled = house.sign_up("carol@example.com").json()
    house.pay(cancelled["checkout_url"], "cancelled")
    house.wait_for(cancelled["instance_id"], "deleted")
    assert house.count("receipt") == 1
    assert house.problems() == []


def test_ten_sign_ups_at_once_with_one_email_make_one_account(house: Installation) -> None:
    house.start()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: house.sign_up("Same@Example.com"), range(10)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] + [409] * 9
    assert {answer.json().get("error") for answer in answers if answer.status_code == 409} == {"already_exists"}
    assert house.count("user_account") == house.count("account") == house.count("instance") == 1


def test_the_21st_customer_meets_at_capacity_and_queues(house: Installation) -> None:
    house.start(MAX_CUSTOMERS="20")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: house.sign_up(f"c{n}@example.com"), range(21)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 1
    assert refused[0].json()["error"] == "at_capacity"
    assert refused[0].json()["details"]["waitlist_url"].endswith("/waitlist")
    queued = house.http.post("/api/waitlist", json={"email": "late@example.com"})
    assert (queued.status_code, queued.json()["position"]) == (201, 1)


def test_fifty_provisions_at_once_end_with_bounded_boots(tmp_path: Path, database_url: str) -> None:
    house = Installation(tmp_path, database_url, boot_seconds=0.3)
    try:
        house.start(MAX_CUSTOMERS="100", MAX_PARALLEL_BOOTS="3", PORT_RANGE_START="20000", PORT_RANGE_END="20099")
        with ThreadPoolExecutor(8) as pool:
            begun = [answer.json() for answer in pool.map(lambda n: house.sign_up(f"c{n}@example.com"), range(50))]
        for one in begun:
            house.pay(one["checkout_url"])
        most = 0

        def all_active() -> bool:
            nonlocal most
            most = max(most, house.count("boot_slot"))
            return house.count("instance", "state = 'active'") == 50

        house.wait(all_active, "fifty assistants", 240)
        assert most <= 3
        assert len(house.world.running()) == 50
        assert house.count("port_allocation") == 50
        assert house.count("boot_slot") == 0
        assert house.problems() == []
    finally:
        house.close()


def test_paid_after_it_was_given_up_is_paid_back(house: Installation) -> None:
    house.start()
    begun = house.sign_up("dan@example.com")
    cookies, body = dict(begun.cookies), begun.json()
    assert house.http.delete(f"/api/instances/{body['instance_id']}", cookies=cookies).status_code == 202
    house.wait_for(body["instance_id"], "deleted")
    house.pay(body["checkout_url"])
    house.wait(lambda: house.count("ledger_entry", "kind = 'refund'") == 1, "the refund")
    house.wait(lambda: house.count("subscription", "state = 'canceled'") == 1, "the subscription to end")
    ledger = house.http.get("/api/billing/ledger", cookies=cookies).json()["items"]
    assert [line["kind"] for line in ledger] == ["refund", "plan_returned", "plan", "payment"]
    assert ledger[0]["balance_after_micros"] == 0
    assert house.world.list() == []
    assert house.problems() == []
