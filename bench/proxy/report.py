"""What a run has found: medians over its rounds, a table, and what must not be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("JSON req/s", "json", "rps", 0),
    ("CPU ms/req", "json", "cpu_ms", 3),
    ("database CPU ms/req", "json", "database_cpu_ms", 3),
    ("p50 ms", "json", "p50_ms", 1),
    ("p99 ms", "json", "p99_ms", 1),
    ("MB", "json", "memory_mb", 0),
    ("100/s: p50 ms", "latency", "p50_ms", 2),
    ("p99 ms", "latency", "p99_ms", 2),
    ("100 kB req/s", "large", "rps", 0),
    ("SSE req/s", "sse", "rps", 0),
    ("streams: median s", "streams", "median_s", 2),
    ("p99 s", "streams", "p99_s", 2),
    ("max s", "streams", "max_s", 2),
    ("first byte ms", "streams", "first_byte_ms", 0),
    ("first byte p99 ms", "streams", "first_byte_p99_ms", 0),
    ("streams MB", "streams", "memory_mb", 0),
    ("20/s alone p99 ms", "flood", "alone_p99_ms", 2),
    ("beside a flood p99 ms", "flood", "beside_p99_ms", 2),
    ("flood req/s", "flood", "flood_rps", 0),
    ("soak requests", "soak", "requests", 0),
    ("early MB", "soak", "early_mb", 0),
    ("late MB", "soak", "late_mb", 0),
)
"""Heading, scenario, figure, decimals."""


def medians(turns: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Subject -> scenario -> figure -> median over the rounds."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for turn in turns:
        for scenario, figures in turn["scenarios"].items():
            place = found.setdefault(turn["subject"], {}).setdefault(scenario, {})
            for name, value in figures.items():
                if isinstance(value, int | float):
                    place.setdefault(name, []).append(value)
    return {
        subject: {
            scenario: {name: round(statistics.median(values), 4) for name, values in figures.items()}
            for scenario, figures in by_scenario.items()
        }
        for subject, by_scenario in found.items()
    }


def complaints(turns: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences about books that are not true, and about our own answers that were not whole."""
    found = []
    for turn in turns:
        name = f"{turn['subject']}, round {turn['round'] + 1}"
        found += [f"{name}: {turn['error']}"] if turn.get("error") else []
        found += [f"{name}: {lie}" for lie in (turn["books"] or {}).get("lies", [])]
        if turn["subject"].startswith(("direct", "ours")):
            found += [
                f"{name}: {scenario}: {figures['failures']} answers failed: {figures['example'][:200]}"
                for scenario, figures in turn["scenarios"].items()
                if figures.get("failures")
            ]
    return found


def table(found: dict[str, Any]) -> str:
    """The medians in Markdown, one line for each subject; then added latency, what is missing, what is wrong."""
    medians_found = found["medians"]
    columns = [one for one in COLUMNS if any(_figure(by, one) is not None for by in medians_found.values())]
    lines = ["| gateway | " + " | ".join(heading for heading, *_ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for subject, by in medians_found.items():
        cells = [_cell(_figure(by, one), one[3]) for one in columns]
        lines.append(f"| {subject} | " + " | ".join(cells) + " |")
    lines += ["", *_added(medians_found)]
    lines += [f"missing: {name}: {reason}" for name, reason in found.get("missing", {}).items()]
    lines += [f"WRONG: {line}" for line in complaints(found["turns"])]
    books = [turn["books"] for turn in found["turns"] if turn["books"]]
    if books:
        closed, billed = sum(one["closed"] for one in books), sum(one["billed_micros"] for one in books)
        lines.append(f"books: {len(books)} turns of ours, {closed} calls billed, {billed} micro-dollars")
    versions = found.get("peers", {}).items()
    lines += [f"{name} {version}" for name, version in versions if any(one.startswith(name) for one in medians_found)]
    loads = [turn["load"] for turn in found["turns"] if "load" in turn]
    load = f"load {min(loads, default=0)} to {max(loads, default=0)}"
    lines.append(
        f"{found['cpus']} CPUs, Python {found['python']}, fsync {found['fsync_ms']} ms, {load}, "
        f"{found['rounds']} rounds of {found['seconds']:g} s, {found['connections']} connections, {found['dialect']}"
    )
    return "\n".join(lines)


def _added(medians_found: dict[str, Any]) -> list[str]:
    """What each gateway adds to the direct way."""
    lines, direct = [], medians_found.get("direct", {})
    for subject, by in medians_found.items():
        if subject == "direct":
            continue
        words = []
        if _has(by, direct, "latency", "p50_ms"):
            added = [by["latency"][name] - direct["latency"][name] for name in ("p50_ms", "p99_ms")]
            words.append(f"adds {added[0]:.2f} ms (p50) and {added[1]:.2f} ms (p99) at 100/s")
        if _has(by, direct, "streams", "max_s"):
            late = by["streams"]["max_s"] / direct["streams"]["median_s"] - 1
            first = by["streams"]["first_byte_ms"] - direct["streams"]["first_byte_ms"]
            words.append(f"the latest stream is {100 * late:.1f} % over direct, the first byte {first:.0f} ms later")
        if _has(by, by, "flood", "ratio"):
            words.append(f"a flood makes another's p99 {by['flood']['ratio']:.1f} times")
        lines += [f"{subject}: " + "; ".join(words)] if words else []
    return lines


def _has(by: dict[str, Any], direct: dict[str, Any], scenario: str, figure: str) -> bool:
    """True when both have the figure; a scenario in which every answer failed has none."""
    return figure in by.get(scenario, {}) and figure in direct.get(scenario, {})


def _figure(by: dict[str, Any], column: tuple[str, str, str, int]) -> float | None:
    value: float | None = by.get(column[1], {}).get(column[2])
    return value


def _cell(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"
