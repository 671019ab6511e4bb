"""Large bodies: so many of one caller at once, so much in a minute, and none that cannot be decoded cheaply."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import time
from contextlib import ExitStack, closing
from typing import Any

import httpx2
import pytest

from clawhaven.core.secrets import hash_token
from clawhaven.metering import programs
from clawhaven.metering.models import ProgramKey
from clawhaven.proxy import bodies
from clawhaven.proxy.bodies import LARGE_BYTES, Room, Shares, TooDense, TooMuch
from clawhaven.proxy.turns import TooMany
from tests.proxy.conftest import KEY, House, ScriptedVendor, json_script
from tests.proxy.wire import claude_body

MB = 1024 * 1024
BIG = json.dumps(claude_body(system="x" * 2 * LARGE_BYTES)).encode()
SMALL = json.dumps(claude_body()).encode()


def fill(shares: Shares, whose: str, *sizes: int) -> list[Room]:
    rooms = [Room(shares, whose) for _ in sizes]
    for room, size in zip(rooms, sizes, strict=True):
        room.take(size)
    return rooms


def test_large_bodies_of_one_caller_are_bounded_in_number_and_size() -> None:
    shares = Shares(lambda: 0.0)
    rooms = fill(shares, "a", *[300_000] * bodies.LARGE_AT_ONCE)
    with pytest.raises(TooMany):
        fill(shares, "a", 300_000)
    fill(shares, "a", *[LARGE_BYTES] * 100)
    fill(shares, "b", 32 * MB, 32 * MB)
    with pytest.raises(TooMany):
        fill(shares, "b", 300_000)
    rooms[0].free()
    rooms[0].free()
    fill(shares, "a", 300_000)
    with pytest.raises(TooMany):
        fill(shares, "a", 300_000)


def test_a_body_of_unknown_length_takes_room_as_it_comes() -> None:
    shares = Shares(lambda: 0.0)
    fill(shares, "a", 40 * MB)
    room = Room(shares, "a")
    for size in (1, LARGE_BYTES, 10 * MB, 24 * MB):
        room.take(size)
    with pytest.raises(TooMany):
        room.take(24 * MB + 1)
    room.free()
    fill(shares, "a", 24 * MB)


def test_a_minute_has_so_many_bytes_and_the_sweep_forgets_nobody_who_is_there() -> None:
    now = 0.0
    shares = Shares(lambda: now)
    for _ in range(bodies.BYTES_A_MINUTE // (32 * MB)):
        fill(shares, "a", 32 * MB)[0].free()
    now = 20.5
    with pytest.raises(TooMany) as caught:
        fill(shares, "a", MB)
    assert caught.value.retry_after == 40
    now = 61.0
    (room,) = fill(shares, "a", 60 * MB)
    now = 200.0
    with pytest.raises(TooMany):
        fill(shares, "a", 5 * MB)
    room.free()
    fill(shares, "a", 60 * MB)


@pytest.mark.parametrize(
    "part", [b"[],", b"{},", b"[" * 9 + b"]" * 9 + b",", b"1,"], ids=["lists", "objects", "nested", "numbers"]
)
def test_what_would_take_a_gigabyte_to_decode_is_refused_first(part: bytes) -> None:
    whole = b'{"model":"m","container":[' + part * (4 * MB // len(part)) + b"1]}"
    with pytest.raises(TooDense):
        asyncio.run(bodies.read(Says(whole), Room(Shares(), "a")))


@pytest.mark.parametrize("part", [b"Yes, no, perhaps. ", b'{\\"id\\": 1, \\"name\\": \\"Ada\\"}, ', b"QUJD" * 5])
def test_what_fits_a_context_window_passes(part: bytes) -> None:
    whole = b'{"system":"' + part * (4 * MB // len(part)) + b'"}'
    assert asyncio.run(bodies.read(Says(whole[:MB], whole[MB:]), Room(Shares(), "a"))) == whole


@pytest.mark.parametrize("length", [str(bodies.MAX_BODY_BYTES + 1), "9" * 5_000])
def test_a_length_above_the_limit_is_refused_before_a_byte_is_read(length: str) -> None:
    caller = Says(b"")
    caller.headers["content-length"] = length
    with pytest.raises(TooMuch):
        asyncio.run(bodies.read(caller, Room(Shares(), "a")))
    assert not caller.was_read


class Says:
    """A caller that sends these pieces, without a length."""

    method, path, query, first_byte_at = "POST", "/", "", 0.0
    status: int | None = None

    def __init__(self, *pieces: bytes) -> None:
        self.headers: dict[str, str] = {}
        self._pieces, self.was_read = list(pieces), False

    async def receive(self) -> Any:
        self.was_read = True
        return {"type": "http.request", "body": self._pieces.pop(0), "more_body": bool(self._pieces)}

    async def send(self, message: Any) -> None:
        raise AssertionError(message)


def hold(house: House, key: str = KEY) -> socket.socket:
    """A large request that stops half way."""
    wire = socket.create_connection(("127.0.0.1", int(house.url.rpartition(":")[2])), timeout=30)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {len(BIG)}\r\n\r\n"
    wire.sendall(head.encode() + BIG[:100])
    return wire


def test_a_caller_who_floods_is_429_and_nobody_else_is(house: House, vendor: ScriptedVendor) -> None:
    vendor.script = json_script({"usage": {"input_tokens": 1, "output_tokens": 1}})
    with house.db.tx() as db:
        program, secret = programs.make(db, house.instance, "acc_1", "tests", house.clock.now())
        assert isinstance(program, ProgramKey)
        assert program.key_hash == hash_token(secret)
    with ExitStack() as stack:
        held = [stack.enter_context(closing(hold(house))) for _ in range(bodies.LARGE_AT_ONCE)]
        refused = house.post("/v1/messages", BIG)
        while refused.status_code == 200:  # it came before one of them, and may have taken its place
            for place in (place for place, wire in enumerate(held) if select.select([wire], [], [], 0)[0]):
                held[place] = stack.enter_context(closing(hold(house)))
            refused = house.post("/v1/messages", BIG)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert house.post("/v1/messages", SMALL).status_code == 200
        assert house.post("/v1/messages", BIG, key=secret).status_code == 200
        held[0].sendall(BIG[100:])
        assert held[0].recv(15).startswith(b"HTTP/1.1 200")
    assert until(house, BIG, 200).json()["usage"]["input_tokens"] == 1


def until(house: House, body: bytes, status: int) -> httpx2.Response:
    """The first answer with this status: what other connections send, or that they are gone, is not seen at once."""
    deadline = time.monotonic() + 15
    while True:
        answer = house.post("/v1/messages", body)
        if answer.status_code == status:
            return answer
        assert time.monotonic() < deadline, answer.text
