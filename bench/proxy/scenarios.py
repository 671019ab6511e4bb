"""The scenarios: each asks a target and gives figures by name, and how many whole answers it has seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.proxy import client, machine, wrk
from bench.proxy.client import percentile
from bench.proxy.questions import LARGE_BYTES, ask
from bench.proxy.subjects import Target

STREAM_SECONDS = 5.0
PACE_MS = 50
STEADY_PER_SECOND = 20.0
OPEN_LOOP_PER_SECOND = 100.0
WARM_SECONDS = 2.0
SOAK_SAMPLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """How long and how wide a scenario runs."""

    dialect: str = "openai"
    connections: int = 64
    streams: int = 1000
    seconds: float = 5.0
    soak: int = 1_000_000


@dataclass(slots=True)
class Found:
    """Figures by name; `acknowledged` whole answers, `cut` requests that may have been left under way, and what went
    wrong with others."""

    figures: dict[str, float] = field(default_factory=dict)
    acknowledged: int = 0
    cut: int = 0
    failures: int = 0
    example: str = ""

    def add(self, load: wrk.Load, connections: int) -> None:
        """Count a closed loop's answers."""
        self.acknowledged += load.whole
        self.cut += connections
        self.failures += load.broken + load.errors
        self.example = self.example or load.example

    def note(self, times: client.Times) -> None:
        """Count the answers of our own client."""
        self.acknowledged += len(times.total)
        self.cut += len(times.failures)
        self.failures += len(times.failures)
        self.example = self.example or "".join(times.failures[:1])


def warm(target: Target, size: Size) -> Found:
    """Let everything be loaded, compiled and connected; nothing is measured."""
    found, question = Found(), ask(size.dialect, target.model)
    found.note(client.pace(target.port, question, target.headers, 50, 1))
    if wrk.find():
        found.add(wrk.run(target.url, question, target.headers, size.connections, WARM_SECONDS), size.connections)
    return found


def measure_json(target: Target, size: Size) -> Found:
    """64 connections, 1 kB requests, answers of about 600 bytes."""
    return _closed_loop(target, size, is_stream=False, length=1000)


def measure_large(target: Target, size: Size) -> Found:
    """The same with requests of 100 kB."""
    return _closed_loop(target, size, is_stream=False, length=LARGE_BYTES)


def measure_sse(target: Target, size: Size) -> Found:
    """64 connections, each answer a stream of 100 pieces that come at once."""
    return _closed_loop(target, size, is_stream=True, length=1000)


def measure_latency(target: Target, size: Size) -> Found:
    """100 requests a second that wait for nobody."""
    found, question = Found(), ask(size.dialect, target.model)
    times = client.pace(target.port, question, target.headers, OPEN_LOOP_PER_SECOND, size.seconds)
    found.note(times)
    found.figures = _percentiles(times.total)
    return found


def measure_streams(target: Target, size: Size) -> Found:
    """1,000 streams at once, each of 100 pieces 50 ms apart."""
    found, question = Found(), ask(size.dialect, target.model, is_stream=True, pace_ms=PACE_MS)
    before = machine.cpu_seconds(target.gateway), machine.cpu_seconds(target.database)
    times = client.stream(target.port, question, target.headers, size.streams, STREAM_SECONDS)
    found.note(times)
    found.figures = {
        "median_s": percentile(times.total, 0.5),
        "p99_s": percentile(times.total, 0.99),
        "max_s": percentile(times.total, 1),
        "first_byte_ms": 1000 * percentile(times.first, 0.5),
        "first_byte_p99_ms": 1000 * percentile(times.first, 0.99),
        "memory_mb": machine.memory_mb(target.gateway),
        "failed": len(times.failures),
    }
    _add_cpu(found, target, before, len(times.total))
    return found


def measure_flood(target: Target, size: Size) -> Found:
    """One instance's 20 requests a second, alone, and beside 64 connections of another instance."""
    found, question = Found(), ask(size.dialect, target.model)
    quiet, steady = client.Times(), target.headers[:1]
    quiet = client.pace(target.port, question, steady, STEADY_PER_SECOND, size.seconds)
    found.note(quiet)
    flood: list[wrk.Load] = []
    others = target.headers[1:2] or target.headers[:1]
    thread = threading.Thread(
        target=lambda: flood.append(wrk.run(target.url, question, others, size.connections, size.seconds + 2))
    )
    thread.start()
    time.sleep(1)
    beside = client.pace(target.port, question, steady, STEADY_PER_SECOND, size.seconds)
    thread.join()
    found.note(beside)
    if not flood:
        raise RuntimeError("the flood did not run")
    found.add(flood[0], size.connections)
    alone_ms, beside_ms = 1000 * percentile(quiet.total, 0.99), 1000 * percentile(beside.total, 0.99)
    found.figures = {
        "alone_p50_ms": 1000 * percentile(quiet.total, 0.5),
        "alone_p99_ms": alone_ms,
        "beside_p50_ms": 1000 * percentile(beside.total, 0.5),
        "beside_p99_ms": beside_ms,
        "ratio": beside_ms / alone_ms,
        "flood_rps": flood[0].per_second,
    }
    return found


def measure_soak(target: Target, size: Size) -> Found:
    """Memory over `soak` requests: after the first tenth, and at the end."""
    found, question, samples = Found(), ask(size.dialect, target.model), list[tuple[int, float]]()
    while found.acknowledged < size.soak:
        load = wrk.run(target.url, question, target.headers, size.connections, SOAK_SAMPLE_SECONDS)
        found.add(load, size.connections)
        if not load.whole:
            break
        samples.append((found.acknowledged, machine.memory_mb(target.gateway)))
    early = next((memory for answers, memory in samples if answers >= size.soak / 10), samples[-1][1])
    found.figures = {
        "requests": found.acknowledged,
        "early_mb": early,
        "late_mb": samples[-1][1],
        "growth_mb": samples[-1][1] - early,
        "database_mb": machine.memory_mb(target.database),
    }
    return found


def _closed_loop(target: Target, size: Size, *, is_stream: bool, length: int) -> Found:
    found, question = Found(), ask(size.dialect, target.model, size=length, is_stream=is_stream)
    before = machine.cpu_seconds(target.gateway), machine.cpu_seconds(target.database)
    load = wrk.run(target.url, question, target.headers, size.connections, size.seconds)
    found.add(load, size.connections)
    found.figures = {
        "rps": load.per_second,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "memory_mb": machine.memory_mb(target.gateway),
        "failed": load.broken + load.errors,
    }
    _add_cpu(found, target, before, load.whole)
    return found


def _add_cpu(found: Found, target: Target, before: tuple[float, float], answers: int) -> None:
    spent = machine.cpu_seconds(target.gateway) - before[0], machine.cpu_seconds(target.database) - before[1]
    if answers and target.gateway:
        found.figures["cpu_ms"] = 1000 * spent[0] / answers
        if target.database:
            found.figures["database_cpu_ms"] = 1000 * spent[1] / answers


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": 1000 * percentile(seconds, 0.5),
        "p99_ms": 1000 * percentile(seconds, 0.99),
        "max_ms": 1000 * percentile(seconds, 1),
    }


WITHOUT_WRK = frozenset({"latency", "streams"})
"""Scenarios whose load comes from our own client."""

ALL: dict[str, Callable[[Target, Size], Found]] = {
    "json": measure_json,
    "latency": measure_latency,
    "large": measure_large,
    "sse": measure_sse,
    "streams": measure_streams,
    "flood": measure_flood,
    "soak": measure_soak,
}
