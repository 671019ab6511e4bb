"""The whole product with the real OpenClaw gateway: sign up, pay, chat, stop, start, delete; and how it survives."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.demo import Customer, Demo

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

STEPS = 7
INPUT_MICROS, OUTPUT_MICROS = 3, 15
"""List price of the sandbox model: micro-dollars per token, which is dollars per million."""

MARKUP_PERCENT = 150


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with Demo(tmp_path) as made:
        yield made


def price_of(usage: dict[str, Any]) -> int:
    """One call's price, by hand: list price times markup, rounded up once. Nothing of the prompt is cached here."""
    assert usage["cache_read_tokens"] == usage["cache_write_tokens"] == 0
    hundredths: int = (usage["input_tokens"] * INPUT_MICROS + usage["output_tokens"] * OUTPUT_MICROS) * MARKUP_PERCENT
    return -(-hundredths // 100)


def ledger_lines(customer: Customer, call_ids: list[str]) -> list[dict[str, Any]]:
    """What these model calls moved in the ledger."""
    lines: list[dict[str, Any]] = customer.get("/api/billing/ledger")["items"]
    return [line for line in lines if line["ref"] in call_ids]


def test_first_minute(demo: Demo) -> None:
    demo.start()
    ada = demo.join("ada@example.com")
    assert demo.status(ada.instance_id)["status"] == "pending"
    assert demo.gateways() == {}
    ada.pay()
    live = ada.wait_for("active")
    assert [step["state"] for step in live["steps"]] == ["done"] * STEPS
    assert list(demo.gateways()) == [ada.instance_id]
    assert demo.keepers() == 1

    first = ada.chat("the first riddle")
    assert "the first riddle" in first["reply"]
    assert "sandbox model" in first["reply"]
    assert first["usage"]["calls"] == len(first["usage"]["call_ids"]) >= 1
    calls = {call["id"]: call for call in ada.get(f"{ada.path}/usage")["items"]}
    assert set(calls) == set(first["usage"]["call_ids"])
    for call in calls.values():
        assert (call["state"], call["model"], call["source"]) == ("closed", "sandbox-1", "person")
        assert call["price_micros"] == price_of(call) > 0
        assert not call["is_estimated"]
        assert [line["amount_micros"] for line in ledger_lines(ada, [call["id"]])] == [-call["price_micros"]]
    assert first["usage"]["price_micros"] == sum(call["price_micros"] for call in calls.values())

    events = ada.stream("the second riddle")
    kinds = [kind for kind, _ in events]
    assert kinds[-2:] == ["final", "usage"]
    assert kinds.count("delta") >= 2
    final = next(data["text"] for kind, data in events if kind == "final")
    assert "".join(data["text"] for kind, data in events if kind == "delta") == final
    assert "the second riddle" in final
    assert "first" not in final
    second = events[-1][1]
    assert second["calls"] >= 1
    assert not set(second["call_ids"]) & set(first["usage"]["call_ids"])
    spent = first["usage"]["price_micros"] + second["price_micros"]
    assert ada.get("/api/billing/usage")["total"]["price_micros"] == spent
    assert ada.get("/api/billing/balance")["included_usage_micros"] == spent
    assert demo.problems() == []

    assert ada.request("POST", f"{ada.path}/stop").status_code == 202
    ada.wait_idle()
    assert demo.gateways() == {}
    assert demo.keepers() == 0
    refused = ada.request("POST", f"{ada.path}/chat", json={"message": "are you there"})
    assert (refused.status_code, refused.json()["error"]) == (409, "illegal_move")
    assert ada.request("POST", f"{ada.path}/start").status_code == 202
    ada.wait_for("active")
    assert "after a rest" in ada.chat("after a rest")["reply"]

    assert ada.request("DELETE", ada.path).status_code == 202
    ada.wait_for("deleted")
    ada.wait_idle()
    assert [process.pid for process in demo.relatives()] == [demo.host.pid]  # type: ignore[union-attr]
    assert list((demo.data / "customers").iterdir()) == []
    for table in ("port_allocation", "boot_slot", "model_grant", "channel_connection"):
        assert demo.count(table) == 0, table
    demo.wait(lambda: demo.count("subscription", "state = 'active'") == 0, "the subscription to end")
    assert demo.problems() == []


def test_stopped_and_killed_it_finds_its_gateways_again(demo: Demo) -> None:
    demo.start()
    ada = demo.join("ada@example.com")
    ada.pay()
    ada.wait_for("active")
    before = demo.gateways()

    demo.kill()
    assert demo.gateways() == before
    demo.start()
    assert "back so soon" in ada.chat("back so soon")["reply"]
    sweeps = demo.count("observation", "is_healthy")
    demo.wait(lambda: sweeps or demo.count("observation", "is_healthy"), "a health sweep", 150)
    assert demo.gateways() == before
    assert demo.keepers() == 1
    assert demo.count("operation") == 1

    assert demo.stop() == 0
    assert demo.relatives() == []
    demo.start()
    assert demo.status(ada.instance_id)["status"] == "active"
    demo.wait(lambda: demo.gateways(), "the health sweep to start it again")
    ada.wait_idle()
    assert "good morning" in ada.chat("good morning")["reply"]
    assert demo.keepers() == 1
    assert demo.count("receipt") == 1
    assert demo.problems() == []


def test_gateway_crash_is_repaired(demo: Demo) -> None:
    demo.start()
    ada = demo.join("ada@example.com")
    ada.pay()
    ada.wait_for("active")
    dead = demo.gateways()[ada.instance_id]
    os.kill(dead, signal.SIGKILL)
    # The dead one is seen for a moment longer, until its keeper has heard of its end.
    demo.wait(lambda: demo.gateways().get(ada.instance_id, dead) != dead, "another gateway", 150)
    ada.wait_idle()
    assert "are you well" in ada.chat("are you well")["reply"]
    assert demo.keepers() == 1
    assert demo.status(ada.instance_id)["status"] == "active"
    assert demo.count("operation", "kind = 'restart' AND state = 'done'") == 1
