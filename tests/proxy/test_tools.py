"""The tool servers' door: the protocol over HTTP, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from clawhaven.core.ids import new_token
from clawhaven.integrations import attachments
from clawhaven.proxy import tools
from clawhaven.proxy.app import create_app
from clawhaven.workflows import integrations, reading
from tests.fakes.google_server import GoogleServer
from tests.workflows.scene import Scene


class Client:
    """A gateway's side, without its library."""

    def __init__(self, scene: Scene, token: str) -> None:
        self.http = TestClient(create_app(scene.ctx))
        self.headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}

    def send(self, body: Any, path: str = "/mcp/google", **headers: str) -> Any:
        return self.http.post(path, json=body, headers={**self.headers, **headers})

    def ask(self, method: str, **params: Any) -> Any:
        answer = self.send({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        assert (answer.status_code, answer.json()["id"]) == (200, 7)
        return answer.json()


@pytest.fixture
def client(scene: Scene, token: str) -> Iterator[Client]:
    made = Client(scene, token)
    with made.http:
        yield made


def test_a_gateway_finds_and_uses_the_tools(client: Client, google: GoogleServer) -> None:
    google.add_message("18a1", "Lunch", "Shall we eat?")
    hello = client.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "x"})["result"]
    assert (hello["protocolVersion"], hello["capabilities"]) == ("2025-06-18", {"tools": {"listChanged": False}})
    assert client.ask("initialize", protocolVersion="1999-01-01")["result"]["protocolVersion"] == "2025-11-25"
    told = client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (told.status_code, told.content) == (202, b"")
    assert client.ask("ping")["result"] == {}
    listed = client.ask("tools/list")["result"]["tools"]
    assert [tool["name"] for tool in listed] == ["mail_search", "mail_read", "calendar_events"]
    assert all(tool["annotations"]["readOnlyHint"] for tool in listed)
    read = client.ask("tools/call", name="mail_read", arguments={"id": "18a1"})["result"]
    assert read["isError"] is False
    assert read["content"][0]["text"].endswith("Shall we eat?")
    wrong = client.ask("tools/call", name="mail_read", arguments={"id": "18ff"})["result"]
    assert wrong["isError"] is True


def test_what_is_no_question_is_refused_in_the_protocols_words(client: Client) -> None:
    assert client.ask("resources/list")["error"]["code"] == -32601
    assert client.ask("tools/call", name="mail_send", arguments={})["error"]["code"] == -32602
    assert client.ask("tools/call", name="mail_search", arguments=[1])["error"]["code"] == -32602
    for body in ([], [{"jsonrpc": "2.0", "id": 1, "method": "ping"}], {"id": 1, "method": "ping"}, "x"):
        assert client.send(body).status_code == 400, body
    assert client.send({"jsonrpc": "2.0", "id": {}, "method": "ping"}).status_code == 400
    assert client.http.post("/mcp/google", content=b"{", headers=client.headers).json()["error"]["code"] == -32700
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert client.send(ping, **{"mcp-protocol-version": "1900-01-01"}).status_code == 400
    assert client.send({**ping, "params": {"x": "y" * 70_000}}).status_code == 413
    assert client.send(ping, origin="https://evil.example").status_code == 403
    for method in ("GET", "DELETE"):
        answer = client.http.request(method, "/mcp/google", headers=client.headers)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_only_the_right_token_opens_the_door(client: Client, scene: Scene) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert client.send(ping).status_code == 200
    for path, shown in (("/mcp/google", "Bearer chi_x"), ("/mcp/other", client.headers["authorization"])):
        answer = client.send(ping, path, authorization=shown)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    with scene.ctx.db.tx() as db:
        [row] = db.execute(sa.text("SELECT instance_id FROM integration_attachment")).all()
        integrations.detach(db, scene.ctx, row[0], "google", "user:x")
    assert client.send(ping).status_code == 401


def test_malformed_bodies_are_refused_and_never_an_error_of_ours(client: Client) -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
    bodies = {
        call + b'{"name":[]}}': -32602,
        call + b'{"name":{}}}': -32602,
        call + b'{"name":"mail_search","arguments":{"query":"\\ud800"}}}': -32700,
        b"[" * 60_000: -32700,
        b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}': -32700,
        b"\xff\xfe": -32700,
    }
    for body, code in bodies.items():
        answer = client.http.post("/mcp/google", content=body, headers=client.headers)
        assert answer.json()["error"]["code"] == code, body[:80]
    assert client.send({"jsonrpc": "2.0", "id": "\u00e9", "method": "ping"}).content.isascii()


def test_a_slow_vendor_and_strangers_hold_up_one_assistant_only(
    client: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, at_once, most = threading.Event(), 0, 0

    def read(*_: Any) -> reading.Result:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        assert gate.wait(60)
        at_once -= 1
        return reading.Result("read")

    monkeypatch.setattr(reading, "use", read)
    monkeypatch.setattr(tools, "UNKNOWN_PER_MINUTE", 3)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "mail_search"}}
    assert client.ask("ping")["result"] == {}  # from now on this token is known
    crowd = tools.READS_AT_ONCE + tools.READS_WAITING + 1
    with ThreadPoolExecutor(crowd) as pool:
        calls = [pool.submit(client.send, call) for _ in range(crowd)]
        [refused] = [next(as_completed(calls, 60)).result().json()["result"]]
        assert (refused["isError"], refused["content"][0]["text"]) == (True, tools.CROWDED)
        for _ in range(20):
            assert client.ask("ping")["result"] == {}  # more than there are threads
        guess = "Bearer " + new_token(attachments.PREFIX)
        told = [client.send(call, authorization=guess) for _ in range(3)]
        assert [one.status_code for one in told] == [401, 401, 429]  # the gateway's own first was one of the three
        assert 1 <= int(told[-1].headers["retry-after"]) <= 60
        assert client.ask("ping")["result"] == {}
        gate.set()
        texts = [one.result().json()["result"]["content"][0]["text"] for one in calls]
    assert (texts.count("read"), most) == (crowd - 1, tools.READS_AT_ONCE)


def test_who_guesses_uses_up_nothing_of_others(
    client: Client, scene: Scene, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "UNKNOWN_PER_MINUTE", 3)
    scene.ctx.settings.trusted_proxy_count = 1
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}

    def guess(times: int, *, at: str, shown: str = "") -> list[int]:
        told = f"Bearer {shown or new_token(attachments.PREFIX)}"
        return [client.send(ping, authorization=told, **{"x-forwarded-for": at}).status_code for _ in range(times)]

    assert guess(5, at="198.51.100.7") == [401, 401, 401, 429, 429]
    assert guess(1, at="203.0.113.9, 198.51.100.7") == [429], "what stands before our own proxy's word is a claim"
    assert guess(4, at="198.51.100.8") == [401, 401, 401, 429], "another stranger has three of their own"
    assert guess(5, at="198.51.100.9", shown=token) == [200] * 5, "a gateway that was never seen here, and then was"
    assert guess(3, at="198.51.100.7", shown=token) == [200] * 3, "from wherever: what is known does not wait"


def test_any_method_is_answered_so_often_a_minute(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "REQUESTS_PER_MINUTE", 2)
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert [client.send(listing).status_code for _ in range(4)] == [200, 200, 200, 429]
