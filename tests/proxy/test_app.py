"""The proxy between a client and a vendor that behaves well, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx2
import pytest
import sqlalchemy as sa
from aiohttp import web

from clawhaven import ledger, metering
from clawhaven.metering import PlanMode
from clawhaven.providers.upstreams.openai import OpenAI
from clawhaven.proxy import create_app, exchange
from tests.proxy.conftest import KEY, House, ScriptedVendor, json_script, stream_script

CLAUDE = "claude-sonnet-5-5"
GPT = "gpt-6.1-sol"
HELLO = [{"role": "user", "content": "hello"}]
TOOL_RESULT = [
    *HELLO,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]},
]


def claude_body(**fields: Any) -> dict[str, Any]:
    return {"model": CLAUDE, "max_tokens": 100, "messages": HELLO, **fields}


def sse(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


START = sse(
    "message_start",
    message={
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 300,
            "cache_read_input_tokens": 1000,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
            "output_tokens": 1,
        }
    },
)
TEXT = sse("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * 400})
DELTA = sse("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 77})
STOP = sse("message_stop")


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
def test_a_vendors_errors_pass_as_they_are_and_are_free(house: House, vendor: ScriptedVendor, status: int) -> None:
    said = {"type": "error", "error": {"type": "some_error", "message": "no"}}
    vendor.script = json_script(said, status, **{"retry-after": "7"})
    answer = house.post("/v1/messages", claude_body())
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (status, said, "7")
    row = house.last_call()
    assert (row.http_status, row.price_micros, row.state) == (status, 0, "closed")
    house.assert_books_balance()


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
    assert "did not accept your API key" in answer.json()["content"][0]["text"]
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


# ---- requests that are refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 5}', b'{"model":"sandbox-1","max_tokens":-1}', b"\xff"])
def test_a_broken_body_is_400_in_the_vendors_shape(house: House, body: bytes) -> None:
    answer = house.post("/v1/messages", body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert house.post("/v1/responses", body).json()["error"]["type"] == "invalid_request_error"


def test_a_body_above_the_limit_is_413(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawhaven.proxy.app.MAX_BODY_BYTES", 1024**2)
    big = json.dumps(claude_body(system="x" * 1024**2)).encode()
    assert house.post("/v1/messages", big).json()["error"]["type"] == "request_too_large"

    def chunks() -> Any:
        yield big[:600_000]
        yield big[600_000:]

    headers = {"x-api-key": KEY}
    answer = httpx2.post(f"{house.url}/v1/messages", content=chunks(), headers=headers, timeout=30)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/messages", {"speed": "fast"}),
        ("/v1/messages", {"inference_geo": "us"}),
        ("/v1/messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("/v1/messages", {"tools": [{"type": "code_execution_20250522", "name": "code"}]}),
        ("/v1/chat/completions", {"service_tier": "priority"}),
        ("/v1/chat/completions", {"modalities": ["text", "audio"]}),
        ("/v1/responses", {"background": True, "input": "x"}),
        ("/v1/responses", {"tools": [{"type": "image_generation"}], "input": "x"}),
    ],
)
def test_what_costs_more_than_its_tokens_is_refused_unless_the_key_is_the_customers(
    house: House, path: str, fields: dict[str, Any]
) -> None:
    model = CLAUDE if path == "/v1/messages" else GPT
    answer = house.post(path, {"model": model, "max_tokens": 5, "messages": HELLO, **fields})
    assert answer.status_code == 400
    assert "not offered" in answer.text
    assert house.vendor.requests == []


def test_a_model_is_only_reached_through_its_vendors_endpoints(house: House) -> None:
    for path, model in (("/v1/messages", GPT), ("/v1/chat/completions", f"{CLAUDE}-20260928")):
        answer = house.post(path, {"model": model, "max_tokens": 5, "messages": HELLO})
        assert answer.status_code == 400
        assert "not available at this endpoint" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/v1/files", 404),
        ("GET", "/v1/messages", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/healthz", 200),
    ],
)
def test_other_paths_and_methods(house: House, method: str, path: str, status: int) -> None:
    assert httpx2.request(method, house.url + path).status_code == status


def test_a_suspended_instance_gets_a_sentence_or_429_but_never_401_to_403(house: House) -> None:
    house.grant(is_active=False)
    answer = house.post("/v1/messages", {**claude_body(), "model": "sandbox-1"})
    assert answer.status_code == 200
    assert "paused" in answer.json()["content"][0]["text"]
    counted = house.post("/v1/messages/count_tokens", {"model": "sandbox-1", "messages": HELLO})
    assert counted.status_code == 429
    assert house.calls() == []


def test_message_limit_spares_follow_ups(house: House) -> None:
    house.grant(messages_per_hour=1)
    body = {**claude_body(), "model": "sandbox-1"}
    assert "You said" in house.post("/v1/messages", body).text
    assert "https://haven.example/usage" in house.post("/v1/messages", body).json()["content"][0]["text"]
    assert "You said" in house.post("/v1/messages", {**body, "messages": TOOL_RESULT}).text


def test_too_many_calls_at_once_are_429_with_retry_after(house: House, vendor: ScriptedVendor) -> None:
    house.grant(max_in_flight=1)
    vendor.script = stream_script(START, TEXT, DELTA, hang=0.6)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(house.post, "/v1/messages", claude_body(stream=True))
        house.last_call(is_closed=False)
        answer = house.post("/v1/messages", claude_body())
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        first.result()


def test_many_parallel_calls_never_take_the_wallet_below_zero(house: House, vendor: ScriptedVendor) -> None:
    with house.db.tx() as db:
        poor = ledger.open_account(db, "wallet", "acc_poor", 0, now=house.clock.now())
        ledger.credit(db, key="poor", ledger_account_id=poor, amount_micros=1_000_000, now=house.clock.now())
    house.grant(dollars=0, ledger_account_id=poor, max_in_flight=None)
    house.account = poor
    vendor.script = json_script({"usage": {"input_tokens": 10, "output_tokens": 10_000}})
    body = claude_body(max_tokens=10_000)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: house.post("/v1/messages", body), range(32)))
    assert {answer.status_code for answer in answers} == {200}
    served = len(vendor.requests)
    assert 0 < served < 32
    assert house.balance().balance_micros == 1_000_000 - served * 150_030
    assert sum("topup" in answer.text for answer in answers) == 32 - served
    with house.db.read() as db:
        assert ledger.check_books(db) == []


def test_an_included_plan_records_the_value_and_asks_nobody_to_top_up(house: House) -> None:
    house.grant(PlanMode.INCLUDED)
    assert house.post("/v1/messages", {**claude_body(), "model": "sandbox-1"}).status_code == 200
    row = house.last_call()
    assert house.balance().balance_micros == -row.price_micros < 0


def test_no_platform_key_means_the_vendors_models_are_not_offered(house: House) -> None:
    house.upstreams["openai"] = OpenAI(OpenAI.Options(openai_api_key=""), house.settings)  # type: ignore[arg-type]
    answer = house.post("/v1/chat/completions", {"model": GPT, "messages": HELLO})
    assert answer.status_code == 400
    assert "sandbox-1" in answer.text
    listed = httpx2.get(f"{house.url}/v1/models", headers={"x-api-key": KEY}).json()
    assert GPT not in [model["id"] for model in listed["data"]]


def test_works_under_a_mount(house: House) -> None:
    async def ask() -> list[dict[str, Any]]:
        sent: list[Any] = []
        app = create_app(house)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/proxy/v1/models",
            "root_path": "/proxy",
            "headers": [(b"x-api-key", KEY.encode())],
        }
        await app(scope, receive, send)
        await app.close()
        return sent

    assert anyio.run(ask)[0]["status"] == 200


def test_usage_is_in_the_ledger_for_the_customer_to_read(house: House) -> None:
    for _ in range(2):
        house.post("/v1/messages", {**claude_body(), "model": "sandbox-1"})
    with house.db.read() as db:
        lines = ledger.list_entries(db, "acc_1").lines
        summary = metering.usage_summary(db, "acc_1", *[house.clock.now().replace(year=year) for year in (2000, 2100)])
    assert [line.ref for line in lines[:2]] == [row.id for row in house.calls()]
    assert summary.total.price_micros == -sum(line.amount_micros for line in lines[:2])


def test_a_key_that_cannot_be_opened_is_the_operators_trouble_and_ends_the_call(house: House) -> None:
    house.grant(PlanMode.OWN_KEY, dollars=0, own_key_sealed="v1.deadbeef.AAAA")
    assert house.post("/v1/messages", claude_body()).status_code == 529
    assert (house.last_call().state, house.last_call().http_status) == ("closed", 529)


def test_a_broken_database_is_overload_before_the_answer_and_a_cut_after_it(
    house: House, vendor: ScriptedVendor
) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(START + TEXT)
        with house.db.tx() as db:
            db.execute(sa.text("ALTER TABLE usage RENAME TO hidden"))
        await response.write(DELTA + STOP)
        return response

    vendor.script = script
    got: list[bytes] = []

    def read() -> None:
        url, headers = f"{house.url}/v1/messages", {"x-api-key": KEY}
        with httpx2.stream("POST", url, json=claude_body(stream=True), headers=headers) as answer:
            got.extend(answer.iter_raw())

    with pytest.raises(httpx2.RemoteProtocolError):
        read()
    assert b"message_stop" not in b"".join(got)
    assert house.post("/v1/messages", claude_body()).json()["error"]["type"] == "overloaded_error"
