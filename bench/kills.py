"""kill -9 of the model proxy under load, a hundred times: no acknowledged call unbilled, none twice, no hold left.

Clients that call without a pause, a vendor that reports another figure for every answer, and `clawhaven proxy` between
them, killed (as a whole, or one process of it) at moments of chance and started again. Afterwards the calls that
clients saw complete, the answers that the vendor gave and the books are compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.databases import running_postgres
from clawhaven.core.settings import Settings
from clawhaven.wiring import migrate
from tests.proxy.mortality import Mortality

REPORT = Path(__file__).parents[1] / "build" / "bench" / "kills.json"


def main(arguments: list[str]) -> int:
    """Kill, compare, print, write build/bench/kills-<database>.json; 1 when anything is lost, doubled or left held."""
    parser = argparse.ArgumentParser(prog="python -m bench kills", description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    given, passed_on = parser.parse_known_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clawhaven-bench-")))
        url = f"sqlite:///{folder}/clawhaven.sqlite3"
        if given.database == "postgresql":
            url = stack.enter_context(running_postgres())
        migrate(Settings(data_dir=folder / "data", database_url=url))
        began = time.monotonic()
        found = Mortality(url, folder / "proxy", given.seed, given.clients, tuple(passed_on)).run(given.times)
    report = {"database": given.database, "seconds": round(time.monotonic() - began), **dataclasses.asdict(found)}
    target = REPORT.with_stem(f"{REPORT.stem}-{given.database}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 1 if found.problems else 0
