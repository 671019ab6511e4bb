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

Delivery = tuple[dict[str, Any], bytes]


def main(arguments: list[str]) -> int:
    """Measure, print, write build/bench/webhooks-*.json; 1 when the effects are not exactly sixty events'."""
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
    return 0 if report["effects"] == EFFECTS else 1


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
    _post(house, vendor.unseen(_a_moment_ago()))
    house.wait(lambda: house.count("operation", "state = 'running'"), "the slow workflow to begin")
    before = {table: house.count(table) for table in EFFECTS}
    known = {body for _, body in vendor.unseen(_a_moment_ago())}
    for page in pages:
        vendor.complete(page.rsplit("/", 1)[1], "paid")
    events = [one for one in vendor.unseen(_a_moment_ago()) if one[1] not in known]
    deliveries = events * COPIES
    random.Random(7).shuffle(deliveries)
    load = os.getloadavg()[0]
    with ThreadPoolExecutor(connections) as pool:
        at_once = [seconds for part in pool.map(lambda n: _post(house, deliveries[n::connections]), range(connections))
                   for seconds in part]  # fmt: skip
    one_by_one = _post(house, deliveries)
    is_slow = house.count("operation", "state = 'running'") > 0
    house.wait(lambda: house.count("payment_event", "state = 'received'") == 0, "every event to be applied", 300)
    return {
        "events": len(events),
        "deliveries": len(deliveries),
        "effects": {table: house.count(table) - before[table] for table in EFFECTS},
        "at_once_ms": _percentiles(at_once),
        "one_by_one_ms": _percentiles(one_by_one),
        "connections": connections,
        "slow_workflow_ran": is_slow,
        "load": load,
        "cpus": os.cpu_count(),
    }


def _post(house: Installation, deliveries: Sequence[Delivery]) -> list[float]:
    """Seconds of each delivery, over one connection."""
    found = []
    with httpx2.Client(base_url=f"http://127.0.0.1:{house.port}", timeout=30) as client:
        for headers, body in deliveries:
            began = time.perf_counter()
            answer = client.post("/api/webhooks/sandbox", headers=headers, content=body)
            found.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise RuntimeError(f"a delivery was answered {answer.status_code}: {answer.text}")
    return found


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * at))], 1) for name, at in places.items()
    }


def _a_moment_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)
