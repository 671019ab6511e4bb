"""What the processes of one proxy say to each other: jobs for the counter, and their results. MessagePack in frames.

Both ends are the same version of this program on the same machine; nothing of it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from clawhaven.core import errors
from clawhaven.core.errors import AppError
from clawhaven.metering import ClosedCall, Closing, OpenCall, Opening, PlanMode, Price
from clawhaven.proxy.counter import CountingFailed, Job

_LENGTH = struct.Struct("!I")


class JobMessage(msgspec.Struct, array_like=True):
    """A job under its number: one of the two."""

    number: int
    opening: Opening | None
    closing: Closing | None


class Opened(msgspec.Struct, array_like=True):
    """An OpenCall. `price` only the first time that this price is spoken of on the connection."""

    id: str
    instance_id: str
    account_id: str
    plan_mode: PlanMode
    price_id: str
    price: Price | None
    held_micros: int
    own_key_sealed: str | None


class Refused(msgspec.Struct, array_like=True):
    """An AppError, by the name of its class; or, with an empty name, CountingFailed."""

    kind: str
    message: str
    code: str
    details: dict[str, Any]


class ResultMessage(msgspec.Struct, array_like=True):
    """The result of the job with this number: one of the three."""

    number: int
    opened: Opened | None
    closed: ClosedCall | None
    refused: Refused | None


class Frames:
    """Takes frames out of a stream of bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete now."""
        self._rest += data
        while len(self._rest) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._rest)[0]
            if len(self._rest) < end:
                return
            frame = bytes(self._rest[_LENGTH.size : end])
            del self._rest[:end]
            yield frame


class PriceMemory:
    """Which prices the other end of a connection knows."""

    def __init__(self) -> None:
        self._known: dict[str, Price] = {}

    def write(self, number: int, result: Any) -> ResultMessage:
        """The message for a result of Counter.run."""
        if isinstance(result, OpenCall):
            price = result.price
            is_new = self._known.get(price.id) != price
            self._known[price.id] = price
            opened = Opened(
                result.id,
                result.instance_id,
                result.account_id,
                result.plan_mode,
                price.id,
                price if is_new else None,
                result.held_micros,
                result.own_key_sealed,
            )
            return ResultMessage(number, opened, None, None)
        if isinstance(result, ClosedCall):
            return ResultMessage(number, None, result, None)
        if isinstance(result, AppError):
            refused = Refused(type(result).__name__, result.message, result.error_code, result.details)
            return ResultMessage(number, None, None, refused)
        return ResultMessage(number, None, None, Refused("", str(result), "", {}))

    def read(self, message: ResultMessage) -> OpenCall | ClosedCall | Exception:
        """The result that a message tells of."""
        if (opened := message.opened) is not None:
            if opened.price is not None:
                self._known[opened.price_id] = opened.price
            return OpenCall(
                opened.id,
                opened.instance_id,
                opened.account_id,
                opened.plan_mode,
                self._known[opened.price_id],
                opened.held_micros,
                opened.own_key_sealed,
            )
        if message.closed is not None:
            return message.closed
        refused = message.refused
        if refused is None or not refused.kind:
            return CountingFailed(refused.message if refused else "no result")
        kind: type[AppError] = getattr(errors, refused.kind, AppError)
        return kind(refused.message, code=refused.code, **refused.details)


def write_jobs(jobs: Sequence[tuple[int, Job]]) -> bytes:
    """One frame for these jobs."""
    messages = [
        JobMessage(number, job if isinstance(job, Opening) else None, job if isinstance(job, Closing) else None)
        for number, job in jobs
    ]
    return _frame(_encoder.encode(messages))


def read_jobs(frame: bytes) -> list[tuple[int, Job]]:
    """The jobs of a frame."""
    found: list[tuple[int, Job]] = []
    for message in _jobs.decode(frame):
        job = message.opening or message.closing
        if job is not None:
            found.append((message.number, job))
    return found


def write_results(results: Sequence[ResultMessage]) -> bytes:
    """One frame for these results."""
    return _frame(_encoder.encode(results))


def read_results(frame: bytes) -> list[ResultMessage]:
    """The results of a frame."""
    return _results.decode(frame)


def _frame(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


_encoder = msgspec.msgpack.Encoder()
_jobs = msgspec.msgpack.Decoder(list[JobMessage])
_results = msgspec.msgpack.Decoder(list[ResultMessage])
