"""Talking: whole answers, events, and a key that never makes a second turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.instances.states import State
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import ChatEvent, GatewayAddress
from tests.api.conftest import assert_error
from tests.fakes.world import FolderGateway
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


class DroppingGateway(FolderGateway):
    """Says half a sentence and is gone; remembers the keys it was sent."""

    keys: list[str]

    def chat(
        self, address: GatewayAddress, session: str, message: str, idempotency_key: str, timeout_seconds: float = 300
    ) -> Iterator[ChatEvent]:
        self.keys.append(idempotency_key)
        yield ChatEvent("delta", "You sa")
        raise ProviderError("the connection was closed", code="gateway_gone")

    def call(self, address: GatewayAddress, method: str, params: Mapping[str, Any] | None = None) -> Any:
        raise AssertionError


@pytest.mark.parametrize("message", ["hello", "😀 \u202e {{7*7}} <script>", "x" * 16_000, "a\0b", "  padded  "])
def test_the_words_arrive_as_they_are(http: TestClient, scene: Scene, key_of: Keys, message: str) -> None:
    ada = scene.live()
    answer = http.post(f"/api/instances/{ada.instance.id}/chat", json={"message": message}, headers=key_of(ada))
    assert (answer.status_code, answer.json()["reply"]) == (200, f"You said: {message.strip()}")
    assert answer.json()["usage"]["calls"] == 0


def test_events_when_they_are_asked_for(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    headers = {**key_of(ada), "accept": "text/event-stream"}
    answer = http.post(f"/api/instances/{ada.instance.id}/chat", json={"message": "a\nb\n\nevent: x"}, headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    kinds = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert kinds == ["delta", "final", "usage"]


@pytest.mark.parametrize("state", [state for state in State if state != State.ACTIVE])
def test_only_an_active_assistant_talks(http: TestClient, scene: Scene, key_of: Keys, state: State) -> None:
    begun = scene.put_in(state)
    answer = http.post(f"/api/instances/{begun.instance.id}/chat", json={"message": "hi"}, headers=key_of(begun))
    assert assert_error(answer, 409, "illegal_move")["details"]["state"] == state


def test_a_connection_that_breaks_is_said_so(scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    gateway = DroppingGateway(scene.world)
    gateway.keys = []
    app = create_app(dataclasses.replace(scene.ctx, gateway=gateway))
    url, me = f"/api/instances/{ada.instance.id}/chat", key_of(ada)
    with TestClient(app, base_url=scene.ctx.settings.base_url) as http:
        body = {"message": "hi", "idempotency_key": "turn-0001"}
        assert_error(http.post(url, json=body, headers=me), 503, "unavailable")
        told = http.post(url, json=body, headers={**me, "accept": "text/event-stream"})
    assert "event: error" in told.text
    assert gateway.keys == ["turn-0001"] * 2
