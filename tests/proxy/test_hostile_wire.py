"""A vendor's server that breaks HTTP itself: one call's trouble stays its own, and nobody gets another one's answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from clawhaven.proxy.refusals import CROWDED
from tests.proxy.conftest import House
from tests.proxy.hostile import ask, assert_books, assert_error, assert_exact, judge
from tests.proxy.rawvendor import RawVendor, Wire, chunk, chunked, stream_head, whole
from tests.proxy.recorded import ALL, Recorded

MESSAGES, MESSAGE_STREAM, CHAT, CHAT_STREAM = ALL[:4]
STOLEN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\nSTOLEN"


@pytest.fixture
def vendor() -> Iterator[RawVendor]:
    server = RawVendor()
    server.start()
    yield server
    server.stop()


def well_formed(one: Recorded) -> bytes:
    return stream_head(kind=one.kind) + chunked(one.content) if one.is_stream else whole(one.content, kind=one.kind)


def sends(data: bytes, *, is_closing: bool = False) -> Any:
    async def script(wire: Wire) -> None:
        await wire.send(data)
        if is_closing:
            await wire.finish()

    return script


def assert_still_well(house: House, vendor: RawVendor, client: httpx2.Client) -> None:
    """The next calls get their own answers, whichever connection they take."""
    for one in (MESSAGES, MESSAGE_STREAM, CHAT, CHAT_STREAM):
        vendor.script = sends(well_formed(one))
        assert_exact(one, ask(house, one, client))
    assert_books(house)


# ---- bytes that belong to no answer -------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [STOLEN, b"\r\n\r\n", b"garbage", b"0\r\n\r\n", b"HTTP/1.1 500 No\r\n\r\n"])
@pytest.mark.parametrize("one", [MESSAGES, MESSAGE_STREAM, CHAT_STREAM], ids=lambda one: one.name)
def test_what_follows_an_answer_is_nobodys(house: House, vendor: RawVendor, one: Recorded, garbage: bytes) -> None:
    with httpx2.Client() as client:
        for pause in (0, 0.02):

            async def script(wire: Wire, pause: float = pause) -> None:
                await wire.send(well_formed(one))
                await asyncio.sleep(pause)
                await wire.send(garbage)

            vendor.script = script
            assert_exact(one, ask(house, one, client))
            time.sleep(2 * pause)
            assert_still_well(house, vendor, client)


def test_connections_that_the_vendor_closes_in_between_are_not_used_again(house: House, vendor: RawVendor) -> None:
    with httpx2.Client() as client:
        for one in [MESSAGES, MESSAGE_STREAM] * 10:
            vendor.script = sends(well_formed(one), is_closing=True)
            assert_exact(one, ask(house, one, client))
            time.sleep(0.01)
    assert_books(house)


def test_a_length_that_is_too_small_cuts_the_answer_and_is_estimated(house: House, vendor: RawVendor) -> None:
    short = MESSAGES.content[:-50]
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(short)}\r\n\r\n".encode()
    vendor.script = sends(head + MESSAGES.content)
    with httpx2.Client() as client:
        got = ask(house, MESSAGES, client)
        assert (got.status, got.content) == (200, short)
        assert got.row.is_estimated
        assert_still_well(house, vendor, client)


@pytest.mark.parametrize(
    "lines",
    [
        b"content-length: 99999\r\n",
        b"content-length: -5\r\n",
        b"content-length: ten\r\n",
        b"content-length: 5\r\ncontent-length: 699\r\n",
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked, chunked\r\n",
        b"transfer-encoding: gzip\r\n",
        b"content-length: " + b"9" * 400 + b"\r\n",
        b"no colon at all\r\n",
        b"name with spaces : x\r\n",
        b"x: \x00\x01\r\n",
        b"x: " + b"y" * 300_000 + b"\r\n",
        b"".join(b"x-%d: y\r\n" % number for number in range(3000)),
    ],
    ids=lambda lines: str(lines[:30]),
)
def test_a_head_that_cannot_be_read_ends_the_call_and_no_other(house: House, vendor: RawVendor, lines: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    vendor.script = sends(head + lines + b"\r\n" + MESSAGES.content, is_closing=True)
    with httpx2.Client() as client:
        got = ask(house, MESSAGES, client)
        if got.status == 200:
            assert MESSAGES.content.startswith(got.content)
            assert got.row.is_estimated or got.content == MESSAGES.content
        else:
            assert_error(MESSAGES, json.loads(got.content), got.status)
            assert got.row.price_micros == 0
        assert_still_well(house, vendor, client)


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"-1\r\nx\r\n", b"5\r\nhello!!\r\n", b"f" * 40 + b"\r\n", b"5;" + b"x" * 200_000 + b"\r\nhello"]
)
def test_chunks_that_cannot_be_read_break_the_stream_off(house: House, vendor: RawVendor, body: bytes) -> None:
    begun = MESSAGE_STREAM.content[:400].rpartition(b"\n\n")[0] + b"\n\n"

    async def script(wire: Wire) -> None:
        await wire.send(stream_head() + chunk(begun))
        await asyncio.sleep(0.05)
        await wire.send(body)
        await wire.finish()

    vendor.script = script
    with httpx2.Client() as client:
        got = ask(house, MESSAGE_STREAM, client)
        assert got.status == 200
        assert got.content.startswith(begun)
        assert b"event: error\n" in got.content
        assert got.row.is_estimated
        assert_still_well(house, vendor, client)


@pytest.mark.parametrize("value", ["Grüße", "日本", "a\tb", " spaces ", "x" * 5000])
def test_a_strange_request_id_loses_nothing(house: House, vendor: RawVendor, value: str) -> None:
    for one in (MESSAGES, MESSAGE_STREAM):
        line = b"request-id: " + value.encode() + b"\r\n"
        first, _, rest = well_formed(one).partition(b"\r\n")
        vendor.script = sends(first + b"\r\n" + line + rest)
        assert_exact(one, ask(house, one))
    assert_books(house)


def test_a_header_that_http_forbids_ends_the_answer_and_costs_nothing(house: House, vendor: RawVendor) -> None:
    first, _, rest = well_formed(MESSAGES).partition(b"\r\n")
    vendor.script = sends(first + b"\r\nrequest-id: \x7f\r\n" + rest)
    judge(MESSAGES, got := ask(house, MESSAGES))
    assert got.status == 529
    assert_books(house)


# ---- other versions and numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["100 Continue", "102 Processing", "103 Early Hints"])
@pytest.mark.parametrize("one", [MESSAGES, MESSAGE_STREAM], ids=lambda one: one.name)
def test_answers_before_the_answer_are_passed_over(house: House, vendor: RawVendor, one: Recorded, number: str) -> None:
    early = f"HTTP/1.1 {number}\r\nlink: </x>; rel=preload\r\n\r\n".encode()
    vendor.script = sends(early * 3 + well_formed(one))
    assert_exact(one, ask(house, one))


def test_switching_protocols_is_refused(house: House, vendor: RawVendor) -> None:
    vendor.script = sends(b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI", is_closing=True)
    got = ask(house, MESSAGES)
    assert_error(MESSAGES, json.loads(got.content), got.status)
    assert got.row.price_micros == 0
    assert_books(house)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_http_1_0(house: House, vendor: RawVendor, one: Recorded) -> None:
    head = f"HTTP/1.0 200 OK\r\ncontent-type: {one.kind}\r\n\r\n".encode()
    vendor.script = sends(head + one.content, is_closing=True)
    assert_exact(one, ask(house, one))


def test_a_status_line_without_words(house: House, vendor: RawVendor) -> None:
    for first in (b"HTTP/1.1 200", b"HTTP/1.1 200 "):
        vendor.script = sends(first + well_formed(MESSAGES).partition(b"200 OK")[2])
        assert_exact(MESSAGES, ask(house, MESSAGES))


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 999 What", b"HTTP/1.1 0 Zero", b"HTTP/3.7 200 OK", b"ICY 200 OK", b"\x16\x03"]
)
def test_a_status_line_that_is_none(house: House, vendor: RawVendor, line: bytes) -> None:
    vendor.script = sends(line + well_formed(MESSAGES).partition(b"200 OK")[2], is_closing=True)
    got = ask(house, MESSAGES)
    assert got.status >= 400
    assert got.row.price_micros == 0
    assert_books(house)


# ---- refusals -----------------------------------------------------------------------------------------------------

TOLD = {
    "retry-after": "7",
    "retry-after-ms": "7000",
    "x-should-retry": "false",
    "request-id": "req_1",
    "x-request-id": "req_2",
}


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529])
def test_a_refusal_passes_with_what_its_client_is_told_by_it(house: House, vendor: RawVendor, status: int) -> None:
    said: Any = {"type": "error", "error": {"type": "some_error", "message": "no", "code": "c", "param": None}}
    body = json.dumps({**said, "request_id": "req_1"}).encode()
    lines = [f"{name}: {value}" for name, value in TOLD.items()]
    for one in (MESSAGES, CHAT_STREAM):
        vendor.script = sends(whole(body, *lines, status=f"{status} No"))
        got = ask(house, one)
        if status == 429:  # a vendor's own words name the operator's organization
            wanted: Any = {**said, "error": {**said["error"], "message": CROWDED}, "request_id": "req_1"}
            assert (got.status, json.loads(got.content)) == (status, wanted)
        else:
            assert (got.status, got.content) == (status, body)
        assert {name: got.headers.get(name) for name in TOLD} == TOLD
        assert (got.row.http_status, got.row.price_micros) == (status, 0)
        assert "x-clawhaven-call" in got.headers
    assert_books(house)


def test_a_mistake_that_only_mentions_billing_is_the_clients(house: House, vendor: RawVendor) -> None:
    said = {"type": "invalid_request_error", "message": "tools.0.name: `get billing info` should match '^[a-z]+$'"}
    body = json.dumps({"type": "error", "error": said}).encode()
    vendor.script = sends(whole(body, status="400 Bad Request"))
    assert ask(house, MESSAGES).status == 400


def test_an_endless_refusal_is_cut(house: House, vendor: RawVendor) -> None:
    async def script(wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 500 No\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await wire.send(chunk(b"no " * 10_000))

    vendor.script = script
    got = ask(house, MESSAGES)
    assert got.status == 500
    assert len(got.content) <= 1024**2
    assert got.row.price_micros == 0
    assert_books(house)
