"""How fast payment events are taken while a slow workflow runs: 300 deliveries of 60 events, and what came of them.

`at once`: 300 deliveries over as many connections as `--connections`, shuffled, five of each event. `one by one`: as
many deliveries again, each after the answer to the one before. The worker builds assistants that boot slowly meanwhile,
in the API's process (`clawhaven serve`) or in one of its own (`--worker own`: `serve --no-worker` and `worker`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from bench.databases import running_postgres
from clawhaven.core.memory import collect_rarely
from clawhaven.core.settings import Settings
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_trouble import Trouble
from clawhaven.wiring import migrate
from tests.journeys.installation import Installation

REPORT = Path(__file__).parents[1] / "build" / "bench" / "webhooks.json"
CUSTOMERS = 20
"""Each pays for a subscription, which is three events."""

COPIES = 5
SLOW_BOOT_SECONDS = 20.0
EFFECTS = {"payment_event": 60, "receipt": 20, "subscription": 20}
MOST_MS = 50.0
"""What the slowest of a hundred deliveries that arrive at once may take."""

Delivery = tuple[dict[str, Any], bytes]


def main(arguments: list[str]) -> int:
    """Measure, print, write build/bench/webhooks-*.json; 1, with the reasons, when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench webhooks", description=__doc__)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--worker", choices=("inside", "own"), default="inside", help="where workflows run")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clawhaven-bench-")))
        url = f"sqlite:///{folder}/clawhaven.sqlite3"
        if given.database == "postgresql":
            url = stack.enter_context(running_postgres())
        migrate(Settings(data_dir=folder / "data", database_url=url))
        house = Installation(folder, url, boot_seconds=SLOW_BOOT_SECONDS)
        stack.callback(house.close)
        report = {"database": given.database, "worker": given.worker}
        report |= _measure(house, given.connections, is_own=given.worker == "own")
    target = REPORT.with_stem(f"{REPORT.stem}-{given.database}-{given.worker}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    found = shortcomings(report)
    for line in found:
        print(line)
    return 1 if found else 0


def shortcomings(report: dict[str, Any]) -> list[str]:
    """What a report shows that should not be, a sentence each. Pure."""
    found = []
    if report["effects"] != EFFECTS:
        found.append(f"The effects are {report['effects']} instead of {EFFECTS}.")
    slowest = report["at_once_ms"]["p99"]
    if slowest >= MOST_MS:
        found.append(f"One of a hundred deliveries at once took {slowest} ms or more; it should be below {MOST_MS:g}.")
    if not report["slow_workflow_ran"]:
        found.append("No slow workflow ran beside the deliveries, so they were not measured beside one.")
    return found


def _measure(house: Installation, connections: int, *, is_own: bool) -> dict[str, Any]:
    environment = {"WEBHOOKS_PER_MINUTE": "100000", "MAX_PARALLEL_BOOTS": "4", "MAX_CUSTOMERS": "100"}
    house.start(worker=not is_own, **environment)
    if is_own:
        house.start(api=False, **environment)
    vendor = Sandbox(Sandbox.Options(), house.settings)
    vendor.make_trouble(Trouble(is_dropping=True))  # the benchmark is the courier
    first = house.sign_up("slow@example.com").json()["checkout_url"]
    pages = [house.sign_up(f"c{number}@example.com").json()["checkout_url"] for number in range(CUSTOMERS)]
    vendor.complete(first.rsplit("/", 1)[1], "paid")
    with _client(house) as client:
        _post(client, vendor.unseen(_a_moment_ago()))
    house.wait(lambda: house.count("operation", "state = 'running'"), "the slow workflow to begin")
    before = {table: house.count(table) for table in EFFECTS}
    known = {body for _, body in vendor.unseen(_a_moment_ago())}
    for page in pages:
        vendor.complete(page.rsplit("/", 1)[1], "paid")
    events = [one for one in vendor.unseen(_a_moment_ago()) if one[1] not in known]
    deliveries = events * COPIES
    random.Random(7).shuffle(deliveries)
    load = os.getloadavg()[0]
    collect_rarely()  # its own pauses are not the handler's
    with ExitStack() as stack, ThreadPoolExecutor(connections) as pool:
        clients = [stack.enter_context(_client(house)) for _ in range(connections)]
        for _ in range(3):  # an installation that is at work has its connections to the database
            list(pool.map(lambda client: client.get("/api/health/ready").raise_for_status(), clients))
        cpu = _cpu_seconds(house)
        parts = pool.map(lambda n: _post(clients[n], deliveries[n::connections]), range(connections))
        at_once = [seconds for part in parts for seconds in part]
        cpu = [after - before for before, after in zip(cpu, _cpu_seconds(house), strict=True)]
        one_by_one = _post(clients[0], deliveries)
    is_slow = house.count("operation", "state = 'running'") > 0
    house.wait(lambda: house.count("payment_event", "state = 'received'") == 0, "every event to be applied", 300)
    return {
        "events": len(events),
        "deliveries": len(deliveries),
        "effects": {table: house.count(table) - before[table] for table in EFFECTS},
        "at_once_ms": _percentiles(at_once),
        "one_by_one_ms": _percentiles(one_by_one),
        "cpu_ms_per_delivery": [round(1000 * seconds / len(deliveries), 2) for seconds in cpu],
        "connections": connections,
        "slow_workflow_ran": is_slow,
        "load": load,
        "cpus": os.cpu_count(),
    }


def _client(house: Installation) -> httpx2.Client:
    """A connection of its own, opened by its first delivery."""
    return httpx2.Client(base_url=f"http://127.0.0.1:{house.port}", timeout=30, trust_env=False)


def _post(client: httpx2.Client, deliveries: Sequence[Delivery]) -> list[float]:
    """Seconds of each delivery."""
    found = []
    for headers, body in deliveries:
        began = time.perf_counter()
        answer = client.post("/api/webhooks/sandbox", headers=headers, content=body)
        found.append(time.perf_counter() - began)
        if answer.status_code != 200:
            raise RuntimeError(f"a delivery was answered {answer.status_code}: {answer.text}")
    return found


def _cpu_seconds(house: Installation) -> list[float]:
    """What each process of the installation has computed so far; the database's own are not among them. Linux."""
    found = []
    for process in house.processes:
        numbers = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        found.append((int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK"))
    return found


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * at))], 1) for name, at in places.items()
    }


def _a_moment_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)
