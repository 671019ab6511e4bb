"""Chat over the API: whole answers, events, and nobody waits for somebody else's."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from clawhaven import wiring
from clawhaven.api.app import create_app
from clawhaven.core.carrying import LONG_ANSWERS
from clawhaven.ports.gateway import ChatEvent, GatewayAddress
from clawhaven.workflows.checkout import Begun
from tests.api.conftest import assert_error
from tests.fakes.world import FolderGateway
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]
STREAM = {"accept": "text/event-stream"}
ACCOUNTS = 15


class SlowGateway(FolderGateway):
    """Answers when it is let go; `refuse` ends in an error."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.world)
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)

    def chat(
        self, address: GatewayAddress, session: str, message: str, idempotency_key: str, timeout_seconds: float = 300
    ) -> Iterator[ChatEvent]:
        self.asked.release()
        assert self.go.wait(60)
        yield ChatEvent("delta", "You ")
        if message == "refuse":
            yield ChatEvent("error", "The assistant could not answer.")
        else:
            yield ChatEvent("final", f"You said: {message}")


@pytest.fixture
def slow(scene: Scene) -> Iterator[SlowGateway]:
    gateway = SlowGateway(scene)
    yield gateway
    gateway.go.set()


@pytest.fixture
def http(scene: Scene, slow: SlowGateway) -> Iterator[TestClient]:
    app = create_app(dataclasses.replace(scene.ctx, gateway=wiring.Guarded(slow)))
    with TestClient(app, base_url=scene.ctx.settings.base_url, raise_server_exceptions=False) as client:
        yield client


def say(http: TestClient, begun: Begun, headers: dict[str, str], message: str = "hi") -> Response:
    return http.post(f"/api/instances/{begun.instance.id}/chat", json={"message": message}, headers=headers)


def test_a_whole_answer_and_an_error_carry_what_they_used(
    http: TestClient, scene: Scene, slow: SlowGateway, key_of: Keys
) -> None:
    ada = scene.live()
    me = key_of(ada)
    slow.go.set()
    answer = say(http, ada, me).json()
    assert (answer["reply"], answer["usage"]["calls"]) == ("You said: hi", 0)
    refused = assert_error(say(http, ada, me, "refuse"), 503, "unavailable")
    assert refused["details"]["usage"]["calls"] == 0
    assert_error(say(http, ada, me, " "), 400, field="message")


def test_events_come_in_order_and_end_with_the_usage(
    http: TestClient, scene: Scene, slow: SlowGateway, key_of: Keys
) -> None:
    ada = scene.live()
    slow.go.set()
    answer = say(http, ada, key_of(ada) | STREAM, "a\nb")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    told: list[tuple[str, Any]] = [(kind.removeprefix("event: "), json.loads(data[6:])) for kind, data in events]
    assert [kind for kind, _ in told] == ["delta", "final", "usage"]
    assert told[1][1] == {"text": "You said: a\nb"}


def test_many_long_answers_keep_no_other_request_waiting(
    http: TestClient, scene: Scene, slow: SlowGateway, key_of: Keys
) -> None:
    people = [scene.live(f"p{number}@example.com") for number in range(ACCOUNTS)]
    keys = [key_of(person) for person in people]
    with ThreadPoolExecutor(3 * ACCOUNTS + 1) as pool:
        callers = [(one, key | kind) for one, key in zip(people, keys, strict=True) for kind in ({}, STREAM, {})]
        under_way = [pool.submit(say, http, one, headers) for one, headers in callers]
        try:
            # The thread pool of ordinary requests has 40 places; these are 45.
            assert all(slow.asked.acquire(timeout=60) for _ in under_way)
            assert pool.submit(http.get, "/api/health").result(60).status_code == 200
            for _ in range(2):
                refused = say(http, people[0], keys[0])
                assert_error(refused, 429, "rate_limited")
                assert int(refused.headers["retry-after"]) > 0
            assert not any(call.done() for call in under_way)
        finally:
            slow.go.set()
        assert {call.result().status_code for call in as_completed(under_way)} == {200}
    assert say(http, people[0], keys[0]).status_code == 200
    assert not LONG_ANSWERS._taken
