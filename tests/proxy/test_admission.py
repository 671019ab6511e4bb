"""What the proxy admits, refuses and limits, and what a refused caller reads."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import anyio
import httpx2
import pytest
import sqlalchemy as sa
from aiohttp import web

from clawhaven import ledger, metering
from clawhaven.billing import wallet
from clawhaven.metering import PlanMode
from clawhaven.providers.upstreams.openai import OpenAI
from clawhaven.proxy import app, create_app
from tests.proxy.conftest import KEY, House, ScriptedVendor, json_script, stream_script
from tests.proxy.wire import CLAUDE, DELTA, GPT, HELLO, START, STOP, TEXT, TOOL_RESULT, claude_body

# ---- requests that are refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 5}', b'{"model":"sandbox-1","max_tokens":-1}', b"\xff"])
def test_a_broken_body_is_400_in_the_vendors_shape(house: House, body: bytes) -> None:
    answer = house.post("/v1/messages", body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert house.post("/v1/responses", body).json()["error"]["type"] == "invalid_request_error"


def test_a_body_above_the_limit_is_413(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawhaven.proxy.bodies.MAX_BODY_BYTES", 1024**2)
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
        ("/v1/messages", {"fallbacks": [{"model": "claude-opus-5-5"}]}),
        ("/v1/messages", {"fallbacks": "default"}),
        ("/v1/messages", {"fallback_credit_token": "fct_1"}),
        ("/v1/messages", {"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}}),
        ("/v1/messages", {"thread": {"type": "continue", "previous_message_id": "msg_1"}}),
        ("/v1/chat/completions", {"service_tier": "priority"}),
        ("/v1/chat/completions", {"service_tier": "flex"}),
        ("/v1/responses", {"service_tier": "flex", "input": "x"}),
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


def test_counting_tokens_has_a_limit_of_its_own_at_the_operators_vendor(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "FEWEST_COUNTS", 2)
    house.grant(messages_per_hour=1)
    body = {"model": "sandbox-1", "messages": HELLO}
    told = [house.post("/v1/messages/count_tokens", body) for _ in range(3)]
    assert [one.status_code for one in told] == [200, 200, 429]
    assert told[-1].json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(told[-1].headers["retry-after"]) <= 60
    assert "You said" in house.post("/v1/messages", {**claude_body(), "model": "sandbox-1"}).text


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
    assert sum("/topup" in answer.text for answer in answers) == 32 - served
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


def test_an_own_key_plan_without_a_key_says_where_to_put_it(house: House) -> None:
    house.grant(PlanMode.OWN_KEY, dollars=0, own_key_upstream=None, own_key_sealed=None)
    place = "https://haven.example/instances/ins_1/configuration#api-key"
    said = house.post("/v1/messages", claude_body())
    assert said.status_code == 200
    text = said.json()["content"][0]["text"]
    assert "no model key yet" in text
    assert place in text
    assert place in house.post("/v1/chat/completions", {"model": GPT, "messages": HELLO}).text
    beat = [{"role": "user", "content": "[cron:1] tidy up"}]
    assert house.post("/v1/messages", claude_body(messages=beat)).status_code == 429
    counted = house.post("/v1/messages/count_tokens", {"model": CLAUDE, "messages": HELLO})
    assert (counted.status_code, counted.json()["error"]["type"]) == (429, "rate_limit_error")
    assert httpx2.get(f"{house.url}/v1/models", headers={"x-api-key": KEY}).json()["data"] == []
    assert (house.vendor.requests, house.calls()) == ([], [])


def test_an_own_key_needs_no_key_of_the_operator(house: House, vendor: ScriptedVendor) -> None:
    url = f"http://127.0.0.1:{vendor.port}/v1"
    house.upstreams["openai"] = OpenAI(OpenAI.Options(openai_api_key="", openai_api_url=url), house.settings)  # type: ignore[arg-type]
    sealed = house.keys.seal("sk-customers-own", metering.OWN_KEY_PURPOSE)
    house.grant(PlanMode.OWN_KEY, dollars=0, own_key_upstream="openai", own_key_sealed=sealed)
    vendor.script = json_script({"usage": {"prompt_tokens": 5, "completion_tokens": 5}})
    assert house.post("/v1/chat/completions", {"model": GPT, "messages": HELLO}).status_code == 200
    assert vendor.requests[0][1]["authorization"] == "Bearer sk-customers-own"
    listed = httpx2.get(f"{house.url}/v1/models", headers={"x-api-key": KEY}).json()["data"]
    assert {model["owned_by"] for model in listed} == {"openai"}


def test_a_refusal_for_want_of_credit_is_noted_once_for_the_wallet(house: House) -> None:
    with house.db.tx() as db:
        ledger.set_floor(db, house.account, 100_000_000)
    body = {**claude_body(), "model": "sandbox-1"}
    house.clock.advance(timedelta(hours=1))
    for _ in range(3):
        assert "https://haven.example/topup" in house.post("/v1/messages", body).text
    with house.db.read() as db:
        row = wallet.find(db, "acc_1")
        assert row is not None
        noted = row.refused_at
        assert noted is not None
        standing = wallet.standing(db, "acc_1")
    assert standing is not None
    assert standing.is_refused
    house.post("/v1/messages", body)
    with house.db.read() as db:
        row = wallet.find(db, "acc_1")
        assert row is not None
        assert row.refused_at == noted


def test_a_refusal_that_cannot_be_noted_is_still_told(house: House) -> None:
    with house.db.tx() as db:
        ledger.set_floor(db, house.account, 100_000_000)
        db.connection().exec_driver_sql("DROP TABLE wallet")
    assert "https://haven.example/topup" in house.post("/v1/messages", {**claude_body(), "model": "sandbox-1"}).text
