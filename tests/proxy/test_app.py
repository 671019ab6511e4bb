"""The proxy between a client and a vendor that behaves well, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from typing import Any

import httpx2
import pytest
from aiohttp import web

from clawhaven.metering import PlanMode
from clawhaven.proxy import exchange
from clawhaven.proxy.refusals import CROWDED
from tests.proxy.conftest import KEY, House, ScriptedVendor, json_script, stream_script
from tests.proxy.wire import DELTA, GPT, HELLO, START, STOP, TEXT, claude_body, sse

# ---- what goes to the vendor ------------------------------------------------------------------------------------


def test_the_vendor_gets_the_same_bytes_our_key_and_none_of_the_clients(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = json_script({"usage": {"input_tokens": 1, "output_tokens": 1}})
    raw = b'{ "model":"claude-sonnet-5-5",\t"max_tokens": 1e2, "messages":[{"role":"user","content":"h\\u00e9"}] }'
    house.post(
        "/v1/messages?beta=true",
        raw.replace(b"1e2", b"100"),
        **{"x-api-key": KEY, "anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "cookie": "c=1"},
    )
    path, headers, body = vendor.requests[0]
    assert path == "/v1/messages?beta=true"
    assert body == raw.replace(b"1e2", b"100")
    assert headers["x-api-key"] == "sk-ant-operator"
    assert (headers["anthropic-version"], headers["anthropic-beta"]) == ("2023-06-01", "a,b")
    assert KEY not in str(headers)
    assert not {"authorization", "cookie", "x-instance-secret"} & set(headers)


def test_chat_streams_are_asked_for_usage_and_openai_gets_a_bearer(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = stream_script(b"data: [DONE]\n\n")
    house.post("/v1/chat/completions", {"model": GPT, "stream": True, "messages": HELLO})
    assert vendor.requests[0][0] == "/v1/chat/completions"
    assert vendor.requests[0][1]["authorization"] == "Bearer sk-operator"
    assert vendor.body["stream_options"] == {"include_usage": True}


def test_the_customers_own_key_goes_to_its_vendor_and_nothing_is_charged(house: House, vendor: ScriptedVendor) -> None:
    house.grant(PlanMode.OWN_KEY, dollars=0)
    vendor.script = json_script({"usage": {"input_tokens": 5, "output_tokens": 5}})
    assert house.post("/v1/messages", claude_body(speed="fast")).status_code == 200
    assert vendor.requests[0][1]["x-api-key"] == "sk-customers-own"
    row = house.last_call()
    assert (row.input_tokens, row.price_micros, row.provider_cost_micros) == (5, 0, 0)
    assert house.post("/v1/chat/completions", {"model": GPT, "messages": HELLO}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": KEY}, 200),
        ({"authorization": f"bearer {KEY}"}, 200),
        ({"x-instance-id": "ins_1", "x-instance-secret": KEY}, 200),
        ({"x-instance-id": "ins_2", "x-instance-secret": KEY}, 401),
        ({"x-instance-secret": KEY}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({}, 401),
    ],
)
def test_ways_to_authenticate(house: House, headers: dict[str, str], status: int) -> None:
    answer = httpx2.get(f"{house.url}/v1/models", headers=headers)
    assert answer.status_code == status
    assert (
        httpx2.post(
            f"{house.url}/v1/messages", headers=headers, json={**claude_body(), "model": "sandbox-1"}
        ).status_code
        == status
    )


# ---- what comes back ----------------------------------------------------------------------------------------------


def test_a_stream_passes_unchanged_and_every_kind_of_token_is_booked(house: House, vendor: ScriptedVendor) -> None:
    parts = [START[:31], START[31:], TEXT, DELTA[:-1], DELTA[-1:] + STOP]
    vendor.script = stream_script(*parts, pause=0.02)
    answer = house.post("/v1/messages", claude_body(stream=True))
    assert answer.content == b"".join(parts)
    row = house.last_call()
    assert answer.headers["x-clawhaven-call"] == row.id
    assert (row.input_tokens, row.output_tokens, row.cache_read_tokens) == (10, 77, 1000)
    assert (row.cache_write_5m_tokens, row.cache_write_1h_tokens) == (100, 200)
    cost = 10 * 2 + 77 * 10 + 1000 * 0.1 + 100 * 2.5 + 200 * 4
    assert (row.provider_cost_micros, row.price_micros) == (cost, cost * 1.5)
    house.assert_books_balance()


def test_the_end_waits_for_the_settlement_and_the_rest_does_not(house: House, vendor: ScriptedVendor) -> None:
    proceed = threading.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(START + TEXT)
        await asyncio.to_thread(proceed.wait, 10)
        await response.write(DELTA + STOP)
        return response

    vendor.script = script
    headers = {"x-api-key": KEY}
    with httpx2.stream("POST", f"{house.url}/v1/messages", json=claude_body(stream=True), headers=headers) as answer:
        parts = answer.iter_raw()
        got = b""
        while len(got) < len(START + TEXT):
            got += next(parts)
        assert house.last_call(is_closed=False).state == "open"
        proceed.set()
        for part in parts:
            got += part
            if b"message_stop" in got:
                assert house.calls()[0].state == "closed"
    assert got == START + TEXT + DELTA + STOP


def test_a_vendor_that_never_closes_a_finished_stream_does_not_hold_the_client(
    house: House, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "AFTER_END_SECONDS", 0.05)
    vendor.script = stream_script(START, TEXT, DELTA, STOP, hang=0.8)
    answer = house.post("/v1/messages", claude_body(stream=True))
    assert answer.content == START + TEXT + DELTA + STOP
    assert (house.last_call().output_tokens, house.last_call().is_estimated) == (77, False)


def test_missing_usage_is_estimated_and_marked(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = json_script({"choices": [{"message": {"content": "y" * 399}}]})
    assert house.post("/v1/chat/completions", {"model": GPT, "messages": HELLO}).status_code == 200
    row = house.last_call()
    assert row.is_estimated
    assert row.output_tokens == 100
    assert row.input_tokens > 0
    assert row.price_micros > 0
    house.assert_books_balance()


@pytest.mark.parametrize("usage", ["lots", {"input_tokens": -5, "output_tokens": 1}, {"input_tokens": "9"}, [], None])
def test_nonsense_as_usage_is_estimated(house: House, vendor: ScriptedVendor, usage: Any) -> None:
    vendor.script = json_script({"content": [{"type": "text", "text": "z" * 40}], "usage": usage})
    assert house.post("/v1/messages", claude_body()).status_code == 200
    assert (house.last_call().is_estimated, house.last_call().output_tokens) == (True, 10)


def test_malformed_events_pass_through_and_do_not_disturb_the_figures(house: House, vendor: ScriptedVendor) -> None:
    junk = b'data: {"usage": {"output_tokens": \n\ndata:\n\n: comment "usage"\n\n\xff\xfe\n\ndata: {"usage": 3}\n\n'
    parts = [junk, START, junk, TEXT, DELTA, junk, STOP]
    vendor.script = stream_script(*parts)
    assert house.post("/v1/messages", claude_body(stream=True)).content == b"".join(parts)
    assert (house.last_call().output_tokens, house.last_call().is_estimated) == (77, False)


def test_a_cut_stream_ends_with_the_vendors_error_event_and_is_charged_as_an_estimate(
    house: House, vendor: ScriptedVendor
) -> None:
    vendor.script = stream_script(START, TEXT, pause=0.05, cut=True)
    answer = house.post("/v1/messages", claude_body(stream=True))
    assert answer.content.startswith(START + TEXT)
    last = answer.content.decode().strip().split("\n\n")[-1]
    assert last.startswith("event: error\n")
    assert json.loads(last.split("data: ")[1])["error"]["type"] == "overloaded_error"
    row = house.last_call()
    assert (row.input_tokens, row.output_tokens, row.is_estimated) == (10, 100, True)
    house.assert_books_balance()


def test_a_cut_chat_stream_tells_the_client_too(house: House, vendor: ScriptedVendor) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"' + b"w" * 80 + b'"}}]}\n\n'
    vendor.script = stream_script(chunk, pause=0.05, cut=True)
    answer = house.post("/v1/chat/completions", {"model": GPT, "stream": True, "messages": HELLO})
    assert b'data: {"error":' in answer.content
    assert house.last_call().output_tokens == 20


def test_a_vendors_own_error_event_is_not_doubled(house: House, vendor: ScriptedVendor) -> None:
    error = sse("error", error={"type": "overloaded_error", "message": "Overloaded"})
    vendor.script = stream_script(START, error)
    assert house.post("/v1/messages", claude_body(stream=True)).content == START + error


def test_a_vendor_that_falls_silent_is_cut(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = stream_script(START, TEXT, hang=60)
    answer = house.post("/v1/messages", claude_body(stream=True))
    assert b"timeout_error" in answer.content
    assert house.last_call().is_estimated
    house.assert_books_balance()


def test_a_vendor_that_never_says_anything_is_cut_and_free(house: House, vendor: ScriptedVendor) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    vendor.script = never
    answer = house.post("/v1/messages", claude_body(stream=True))
    assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")
    assert (house.last_call().price_micros, house.last_call().http_status) == (0, 504)
    house.assert_books_balance()


def test_an_unreachable_vendor_is_overload_and_free(house: House, vendor: ScriptedVendor) -> None:
    vendor.stop()
    answer = house.post("/v1/messages", claude_body())
    assert (answer.status_code, answer.json()["error"]["type"]) == (529, "overloaded_error")
    assert house.post("/v1/chat/completions", {"model": GPT, "messages": HELLO}).status_code == 503
    assert [row.price_micros for row in house.calls()] == [0, 0]
    house.assert_books_balance()


@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 529])
def test_a_vendors_errors_pass_but_for_the_words_of_its_limits_and_are_free(
    house: House, vendor: ScriptedVendor, status: int
) -> None:
    said = {"type": "error", "error": {"type": "some_error", "message": "no"}}
    vendor.script = json_script(said, status, **{"retry-after": "7"})
    answer = house.post("/v1/messages", claude_body())
    if status == 429:
        said = {"type": "error", "error": {"type": "some_error", "message": CROWDED}}
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (status, said, "7")
    row = house.last_call()
    assert (row.http_status, row.price_micros, row.state) == (status, 0, "closed")
    house.assert_books_balance()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("said", ["too many for org-1", ["org-1"], {"error": "org-1"}, {"error": {"message": "org-1"}}])
def test_nobody_is_told_how_much_the_operator_may_use(
    house: House, vendor: ScriptedVendor, said: Any, path: str
) -> None:
    vendor.script = json_script(said, 429)
    answer = house.post(path, claude_body())
    assert (answer.status_code, answer.json()["error"]["message"]) == (429, CROWDED)
    assert "org-1" not in answer.text
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "invalid x-api-key"),
        (402, "billing"),
        (403, "forbidden"),
        (400, "Your credit balance is too low to access the Anthropic API."),
        (429, "You exceeded your current quota, please check your plan and billing details. insufficient_quota"),
    ],
)
def test_trouble_with_the_operators_account_is_overload_for_the_instance(
    house: House, vendor: ScriptedVendor, status: int, message: str
) -> None:
    vendor.script = json_script({"error": {"message": message}}, status)
    answer = house.post("/v1/messages", claude_body())
    assert answer.status_code == 529
    assert message not in answer.text
    assert house.last_call().http_status == status


def test_trouble_with_the_customers_own_key_is_told_to_the_person(house: House, vendor: ScriptedVendor) -> None:
    house.grant(PlanMode.OWN_KEY, dollars=0)
    vendor.script = json_script({"error": {"message": "invalid x-api-key"}}, 401)
    answer = house.post("/v1/messages", claude_body())
    assert answer.status_code == 200
    text = answer.json()["content"][0]["text"]
    assert "Anthropic did not accept your API key" in text
    assert "https://haven.example/instances/ins_1/configuration#api-key" in text
    beat = [{"role": "user", "content": "[cron:1] tidy up"}]
    assert house.post("/v1/messages", claude_body(messages=beat)).status_code == 429


def test_a_redirect_is_not_followed(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = json_script({}, 302, location="http://127.0.0.1:1/steal")
    assert house.post("/v1/messages", claude_body()).status_code == 529
    assert len(vendor.requests) == 1


# ---- clients that go away ---------------------------------------------------------------------------------------


def leave_after_first_bytes(house: House, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(data)}\r\n\r\n"
    host, port = house.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + data)
        assert b"200 OK" in client.recv(65536)


def test_a_client_that_goes_away_is_charged_what_the_vendor_reports(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = stream_script(START, *[TEXT] * 10, DELTA, STOP, pause=0.03)
    leave_after_first_bytes(house, claude_body(stream=True))
    row = house.last_call()
    assert (row.output_tokens, row.is_estimated) == (77, False)
    house.assert_books_balance()


def test_reading_on_for_a_client_that_left_has_a_bound(
    house: House, vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "GONE_CLIENT_SECONDS", 0.2)
    vendor.script = stream_script(START, *[TEXT] * 500, DELTA, STOP, pause=0.05)
    leave_after_first_bytes(house, claude_body(stream=True))
    row = house.last_call()
    assert row.is_estimated
    assert 100 <= row.output_tokens < 500 * 100
    house.assert_books_balance()


def test_a_stopping_server_settles_what_was_used(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = stream_script(START, *[TEXT] * 300, DELTA, STOP, pause=0.1)
    begun = threading.Event()

    def read() -> None:
        url, headers = f"{house.url}/v1/messages", {"x-api-key": KEY}
        with (
            contextlib.suppress(httpx2.HTTPError),
            httpx2.stream("POST", url, json=claude_body(stream=True), headers=headers) as answer,
        ):
            for _ in answer.iter_raw():
                begun.set()

    client = threading.Thread(target=read)
    client.start()
    assert begun.wait(10)
    house.stop()
    client.join(10)
    row = house.last_call()
    assert (row.error, row.is_estimated, row.input_tokens) == ("server stopped", True, 10)
    assert row.output_tokens >= 100
    house.assert_books_balance()


def test_a_stopping_server_closes_a_call_that_its_vendor_has_not_answered(house: House, vendor: ScriptedVendor) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    vendor.script = never

    def ask() -> None:
        with contextlib.suppress(httpx2.HTTPError):
            httpx2.post(f"{house.url}/v1/messages", json=claude_body(), headers={"x-api-key": KEY}, timeout=30)

    client = threading.Thread(target=ask)
    client.start()
    house.last_call(is_closed=False)
    house.stop()
    client.join(10)
    row = house.last_call()
    assert (row.state, row.price_micros) == ("closed", 0)
    house.assert_books_balance()
