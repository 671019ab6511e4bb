"""How a call ends: what is charged where the answer, its client or the server did not get to the end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from typing import Any

import httpx2
import pytest
from aiohttp import web
from sqlalchemy.exc import OperationalError

from clawhaven import metering
from clawhaven.proxy import exchange
from tests.proxy.conftest import House, Script, ScriptedVendor, json_script, stream_script
from tests.proxy.recorded import EMBEDDED
from tests.proxy.test_app import leave_after_first_bytes
from tests.proxy.wire import DELTA, GPT, HELLO, START, STOP, claude_body, sse

EMBED = {"model": "text-embedding-3-large", "input": ["x"] * 2_048}
PING = sse("ping")
THOUGHT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":""}}]}\n\n'


def pieces(content: bytes, *, cut: bool = False) -> Script:
    """An answer of JSON in many pieces, or the beginning of one."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        for start in range(0, len(content), 1_000_000):
            await response.write(content[start : start + 1_000_000])
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return script


# ---- embeddings --------------------------------------------------------------------------------------------------


def many_vectors() -> bytes:
    """2,048 vectors of 3,072 numbers, packed as the SDK asks for them."""
    vector = base64.b64encode(b"\x3f\x80\x01\x02" * 3_072).decode()
    data = [{"object": "embedding", "index": number, "embedding": vector} for number in range(2_048)]
    usage = {"prompt_tokens": 290_000, "total_tokens": 290_000}
    return json.dumps({**EMBEDDED, "data": data, "usage": usage}).encode()


def test_as_many_embeddings_as_a_request_may_ask_for(house: House, vendor: ScriptedVendor) -> None:
    content = many_vectors()
    assert len(content) > exchange.MAX_ANSWER_BYTES
    vendor.script = pieces(content)
    answer = house.post("/v1/embeddings", EMBED)
    assert answer.status_code == 200
    assert answer.content == content
    row = house.last_call()
    assert (row.input_tokens, row.is_estimated, row.http_status) == (290_000, False, 200)
    assert row.price_micros == 290_000 * 130_000 * 150 // 100_000_000
    house.assert_books_balance()


def test_embeddings_that_break_off_on_their_way_to_the_client_are_estimated(
    house: House, vendor: ScriptedVendor
) -> None:
    vendor.script = pieces(many_vectors()[:10_000_000], cut=True)
    with pytest.raises(httpx2.RemoteProtocolError):
        house.post("/v1/embeddings", EMBED)
    row = house.last_call()
    assert (row.state, row.is_estimated, row.error) == ("closed", True, "The model's answer broke off.")
    assert row.price_micros > 0
    vendor.script = json_script(EMBEDDED)
    assert house.post("/v1/embeddings", EMBED).json() == EMBEDDED
    house.assert_books_balance()


def test_embeddings_without_end_are_cut(house: House, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_EMBEDDINGS_BYTES", 6_000_000)
    vendor.script = pieces(b" " * 10_000_000)
    with pytest.raises(httpx2.RemoteProtocolError):
        house.post("/v1/embeddings", EMBED)
    row = house.last_call()
    assert row.is_estimated
    assert row.price_micros > 0
    house.assert_books_balance()


def test_embeddings_without_a_report_are_estimated_over_all_inputs(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = json_script({**EMBEDDED, "usage": None})
    body = json.dumps({**EMBED, "input": ["four " * 100] * 2_000}).encode()
    assert house.post("/v1/embeddings", body).status_code == 200
    row = house.last_call()
    assert (row.input_tokens, row.is_estimated) == (-(-len(body) // 4), True)
    assert row.uncovered_micros == 0
    body = json.dumps({**EMBED, "input": ["four " * 1_000] * 2_000}).encode()
    assert house.post("/v1/embeddings", body).status_code == 200
    assert house.last_call().input_tokens == 300_000
    house.assert_books_balance()


# ---- thinking that nobody sees -----------------------------------------------------------------------------------


def test_thinking_whose_client_left_is_estimated_by_its_time(
    house: House, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "GONE_CLIENT_SECONDS", 0.5)
    vendor.script = stream_script(START, *[PING] * 500, DELTA, STOP, pause=0.05)
    leave_after_first_bytes(house, claude_body(stream=True))
    row = house.last_call()
    assert (row.input_tokens, row.is_estimated) == (10, True)
    assert 25 <= row.output_tokens < 100
    house.assert_books_balance()


def test_hidden_thinking_is_never_more_than_was_asked_for(
    house: House, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "GONE_CLIENT_SECONDS", 0.5)
    monkeypatch.setattr(exchange, "HIDDEN_TOKENS_PER_SECOND", 10_000)
    vendor.script = stream_script(START, *[PING] * 500, DELTA, STOP, pause=0.05)
    leave_after_first_bytes(house, claude_body(stream=True))
    assert house.last_call().output_tokens == 100
    house.assert_books_balance()


def test_hidden_thinking_of_a_vendor_that_fell_silent_is_estimated(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = stream_script(THOUGHT, hang=30)
    body = {"model": GPT, "messages": HELLO, "stream": True, "max_completion_tokens": 10_000}
    assert "fell silent" in house.post("/v1/chat/completions", body).text
    row = house.last_call()
    assert row.is_estimated
    assert 50 <= row.output_tokens < 1_000  # house waits two seconds from the last piece, which may come earlier
    house.assert_books_balance()


def test_a_report_that_is_final_is_believed(
    house: House, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "GONE_CLIENT_SECONDS", 0.5)
    vendor.script = stream_script(START, *[PING] * 5, DELTA, *[PING] * 500, pause=0.05)
    leave_after_first_bytes(house, claude_body(stream=True))
    assert house.last_call().output_tokens == 77
    house.assert_books_balance()


def test_a_vendor_that_broke_off_is_not_taken_to_have_thought(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = stream_script(START, *[PING] * 5, pause=0.05, cut=True)
    house.post("/v1/messages", claude_body(stream=True))
    assert house.last_call().output_tokens == 1
    house.assert_books_balance()


# ---- ends of ours ------------------------------------------------------------------------------------------------


def test_a_stopping_server_does_not_charge_a_whole_answer_that_nobody_got(house: House, vendor: ScriptedVendor) -> None:
    is_half = threading.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"content":[{"type":"text","text":"' + b"x" * 4_000)
        is_half.set()
        await asyncio.sleep(60)
        return response

    vendor.script = script

    def ask() -> None:
        with contextlib.suppress(httpx2.HTTPError):
            house.post("/v1/messages", claude_body())

    client = threading.Thread(target=ask)
    client.start()
    assert is_half.wait(10)
    house.stop()
    client.join(10)
    row = house.last_call()
    assert (row.state, row.error, row.price_micros) == ("closed", "server stopped", 0)
    house.assert_books_balance()


def failing(monkeypatch: pytest.MonkeyPatch, times: int, *, is_kept: bool) -> list[int]:
    """So many settlements fail; `is_kept`: though the database has taken them."""
    real, left = metering.run_batch, [1] * times

    def run_batch(db: Any, openings: Any, closings: Any, **rest: Any) -> Any:
        if not closings or not left:
            return real(db, openings, closings, **rest)
        left.pop()
        if is_kept:
            real(db, openings, closings, **rest)
            db.commit()
        raise OperationalError("…", {}, Exception("disk full"))

    monkeypatch.setattr(metering, "run_batch", run_batch)
    return left


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_whole_answer_is_not_refused_for_one_settlement_that_failed(
    house: House, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    said = {"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 10, "output_tokens": 5}}
    vendor.script = json_script(said)
    left = failing(monkeypatch, 1, is_kept=is_kept)
    answer = house.post("/v1/messages", claude_body())
    assert (answer.status_code, answer.json()) == (200, said)
    assert left == []
    assert [(row.state, row.output_tokens) for row in house.calls()] == [("closed", 5)]
    house.assert_books_balance()


def test_a_whole_answer_whose_settlement_fails_twice_is_not_given_away(
    house: House, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 10, "output_tokens": 5}}
    vendor.script = json_script(said)
    left = failing(monkeypatch, 2, is_kept=False)
    assert house.post("/v1/messages", claude_body()).status_code == 529
    assert left == []
    assert house.last_call().output_tokens == 5  # the desk goes on trying
    house.assert_books_balance()
