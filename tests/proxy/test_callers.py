"""A request that an ASGI server brings."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.testclient import TestClient

from clawhaven.proxy.app import NO_OFFERS, create_app
from clawhaven.proxy.callers import AsgiCaller
from tests.proxy.conftest import KEY, House


def test_a_mounted_application_sees_its_own_path_and_notes_when_it_answers() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "method": "POST",
        "path": "/proxy/v1/messages",
        "root_path": "/proxy",
        "query_string": b"beta=true",
        "headers": [(b"X-Api-Key", b"one"), (b"x-api-key", b"two")],
        "client": ("192.0.2.7", 4711),
    }
    caller = AsgiCaller(scope, receive, send)
    assert (caller.peer, AsgiCaller({**scope, "client": None}, receive, send).peer) == ("192.0.2.7", "")
    assert (caller.method, caller.path, caller.query) == ("POST", "/v1/messages", "beta=true")
    assert caller.headers == {"x-api-key": "two"}
    assert caller.status is None
    start = {"type": "http.response.start", "status": 429, "headers": []}
    asyncio.run(caller.send(start))
    assert caller.status == 429
    assert caller.first_byte_at > 0
    assert sent == [start]
    assert asyncio.run(caller.receive()) == {"type": "http.disconnect"}


def test_a_body_that_its_server_has_dropped_is_told_of(house: House) -> None:
    offer = {"authorization": f"Bearer {KEY}", "connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
    body = {"model": "sandbox-1", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
    with TestClient(create_app(house)) as client:
        for path in ("/v1/messages", "/v1/chat/completions"):
            refused = client.post(path, json=body, headers=offer)
            assert (refused.status_code, refused.json()["error"]["message"]) == (400, NO_OFFERS)
            assert refused.headers["connection"] == "close"
            assert client.post(path, json=body, headers={**offer, "connection": "keep-alive"}).status_code == 200
        assert client.get("/v1/models", headers=offer).status_code == 200
