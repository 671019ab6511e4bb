"""One run: rounds in which every subject has its turn, each turn with all scenarios and a look into the books."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.proxy import machine, peers, report, scenarios, subjects, wrk
from bench.proxy.scenarios import Found, Size
from bench.proxy.subjects import Missing, Setup

REPORT = subjects.ROOT / "build" / "bench" / "proxy.json"
COMMAND = "{bin}/clawhaven proxy --bind {bind}"
SUBJECTS: dict[str, subjects.Start] = {
    "direct": subjects.direct,
    "nginx": subjects.nginx,
    "ours-sqlite": subjects.ours_on_sqlite,
    "ours-postgresql": subjects.ours_on_postgresql,
    "portkey": peers.portkey,
    "litellm": peers.litellm,
    "litellm-bare": peers.litellm_without_database,
}
USUAL = [name for name in scenarios.ALL if name != "soak"]


def main(arguments: list[str]) -> int:
    """Measure, print the table, write build/bench/proxy.json; 1 when an answer was not whole or a book not true."""
    given = _parse(arguments)
    if given.table:
        print(report.table(json.loads(given.table.read_text())))
        return 0
    if given.install:
        peers.install(given.cache, _say)
        return 0
    size = Size(given.dialect, given.connections, given.streams, given.seconds, given.soak or 0)
    chosen = [*given.scenarios, *(["soak"] if given.soak else [])]
    if wrk.find() is None and not scenarios.WITHOUT_WRK.issuperset(chosen):
        print(f"The load comes from {wrk.INSTALL}", file=sys.stderr)
        return 2
    with _ending_on_sigterm():
        found = _run_rounds(given, size, chosen)
    print(report.table(found))
    return 1 if report.complaints(found["turns"]) else 0


def _run_rounds(given: argparse.Namespace, size: Size, chosen: list[str]) -> dict[str, Any]:
    """All rounds; what is known is kept in the output after every turn."""
    found: dict[str, Any] = json.loads(given.output.read_text()) if given.append and given.output.exists() else {}
    turns: list[dict[str, Any]] = found.setdefault("turns", [])
    first = max((turn["round"] + 1 for turn in turns), default=0)
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="clawhaven-bench-", dir=given.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's own user passes through it
        port = machine.free_port()
        command = f"{given.command} {given.arguments}".strip()
        setup = Setup(folder, port, given.tree.absolute(), command, given.all_limits, given.dialect, given.cache)
        found |= {**_facts(given, folder), "missing": missing, "rounds": first, "medians": report.medians(turns)}
        with subjects.stub(folder, port):
            for number in range(first, first + given.rounds):
                for subject in given.subjects:
                    if subject not in missing:
                        turns += [{"round": number, **one} for one in _take_turn(setup, subject, chosen, size, missing)]
                        found |= {"rounds": number + 1, "medians": report.medians(turns)}
                        _keep(given.output, found)
    return found


def _keep(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM ends everything that was started, as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _take_turn(setup: Setup, name: str, chosen: list[str], size: Size, missing: dict[str, str]) -> list[dict[str, Any]]:
    """What one subject shows, from its start to its books; nothing when it is missing."""
    began, load = time.monotonic(), round(os.getloadavg()[0], 2)
    results, books, error = dict[str, Any](), None, None
    try:
        with SUBJECTS[name](setup) as target:
            everything = scenarios.warm(target, size)
            for scenario in chosen:
                _say(f"{name}: {scenario} …")
                one = scenarios.ALL[scenario](target, size)
                results[scenario] = _write_down(one)
                _say(f"{name}: {scenario}: {json.dumps(results[scenario])}")
                _add(everything, one)
            if target.check:
                books = target.check(everything.acknowledged, everything.cut)
                _say(f"{name}: books: {json.dumps(books)}")
    except Missing as reason:
        missing[name] = str(reason)
        _say(f"{name}: missing: {reason}")
        return []
    except (RuntimeError, OSError, subprocess.SubprocessError) as reason:
        error = f"{type(reason).__name__}: {reason}"
        _say(f"{name}: {error}")
    seconds = round(time.monotonic() - began, 1)
    turn = {"subject": name, "seconds": seconds, "load": load, "scenarios": results, "books": books, "error": error}
    return [turn]


def _write_down(one: Found) -> dict[str, Any]:
    figures: dict[str, Any] = {name: round(value, 4) for name, value in one.figures.items() if not math.isnan(value)}
    if one.failures:
        figures |= {"failures": one.failures, "example": one.example}
    return figures


def _add(everything: Found, one: Found) -> None:
    everything.acknowledged += one.acknowledged
    everything.cut += one.cut


def _facts(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "peers": peers.versions(given.cache),
        "python": platform.python_version(),
        "fsync_ms": machine.fsync_ms(folder),
        "dialect": given.dialect,
        "connections": given.connections,
        "streams": given.streams,
        "seconds": given.seconds,
        "arguments": given.arguments,
        "all_limits": given.all_limits,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench proxy", description=__doc__)
    add = parser.add_argument
    add("--subjects", type=_words, default=list(SUBJECTS), help=f"some of {','.join(SUBJECTS)}")
    add("--scenarios", type=_words, default=USUAL, help=f"some of {','.join(USUAL)}")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=5.0, help="length of a closed or open loop")
    add("--connections", type=int, default=64)
    add("--streams", type=int, default=1000)
    add("--soak", type=int, metavar="N", help="memory over N requests as well")
    add("--dialect", choices=("openai", "anthropic"), default="openai")
    add("--tree", type=Path, default=subjects.ROOT, help="the repository whose proxy is measured")
    add("--command", default=COMMAND, help=f"how it is started; default: {COMMAND}")
    add("--arguments", default="", help="added to the command: --arguments='--processes 2'")
    add("--all-limits", action="store_true", help="grants with all limits, so high that none is met")
    add("--folder", type=Path, help="where databases are; default: the system's folder for temporary files")
    add("--cache", type=Path, default=Path.home() / ".cache" / "clawhaven-bench", help="where peers are installed")
    add("--install", action="store_true", help="fetch the peers into --cache, measure nothing")
    add("--append", action="store_true", help="add the rounds to those in --output")
    add("--output", type=Path, default=REPORT)
    add("--table", type=Path, metavar="FILE", help="print the table of an earlier run, measure nothing")
    given = parser.parse_args(arguments)
    for word, known in ((given.subjects, SUBJECTS), (given.scenarios, scenarios.ALL)):
        if strange := [one for one in word if one not in known]:
            parser.error(f"{', '.join(strange)}: not one of {', '.join(known)}")
    if not shlex.split(given.command):
        parser.error("--command is empty")
    return given
