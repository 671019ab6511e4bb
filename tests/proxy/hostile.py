"""Calling the proxy while its vendor misbehaves, and what must be true afterwards whatever happened."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import Any

import httpx2
import sqlalchemy as sa

from clawhaven import ledger
from clawhaven.core.money import MICROS_PER_DOLLAR
from clawhaven.metering import UsageRow
from tests.proxy.conftest import KEY, House
from tests.proxy.recorded import Recorded, figures

OURS = {529: "overloaded_error", 503: "server_error", 504: None}
"""What the proxy says in its own name when a vendor fails, by status; Anthropic's and OpenAI's word for overload."""

ANTHROPIC_ERRORS = {"overloaded_error", "api_error", "timeout_error"}


@dataclass(frozen=True)
class Got:
    """What the client received and what was booked for it."""

    status: int
    content: bytes
    headers: httpx2.Headers
    row: UsageRow


def ask(house: House, one: Recorded, client: httpx2.Client | None = None, **headers: str) -> Got:
    """Make the recorded call and wait until it is booked."""
    post = client.post if client else httpx2.post
    content = json.dumps(one.body).encode()
    sent = {"x-api-key": KEY, "content-type": "application/json", **headers}
    # Undecoded: what the proxy sends is looked at byte by byte.
    answer = post(house.url + one.path, content=content, headers=sent, timeout=30)
    return Got(answer.status_code, answer.content, answer.headers, house.last_call())


def judge(one: Recorded, got: Got) -> None:
    """What holds however the vendor behaved.

    A client that has the whole answer pays what the vendor reported, or an estimate that says so. One that has less was
    told in the vendor's own shape, and pays an estimate that says so, what was reported to the end, or nothing.
    """
    assert got.row.state == "closed"
    if got.status == 200 and got.content == one.visible:
        assert got.row.is_estimated or figures(got.row) == one.figures
    elif got.status != 200:
        assert_error(one, json.loads(got.content), got.status)
        assert got.row.price_micros == 0
    elif one.is_stream:
        assert_told(one, got.content)
        assert got.row.is_estimated or figures(got.row) == one.figures
    else:
        assert one.visible.startswith(got.content), "an answer nobody gave"
        assert got.row.is_estimated


def assert_exact(one: Recorded, got: Got) -> None:
    """The client has everything and pays exactly what was reported."""
    assert (got.status, got.content) == (200, one.visible)
    assert (figures(got.row), got.row.is_estimated) == (one.figures, False)


def assert_error(one: Recorded, body: Any, status: int) -> None:
    """An error of ours in the shape of the vendor."""
    assert status in OURS
    if one.is_claude:
        assert body["type"] == "error"
        assert body["error"]["type"] in ANTHROPIC_ERRORS
    assert body["error"]["message"]


def assert_told(one: Recorded, content: bytes) -> None:
    """A stream that broke off: a beginning of the true one, then an error event; and not the event that ends it."""
    events = [event for event in re.split(rb"\r?\n\r?\n", content) if event.strip()]
    lines = dict(line.split(b": ", 1) for line in events[-1].split(b"\n") if b": " in line)
    error = json.loads(lines[b"data"])
    if one.is_claude:
        assert lines[b"event"] == b"error"
        assert error["error"]["type"] in ANTHROPIC_ERRORS
    elif one.path == "/v1/responses":
        assert (lines[b"event"], error["type"]) == (b"error", "error")
        assert error["message"]
    else:
        assert error["error"]["type"] == "server_error"
    begun = content[: content.rindex(events[-1])].rstrip(b"\n")
    assert one.visible.startswith(begun), "the stream was changed"
    assert one.visible[len(begun) :].startswith(b"\n\n") or not begun, "half an event before the error"
    last = one.visible.rstrip().rpartition(b"\n\n")[2]
    assert last + b"\n\n" not in content, "the client takes it for complete"


def assert_books(house: House) -> None:
    """Nothing is held, the books balance, and the wallet paid the sum of its calls."""
    with house.db.read() as db:
        assert ledger.check_books(db) == []
        assert db.scalar(sa.select(sa.func.count()).where(UsageRow.state == "open")) == 0
        spent = db.scalar(sa.select(sa.func.coalesce(sa.func.sum(UsageRow.price_micros), 0)))
    balance = house.balance()
    assert balance.held_micros == 0
    assert balance.balance_micros == 100 * MICROS_PER_DOLLAR - int(spent or 0)


def places(one: Recorded, how_many: int, seed: int = 4) -> list[int]:
    """Offsets at which an answer may be cut: its ends, the borders of events, and others by chance."""
    size = len(one.content)
    borders = {match.start() + shift for match in re.finditer(rb"\n\n", one.content) for shift in (0, 1, 2, 3)}
    rng = random.Random(f"{seed} {one.name}")
    near = rng.sample(sorted(borders), min(how_many // 2, len(borders)))
    anywhere = rng.sample(range(size), how_many - len(near))
    return sorted({0, 1, size - 2, size - 1, size, *near, *anywhere} - {size + 1})
