"""The trial chat for programs: no sign-in, counted by cookie and address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import httpx2
import pytest
from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from tests.conftest import free_port
from tests.web.gallery import serving
from tests.workflows.scene import Scene, set_up


@pytest.fixture
def address(settings: Settings, clock: Clock) -> Iterator[str]:
    """Where a whole installation listens."""
    port = free_port()
    update = {"platform_port": port, "base_url": f"http://127.0.0.1:{port}"}
    with set_up(settings.model_copy(update=update), clock) as scene, serving(scene.ctx):
        yield scene.ctx.settings.base_url


def test_a_conversation_and_its_end(address: str) -> None:
    with httpx2.Client(base_url=address) as http:
        told = {"talk": ""}
        for left in (4, 3, 2, 1):
            answer = http.post("/api/trial-chat", json={"message": f"Hello {left}", "talk": told["talk"]})
            assert answer.status_code == 200, answer.text
            told = answer.json()
            assert told["left"] == left
            assert f"Hello {left}" in told["reply"]
        streamed = http.post("/api/trial-chat", json={"message": "Last"}, headers={"accept": "text/event-stream"})
        blocks = [block.splitlines() for block in streamed.text.strip().split("\n\n")]
        assert blocks[-1][0] == "event: final"
        assert json.loads(blocks[-1][1].removeprefix("data: "))["left"] == 0
        over = http.post("/api/trial-chat", json={"message": "More"})
        assert (over.status_code, over.json()["error"]) == (429, "trial_over")


def test_what_is_refused(address: str) -> None:
    with httpx2.Client(base_url=address) as http:
        for body in ({}, {"message": ""}, {"message": "x" * 501}, {"message": "Hi", "model": "mine"}):
            answer = http.post("/api/trial-chat", json=body)
            assert (answer.status_code, answer.json()["error"]) == (400, "validation_failed")
        foreign = http.post("/api/trial-chat", json={"message": "Hi"}, headers={"origin": "https://evil.example"})
        assert foreign.status_code == 403


def test_without_a_model_it_is_unavailable(scene: Scene) -> None:
    closed = replace(scene.ctx, settings=scene.ctx.settings.model_copy(update={"trial_budget_per_day": Decimal(0)}))
    with TestClient(create_app(closed), base_url=closed.settings.base_url) as http:
        answer = http.post("/api/trial-chat", json={"message": "Hi"})
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
