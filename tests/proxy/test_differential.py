"""The official clients at the vendor and through the proxy: the same request arrives, the same object comes out.

Every case is one documented way to call; it runs against a strict stand-in for the vendor twice, and everything that
the caller could tell apart is compared. Only two things may differ: the credentials, and the one option that makes a
chat stream report its usage.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anthropic
import openai
import pydantic
import pytest

from clawhaven import metering
from clawhaven.metering import PlanMode
from clawhaven.proxy.refusals import CROWDED
from tests.proxy.calls import (
    ANSWER,
    ASK,
    BY_NAME,
    CASES,
    CHAT_STREAM,
    COMPLETION,
    COMPLETION_STREAM,
    EMBEDDER,
    IDS,
    MESSAGE,
    MESSAGE_STREAM,
    RESPONSE_STREAM,
    RESPONSES,
    SAY,
    STREAM,
    Case,
    claude,
    js,
)
from tests.proxy.conftest import KEY, House
from tests.proxy.hostile import places
from tests.proxy.rawvendor import RawVendor, Seen, Wire, chunk, chunked, stream_head, whole
from tests.proxy.recorded import CLAUDE_EVENTS, CLAUDE_USED, Recorded, figures, message
from tests.proxy.wire import GPT, sse

VENDOR_KEY = {"anthropic": "sk-ant-operator", "openai": "sk-operator"}


@pytest.fixture
def vendor() -> Iterator[RawVendor]:
    server = RawVendor()
    server.start()
    yield server
    server.stop()


def answering(case: Case, status: int = 200) -> Any:
    """A strict vendor: what it was not promised, it refuses."""

    async def script(wire: Wire) -> None:
        wrong = complaints(case, wire.seen)
        lines = [f"{name}: {value}" for name, value in case.headers.items()]
        if wrong:
            said = {"error": {"type": "strict", "message": "; ".join(wrong)}}
            await wire.send(whole(js(said), status="418 Wrong"))
        elif case.kind == "application/json":
            await wire.send(whole(case.answer, *lines, status=f"{status} Said"))
        else:
            await wire.send(stream_head(*lines, kind=case.kind) + chunked(case.answer))

    return script


PASSED = {"anthropic": {"anthropic-version", "anthropic-beta"}, "openai": {"openai-beta"}}
PLAIN = {"host", "content-type", "content-length", "accept", "accept-encoding", "connection", "user-agent"}


def complaints(case: Case, seen: Seen) -> list[str]:
    vendor = "anthropic" if case.client.__module__.startswith("anthropic") else "openai"
    sent = seen.headers
    credentials = {"x-api-key": sent.get("x-api-key"), "authorization": sent.get("authorization")}
    mine = {VENDOR_KEY[vendor], f"Bearer {VENDOR_KEY[vendor]}"}
    found = []
    if {value for value in credentials.values() if value} - mine or not any(credentials.values()):
        found.append(f"credentials {sorted(name for name, value in credentials.items() if value)}")
    if KEY in str(seen):
        found.append("the customer's key")
    if vendor == "anthropic" and not re.fullmatch(r"\d{4}-\d\d-\d\d", sent.get("anthropic-version", "")):
        found.append("no anthropic-version")
    if sent.get("content-type") != "application/json" or seen.method != "POST":
        found.append("not a JSON post")
    if case.path and seen.path != case.path:
        found.append(f"path {seen.path}")
    allowed = PLAIN | PASSED[vendor] | set(credentials)
    if "x-stainless-lang" not in sent and (strange := set(sent) - allowed):
        found.append(f"headers {strange}")
    return found


def made(client: type[Any], url: str, key: str, **more: Any) -> Any:
    is_claude = client.__module__.startswith("anthropic")
    return client(api_key=key, base_url=url if is_claude else f"{url}/v1", max_retries=0, timeout=30, **more)


def direct(case: Case, vendor: RawVendor, client: type[Any] | None = None) -> Any:
    kind = client or case.client
    return made(kind, vendor.url, VENDOR_KEY["anthropic" if kind.__module__.startswith("anthropic") else "openai"])


def plain(value: Any) -> Any:
    """Whatever a call gave back, as something that compares."""
    if isinstance(value, pydantic.BaseModel):
        return type(value).__name__, value.model_dump(mode="json", warnings=False)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def asked(seen: Seen) -> tuple[str, bytes, dict[str, str]]:
    """What a request said, but for the option that the proxy adds."""
    kept = {name: value for name, value in seen.headers.items() if name in PASSED["anthropic"] | PASSED["openai"]}
    return seen.path, seen.body, kept


def assert_same_request(direct: Seen, proxied: Seen) -> None:
    first, second = asked(direct), asked(proxied)
    if first[1] == second[1]:
        assert first == second
        return
    before, after = json.loads(first[1]), json.loads(second[1])
    options = {**before.get("stream_options", {}), "include_usage": True}
    assert after == {**before, "stream_options": options}, "more than the one option was changed"
    assert (before["stream"], direct.path) == (True, "/v1/chat/completions")
    assert (first[0], first[2]) == (second[0], second[2])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.client.__name__}: {case.name}")
def test_a_call_is_the_same_call(house: House, vendor: RawVendor, case: Case) -> None:
    vendor.script = answering(case)
    there = case.call(direct(case, vendor))
    if case.shown:  # at the vendor nobody would see usage that was not asked for
        vendor.script = answering(dataclasses.replace(case, answer=case.shown))
        there = case.call(direct(case, vendor))
        vendor.script = answering(case)
    here = case.call(made(case.client, house.url, KEY))
    assert plain(here) == plain(there)
    assert_same_request(*vendor.requests[-2:])
    if case.bills:
        row = house.last_call()
        assert (figures(row), row.is_estimated, row.state) == (case.bills, False, "closed")
    if "count" in case.path:
        assert house.calls() == []


async def events_of(opening: Awaitable[Any]) -> list[Any]:
    return [event async for event in await opening]


def test_asynchronous_clients(house: House, vendor: RawVendor) -> None:
    def embed(client: Any) -> Awaitable[Any]:
        return client.embeddings.create(model=EMBEDDER, input="a", encoding_format="float")  # type: ignore[no-any-return]

    calls: list[tuple[type[Any], Recorded, Callable[[Any], Awaitable[Any]]]] = [
        (anthropic.AsyncAnthropic, BY_NAME["messages"], lambda c: c.messages.create(**ASK)),
        (anthropic.AsyncAnthropic, STREAM, lambda c: events_of(c.messages.create(**ASK, stream=True))),
        (openai.AsyncOpenAI, BY_NAME["chat"], lambda c: c.chat.completions.create(**SAY)),
        (openai.AsyncOpenAI, RESPONSES, lambda c: events_of(c.responses.create(model=GPT, input="x", stream=True))),
        (openai.AsyncOpenAI, BY_NAME["embeddings"], embed),
    ]

    async def both(kind: type[Any], one: Recorded, call: Callable[[Any], Awaitable[Any]]) -> tuple[Any, Any]:
        case = Case("", kind, call, one.content, one.kind)
        vendor.script = answering(case)
        async with direct(case, vendor, kind) as client:
            there = await call(client)
        async with made(kind, house.url, KEY) as client:
            return plain(there), plain(await call(client))

    for kind, one, call in calls:
        there, here = asyncio.run(both(kind, one, call))
        assert here == there
        assert_same_request(*vendor.requests[-2:])


# ---- what goes wrong -------------------------------------------------------------------------------------------------

REFUSED = {
    400: ("invalid_request_error", "max_tokens: must be positive"),
    404: ("not_found_error", "model: unknown"),
    408: ("timeout_error", "slow"),
    409: ("conflict_error", "conflict"),
    413: ("request_too_large", "too large"),
    422: ("invalid_request_error", "unprocessable"),
    429: (
        "rate_limit_error",
        "Your organization org-1 has exceeded its 30,000 tokens a minute: https://vendor.example",
    ),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Timed out"),
    529: ("overloaded_error", "Overloaded"),
}
CALLS = [MESSAGE, MESSAGE_STREAM, COMPLETION, COMPLETION_STREAM, ANSWER]


def raised(call: Callable[[], Any]) -> Any:
    with pytest.raises((anthropic.APIError, openai.APIError)) as caught:
        call()
    error: Any = caught.value
    names = ("status_code", "message", "body", "request_id", "code", "param", "type")
    told = {name: getattr(error, name, None) for name in names}
    waits = {name: error.response.headers.get(name) for name in ("retry-after", "retry-after-ms", "x-should-retry")}
    return type(error), told, waits


def replaced(told: Any, old: str, new: str) -> Any:
    """The same with other words in it."""
    if isinstance(told, str):
        return told.replace(old, new)
    if isinstance(told, dict):
        return {name: replaced(value, old, new) for name, value in told.items()}
    return tuple(replaced(value, old, new) for value in told) if isinstance(told, tuple) else told


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize("case", CALLS, ids=lambda case: f"{case.client.__name__}: {case.name}")
def test_a_refusal_is_the_same_exception(house: House, vendor: RawVendor, case: Case, status: int) -> None:
    kind, text = REFUSED[status]
    if case.client is anthropic.Anthropic:
        said: Any = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_claude"}
    else:
        said = {"error": {"message": text, "type": kind, "param": "model", "code": f"code_{status}"}}
    told = {**IDS, "retry-after": "3", "x-should-retry": "false"}
    refusing = Case(case.name, case.client, case.call, js(said), path=case.path, headers=told)
    vendor.script = answering(refusing, status)
    there = raised(lambda: case.call(direct(case, vendor)))
    here = raised(lambda: case.call(made(case.client, house.url, KEY)))
    if status == 429:  # the words are ours, as the vendor's are about the operator; all the rest is the same
        assert "org-1" in str(there)
        there = replaced(there, text, CROWDED)
    assert here == there
    assert there[1]["status_code"] == status
    assert house.last_call().price_micros == 0


def test_with_the_customers_own_key_the_vendor_says_itself_what_it_allows(house: House, vendor: RawVendor) -> None:
    sealed = house.keys.seal(VENDOR_KEY["anthropic"], metering.OWN_KEY_PURPOSE)
    house.grant(PlanMode.OWN_KEY, dollars=0, own_key_upstream="anthropic", own_key_sealed=sealed)
    said = js({"type": "error", "error": {"type": REFUSED[429][0], "message": REFUSED[429][1]}})
    vendor.script = answering(dataclasses.replace(MESSAGE, answer=said), 429)
    there = raised(lambda: MESSAGE.call(direct(MESSAGE, vendor)))
    assert raised(lambda: MESSAGE.call(made(MESSAGE.client, house.url, KEY))) == there


def test_an_error_in_a_stream_is_the_same_exception(house: House, vendor: RawVendor) -> None:
    said = sse("error", error={"type": "overloaded_error", "message": "Overloaded"})
    broken = b"".join([*CLAUDE_EVENTS[:5], said])
    case = Case("", anthropic.Anthropic, MESSAGE_STREAM.call, broken, STREAM.kind)
    vendor.script = answering(case)
    there = raised(lambda: case.call(direct(case, vendor)))
    assert raised(lambda: case.call(made(case.client, house.url, KEY))) == there
    failed = b'data: {"error": {"message": "server had an error", "type": "server_error", "code": null}}\n\n'
    chat_case = Case("", openai.OpenAI, COMPLETION_STREAM.call, failed, STREAM.kind)
    vendor.script = answering(chat_case)
    with pytest.raises(openai.APIError, match="server had an error"):
        chat_case.call(direct(chat_case, vendor))
    with pytest.raises(openai.APIError, match="server had an error"):
        chat_case.call(made(openai.OpenAI, house.url, KEY))


def test_a_stream_cut_anywhere_raises_the_vendors_own_error(house: House, vendor: RawVendor) -> None:
    for case, one in ((MESSAGE_STREAM, STREAM), (COMPLETION_STREAM, CHAT_STREAM), (RESPONSE_STREAM, RESPONSES)):
        for place in places(one, 8):
            if place >= len(one.content) - 2:
                continue

            async def script(wire: Wire, sent: bytes = one.content[:place]) -> None:
                await wire.send(stream_head() + (chunk(sent) if sent else b""))
                await wire.abort()

            vendor.script = script
            if case is RESPONSE_STREAM:  # here an error is an event like others
                told = case.call(made(case.client, house.url, KEY))[-1]
                assert (told.type, "broke off" in told.message) == ("error", True), place
            else:
                with pytest.raises((anthropic.APIStatusError, openai.APIError), match="broke off"):
                    case.call(made(case.client, house.url, KEY))
            assert house.last_call().is_estimated


def test_a_client_that_tries_again_is_billed_once(house: House, vendor: RawVendor) -> None:
    attempts = 0

    async def script(wire: Wire) -> None:
        nonlocal attempts
        attempts += 1
        if attempts % 3:
            await wire.send(whole(js({"error": {}}), "retry-after-ms: 1", status="529 Overloaded"))
        else:
            await wire.send(whole(BY_NAME["messages"].content))

    vendor.script = script
    client = anthropic.Anthropic(api_key=KEY, base_url=house.url, max_retries=2)
    assert client.messages.create(**ASK).usage.output_tokens == CLAUDE_USED["output_tokens"]
    rows = house.calls()
    assert len(vendor.requests) == 3
    assert sorted(row.http_status or 0 for row in rows) == [200, 529, 529]
    assert sum(row.price_micros > 0 for row in rows) == 1
    house.assert_books_balance()


def test_with_the_customers_own_key_what_is_not_offered_otherwise_works(house: House, vendor: RawVendor) -> None:
    sealed = house.keys.seal(VENDOR_KEY["anthropic"], metering.OWN_KEY_PURPOSE)
    house.grant(PlanMode.OWN_KEY, dollars=0, own_key_upstream="anthropic", own_key_sealed=sealed)
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]
    used = {**CLAUDE_USED, "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}
    case = claude("search", lambda c: c.messages.create(**ASK, tools=tools, speed="fast"), js(message(usage=used)))
    vendor.script = answering(case)
    there = case.call(direct(case, vendor))
    assert plain(case.call(made(case.client, house.url, KEY))) == plain(there)
    assert_same_request(*vendor.requests[-2:])
    assert (house.last_call().output_tokens, house.last_call().price_micros) == (77, 0)


def test_the_list_of_models_reads_as_the_vendors_own(house: House, vendor: RawVendor) -> None:
    for model in made(anthropic.Anthropic, house.url, KEY).models.list(limit=1000):
        assert (model.type, bool(model.display_name), bool(model.created_at)) == ("model", True, True)
    listed = list(made(openai.OpenAI, house.url, KEY).models.list())
    assert {model.object for model in listed} == {"model"}
    assert GPT in [model.id for model in listed]
    assert vendor.requests == []
