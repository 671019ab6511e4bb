"""Seconds from payment to the first answer, per step, beside `openclaw fleet create`; memory per assistant.

Per runtime: `cold` (the first customer of a new installation that has just said `ready`: empty state), `repeated`
(the next customer) and `restarted` (the same assistant again: its state and compile cache kept). `prepared` is what a
new installation takes until it is ready, OpenClaw's download aside; fleet is given its image as well.
A shared or small machine moves wall times, so the CPU seconds that a gateway used until it was active stand beside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import psutil
from rich.console import Console
from rich.table import Table

from bench import fleet
from clawhaven.core.settings import Settings
from clawhaven.providers.runtimes import labelled, toolchain
from clawhaven.providers.runtimes.docker import Docker
from clawhaven.providers.runtimes.docker_cell import name_of
from tests.live.demo import Customer, Demo
from tests.providers.runtimes import docker_lab

REPORT = Path(__file__).parents[1] / "build" / "bench" / "provision.json"
IDLE_SECONDS = 60
"""After a turn; until then the gateway keeps what it needed for it."""

TIMES = (
    "prepared",
    "active",
    "answer",
    "first_answer",
    "created",
    "started",
    "ratio_to_fleet",
    "cpu_seconds",
    "cpu_ratio_to_fleet",
)
SHOWN = (*TIMES, "ready_mb", "turn_mb", "idle_mb", "load")

Sample = dict[str, Any]
Usage = Callable[[str], tuple[float, int]]
"""Instance id -> CPU seconds so far, memory in bytes."""


def main(arguments: list[str]) -> int:
    """Measure, print, write build/bench/provision.json."""
    parser = argparse.ArgumentParser(prog="python -m bench provision", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("process", "docker"), action="append")
    given = parser.parse_args(arguments)
    runtimes = given.only or ["process", "docker"]
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clawhaven-bench-")))
        toolchain.install(Settings().cache_dir, Settings().openclaw_version)
        image = _prepare_engine(stack, folder) if "docker" in runtimes else ""
        for number in range(given.rounds):
            for runtime in runtimes:
                samples += [_measure_fleet(image)] if image else []
                samples += _measure(folder / f"{runtime}-{number}", runtime)
    summary = _summarise(samples)
    report = {"machine": _describe_machine(), "samples": samples, "summary": summary}
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    _show(summary)
    print(f"written to {REPORT.relative_to(REPORT.parents[2])}")
    return 0


def _prepare_engine(stack: contextlib.ExitStack, folder: Path) -> str:
    stack.enter_context(docker_lab.running_engine(folder))
    runtime = Docker(Docker.Options(docker_base=docker_lab.base()), Settings(data_dir=folder / "image"))
    runtime.prepare()
    reference = runtime._image.reference()
    fleet.measure(reference)  # the engine's own first run is nobody's
    return reference


def _measure_fleet(image: str) -> Sample:
    load = os.getloadavg()[0]
    return {"what": "fleet create", "state": "cold", "load": load, **fleet.measure(image)}


def _measure(folder: Path, runtime: str) -> list[Sample]:
    cache = folder / "cache"
    cache.mkdir(parents=True)
    installed = toolchain.install(Settings().cache_dir, Settings().openclaw_version).entry.parents[2]
    (cache / installed.name).symlink_to(installed)
    env = {"RUNTIME": runtime, "CACHE_DIR": str(cache)}
    if runtime == "docker":
        env["DOCKER_BASE"] = docker_lab.base()
    with Demo(folder, **env) as demo, _wiped(demo, runtime):
        began = time.monotonic()
        demo.start()
        prepared = time.monotonic() - began
        usage = _docker_usage if runtime == "docker" else _process_usage(demo)
        first = demo.join("cold@example.com")
        found = [{**_first_minute(first, runtime, "cold", usage), "prepared": prepared}]
        first.request("DELETE", first.path)
        first.wait_for("deleted")
        second = demo.join("repeated@example.com")
        found += [_first_minute(second, runtime, "repeated", usage), _restart(second, runtime, usage)]
    return found


@contextlib.contextmanager
def _wiped(demo: Demo, runtime: str) -> Iterator[None]:
    try:
        yield
    finally:
        if demo.host is not None and demo.host.poll() is None:
            demo.stop()
        if runtime == "docker":
            docker_lab.wipe(Docker(Docker.Options(), Settings(data_dir=demo.data)))


def _first_minute(customer: Customer, runtime: str, state: str, usage: Usage) -> Sample:
    load = os.getloadavg()[0]
    paid_at = time.time()
    customer.pay()
    seen = customer.wait_for("active", seconds=900)
    cpu_seconds, ready_bytes = usage(customer.instance_id)
    steps: dict[str, float] = {}
    before = paid_at
    for step in seen["steps"]:
        ended = datetime.fromisoformat(step["at"]).timestamp()
        steps[step["name"]], before = max(0.0, ended - before), ended
    answer_seconds, turn_bytes = _turn(customer, usage)
    found = {
        "what": runtime,
        "state": state,
        "load": load,
        "steps": steps,
        "active": before - paid_at,
        "answer": answer_seconds,
        "first_answer": before - paid_at + answer_seconds,
        "cpu_seconds": cpu_seconds,
        "ready_mb": ready_bytes / 1e6,
        "turn_mb": turn_bytes / 1e6,
    }
    if state == "cold":
        time.sleep(IDLE_SECONDS)
        found["idle_mb"] = usage(customer.instance_id)[1] / 1e6
    return found


def _restart(customer: Customer, runtime: str, usage: Usage) -> Sample:
    customer.request("POST", f"{customer.path}/stop")
    customer.wait_idle()
    load, began = os.getloadavg()[0], time.monotonic()
    before = usage(customer.instance_id)[0]
    customer.request("POST", f"{customer.path}/start")
    customer.wait_for("active", seconds=900)
    active = time.monotonic() - began
    cpu_seconds = usage(customer.instance_id)[0] - before
    answer_seconds, turn_bytes = _turn(customer, usage)
    return {
        "what": runtime,
        "state": "restarted",
        "load": load,
        "active": active,
        "answer": answer_seconds,
        "first_answer": active + answer_seconds,
        "cpu_seconds": cpu_seconds,
        "turn_mb": turn_bytes / 1e6,
    }


def _turn(customer: Customer, usage: Usage) -> tuple[float, int]:
    """Seconds of one turn, and the most memory seen during it."""
    most, is_over = [0], threading.Event()

    def look() -> None:
        while not is_over.is_set():
            most[0] = max(most[0], usage(customer.instance_id)[1])
            is_over.wait(0.25)

    thread = threading.Thread(target=look)
    thread.start()
    began = time.monotonic()
    try:
        customer.stream("How are you?")
        return time.monotonic() - began, most[0]
    finally:
        is_over.set()
        thread.join()


def _process_usage(demo: Demo) -> Usage:
    def usage(instance_id: str) -> tuple[float, int]:
        seconds, members = 0.0, labelled.find(demo.data / "customers", instance_id)
        for process in members:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds, labelled.memory_bytes(members)

    return usage


def _docker_usage(instance_id: str) -> tuple[float, int]:
    with contextlib.closing(docker.from_env(version="auto")) as client:
        seen = client.api.stats(name_of(instance_id), stream=False, one_shot=True)
    memory = seen.get("memory_stats") or {}
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    seconds = ((seen.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage", 0) / 1e9
    return seconds, memory.get("usage", cache) - cache


def _summarise(samples: list[Sample]) -> list[Sample]:
    """The median of each figure, and the ratio to fleet's time."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample["what"], sample["state"]), []).append(sample)
    fleets = [sample for sample in samples if "created" in sample]
    found = []
    for (what, state), members in groups.items():
        names = {name for member in members for name, value in member.items() if isinstance(value, float)}
        row: Sample = {"what": what, "state": state, "rounds": len(members)}
        row |= {name: round(statistics.median(member[name] for member in members), 2) for name in sorted(names)}
        if "steps" in members[0]:
            row["steps"] = {
                name: round(statistics.median(member["steps"][name] for member in members), 2)
                for name in members[0]["steps"]
            }
        if fleets and "active" in row:
            wall, cpu = (statistics.median(one[name] for one in fleets) for name in ("created", "cpu_seconds"))
            row["ratio_to_fleet"] = round(row["active"] / wall, 2)
            row["cpu_ratio_to_fleet"] = round(row["cpu_seconds"] / cpu, 2)
        found.append(row)
    return found


def _describe_machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "openclaw": Settings().openclaw_version,
    }


def _show(summary: list[Sample]) -> None:
    table = Table(title="From payment to the first answer: medians, in seconds and MB")
    table.add_column("")
    for name in SHOWN:
        table.add_column(name, justify="right")
    for row in summary:
        cells = [
            f"{row[name]:.0f}" if name.endswith("_mb") and name in row else str(row.get(name, "")) for name in SHOWN
        ]
        table.add_row(f"{row['what']}, {row['state']}", *cells)
    steps = Table(title="Steps, in seconds")
    steps.add_column("")
    with_steps = [row for row in summary if "steps" in row]
    for name in with_steps[0]["steps"] if with_steps else ():
        steps.add_column(name, justify="right")
    for row in with_steps:
        steps.add_row(f"{row['what']}, {row['state']}", *(f"{value:.2f}" for value in row["steps"].values()))
    console = Console(width=180)
    console.print(table)
    console.print(steps)
