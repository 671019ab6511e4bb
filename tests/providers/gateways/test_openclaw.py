"""The client against a real OpenClaw gateway, with a model on loopback standing where the proxy will stand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import ChatEvent, GatewayAddress
from clawhaven.ports.runtime import Placement
from clawhaven.providers.gateways.openclaw import OpenClaw, trace_id
from clawhaven.providers.runtimes.process import Process
from tests.live.model_server import ModelServer
from tests.live.openclaw import PROXY_KEY, TOKEN, free_port, running_cell, settings_for, wait_until_started

pytestmark = pytest.mark.live


class Cell(NamedTuple):
    model: ModelServer
    runtime: Process
    placement: Placement
    gateway: OpenClaw
    address: GatewayAddress


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with (
        ModelServer() as model,
        running_cell(tmp_path_factory.mktemp("cell"), model.url, trusted_proxies=["127.0.0.1"]) as parts,
    ):
        yield Cell(model, *parts)


def talk(cell: Cell, session: str, message: str, key: str, address: GatewayAddress | None = None) -> list[ChatEvent]:
    return list(cell.gateway.chat(address or cell.address, session, message, key, 120))


def test_a_started_gateway_is_live_started_and_knows_us(cell: Cell) -> None:
    health = cell.gateway.health(cell.address)
    assert (health.live, health.started, health.authenticated) == (True, True, True)
    assert (health.version, dict(health.channels), dict(health.problems)) == ("2026.9.6", {}, {})
    assert cell.gateway.has_started(cell.address) is True


def test_a_wrong_token_is_told_apart_from_a_gateway_that_is_down(cell: Cell) -> None:
    wrong = GatewayAddress(cell.address.url, "x" * 40)
    health = cell.gateway.health(wrong)
    assert (health.live, health.started, health.authenticated) == (True, True, False)
    with pytest.raises(ProviderError) as refused:
        cell.gateway.call(wrong, "config.get")
    assert (refused.value.code, refused.value.permanent) == ("gateway_unauthorized", True)
    nobody = GatewayAddress(f"http://127.0.0.1:{free_port()}", TOKEN)
    assert not cell.gateway.health(nobody).live
    assert cell.gateway.has_started(nobody) is None
    for method in ("config.get", "sessions.list"):
        with pytest.raises(ProviderError) as caught:
            cell.gateway.call(nobody, method)
        assert (caught.value.code, caught.value.permanent) == ("unreachable", False)


def test_a_call_takes_the_door_that_offers_it(cell: Cell) -> None:
    assert "hash" in cell.gateway.call(cell.address, "config.get")
    assert "sessions" in cell.gateway.call(cell.address, "sessions.list", {"limit": 1})
    for method in ("models.authStatus.nothing", "config.patch"):
        with pytest.raises(ProviderError) as caught:
            cell.gateway.call(cell.address, method)
        assert (caught.value.code, caught.value.permanent) == ("gateway_refused", True)


def test_a_new_device_coming_through_a_proxy_is_approved_by_itself(cell: Cell, tmp_path: Path) -> None:
    """Through a proxy the gateway takes us for a stranger and refuses until the device is approved."""
    stranger = OpenClaw(OpenClaw.Options(), settings_for(tmp_path))
    known = {device["deviceId"] for device in stranger.call(cell.address, "device.pair.list")["paired"]}
    stranger._open().forwarding.learn(cell.address.url, {}, b"proxy_attribution_required")
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: stranger.call(cell.address, "sessions.list", {"limit": 1}), range(3)))
    assert all("sessions" in answer for answer in answers)
    after = {device["deviceId"] for device in stranger.call(cell.address, "device.pair.list")["paired"]}
    assert len(after - known) == 1


def test_an_answer_grows_and_ends_with_the_whole_text(cell: Cell) -> None:
    *deltas, final = talk(cell, "web:grow", "hello there", "grow-1")
    assert {event.kind for event in deltas} == {"delta"}
    assert len(deltas) > 1
    assert (final.kind, "".join(event.text for event in deltas)) == ("final", final.text)
    assert "hello there" in final.text


def test_a_conversation_remembers_and_another_does_not(cell: Cell) -> None:
    talk(cell, "web:memory", "my cat is called Socks", "memory-1")
    talk(cell, "web:memory", "what is it called?", "memory-2")
    assert "Socks" in str(cell.model.asked[-1].body["messages"])
    talk(cell, "web:other", "what is it called?", "other-1")
    assert "Socks" not in str(cell.model.asked[-1].body["messages"])


def test_a_conversation_can_be_read_again(cell: Cell) -> None:
    talk(cell, "web:again", "first line\nsecond line", "again-1")
    talk(cell, "web:again", "and again", "again-2")
    said = cell.gateway.history(cell.address, "web:again", 50)
    assert [one.is_owner for one in said] == [True, False, True, False]
    assert [said[0].text, said[2].text] == ["first line\nsecond line", "and again"]
    assert "first line" in said[1].text
    assert all(one.at is not None and abs(one.at.timestamp() - time.time()) < 300 for one in said)
    assert cell.gateway.history(cell.address, "web:again", 1) == said[-1:]
    assert cell.gateway.history(cell.address, "web:nothing", 50) == []


def test_the_model_call_carries_our_key_and_the_turns_trace(cell: Cell) -> None:
    before = len(cell.model.asked)
    final = talk(cell, "web:trace", "use a tool", "trace-1")[-1]
    asked = cell.model.asked[before:]
    assert final.kind == "final"
    assert len(asked) == 2
    for request in asked:
        assert request.path == "/v1/messages"
        assert request.headers["x-api-key"] == PROXY_KEY
        assert request.headers["x-instance-id"] == "ins_cell"
        assert request.headers["traceparent"].split("-")[1] == trace_id("trace-1")
        assert request.size < 30_000


def test_the_same_key_never_makes_a_second_turn(cell: Cell) -> None:
    first = talk(cell, "web:once", "say it once", "once-1")[-1]
    before = len(cell.model.asked)
    assert talk(cell, "web:once", "say it once", "once-1") == [first]
    assert len(cell.model.asked) == before


def test_a_second_listener_joins_a_running_answer(cell: Cell) -> None:
    cell.model.hold()
    before = len(cell.model.asked)
    first = cell.gateway.chat(cell.address, "web:join", "hold on", "join-1", 120)
    opening = next(first)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(talk, cell, "web:join", "hold on", "join-1")
        cell.model.release()
        joined = second.result(120)
    rest = list(first)
    assert opening.kind == "delta"
    assert rest[-1] == joined[-1]
    assert len(cell.model.asked) == before + 1


def test_a_message_during_an_answer_waits_and_gets_its_own(cell: Cell) -> None:
    cell.model.hold()
    first = cell.gateway.chat(cell.address, "web:queue", "hold on", "queue-1", 120)
    next(first)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(talk, cell, "web:queue", "and the second", "queue-2")
        wait_for_line(cell, "web:queue", "and the second")
        cell.model.release()
        final = list(first)[-1]
        answer = second.result(120)[-1]
    assert "hold on" in final.text
    assert "second" not in final.text
    assert answer.kind == "final"
    assert "and the second" in answer.text


def wait_for_line(cell: Cell, session: str, text: str) -> None:
    """Until the gateway has this message in its transcript or its queue."""
    for _ in range(600):
        history = cell.gateway.call(cell.address, "chat.history", {"sessionKey": session})
        if text in str(history["messages"]) or text in str(history.get("pendingInputs")):
            return
    raise AssertionError("the gateway never took the message")


def test_a_cut_connection_is_made_again_and_nothing_is_asked_twice(cell: Cell) -> None:
    cell.model.hold()
    before = len(cell.model.asked)
    with closing(Relay(cell.address)) as relay:
        events = cell.gateway.chat(relay.address, "web:cut", "hold on", "cut-1", 120)
        first = next(events)
        relay.cut()
        cell.model.release()
        rest = list(events)
    assert first.kind == "delta"
    assert rest[-1].kind == "final"
    assert "hold on" in rest[-1].text
    assert len(cell.model.asked) == before + 1


class Relay:
    """A loopback port in front of a gateway whose open connections can be cut."""

    def __init__(self, address: GatewayAddress) -> None:
        host, _, port = address.url.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = GatewayAddress(f"http://127.0.0.1:{self._listener.getsockname()[1]}", address.token)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every open connection."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        """Cut, and take no more."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def test_a_refusal_of_the_model_is_an_error_event(cell: Cell) -> None:
    event = talk(cell, "web:refused", "refuse this", "refused-1")[-1]
    assert (event.kind, bool(event.text)) == ("error", True)
    assert talk(cell, "web:refused", "and now?", "refused-2")[-1].kind == "final"


def test_nobody_there_is_an_exception_before_anything_is_yielded(cell: Cell) -> None:
    with pytest.raises(ProviderError) as caught:
        next(cell.gateway.chat(GatewayAddress(f"http://127.0.0.1:{free_port()}", TOKEN), "web:x", "hi", "x-1"))
    assert caught.value.code == "unreachable"


def test_an_answer_cut_by_a_kill_is_finished_after_the_restart(cell: Cell) -> None:
    cell.model.hold()
    events = cell.gateway.chat(cell.address, "web:killed", "hold on", "killed-1", 240)
    assert next(events).kind == "delta"
    cell.runtime.stop(cell.placement, 0)
    cell.model.release()
    cell.runtime.start(cell.placement)
    wait_until_started(cell.gateway, cell.address)
    rest = list(events)
    assert rest[-1].kind == "final"
    assert "hold on" in rest[-1].text
