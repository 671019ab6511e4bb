"""Random histories of payments, thousands of them: how many, how fast, and what is wrong at their end (nothing).

Each world is an installation with ten customers on a database of its own (tests/money). A world in which something is
not true at the end prints its seed, its story and the untruths; the command then ends with 1. With `--beside N` it
plays instead N installations in which people act at once beside a worker that is killed -9.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from bench.databases import running_postgres
from clawhaven.core.settings import Settings
from clawhaven.wiring import migrate
from tests.money import beside, histories
from tests.money.histories import Tale

REPORT = Path(__file__).parents[1] / "build" / "bench" / "money.json"


def main(arguments: list[str]) -> int:
    """Play, print, write build/bench/money-<database>.json; 1 when an untruth was found."""
    parser = argparse.ArgumentParser(prog="python -m bench money", description=__doc__)
    parser.add_argument("--histories", type=int, default=2000)
    parser.add_argument("--customers", type=int, default=10, help="histories in one world")
    parser.add_argument("--deeds", type=int, default=12, help="deeds of each customer, about")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first world; the next one's is one more")
    parser.add_argument("--beside", type=int, default=0, help="installations with all acting at once, not histories")
    parser.add_argument("--kills", type=int, default=4, help="deaths of the worker in each of those")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args(arguments)
    worlds = given.beside or -(-given.histories // given.customers)
    began, totals, workflows, done, wrong = (
        time.monotonic(),
        Counter[str](),
        Counter[str](),
        Counter[str](),
        list[int](),
    )
    with _databases(given.database) as databases:
        for seed in range(given.seed, given.seed + worlds):
            with databases.settings() as settings:
                tale = _tell(settings, seed, given)
            customers = beside.CUSTOMERS if given.beside else given.customers
            totals += Counter(worlds=1, histories=customers, deeds=tale.deeds, events=tale.events)
            totals["kills"] += tale.deaths.total()
            workflows += tale.workflows
            done += tale.done
            if tale.lies:
                wrong.append(seed)
                print("\n".join([f"seed {seed}:", *tale.told, "", *tale.lies]), flush=True)
            if seed % 10 == 0:
                print(f"{totals['histories']} histories, {time.monotonic() - began:.0f} s", flush=True)
    seconds = time.monotonic() - began
    report: dict[str, Any] = {
        "database": given.database,
        **totals,
        "workflows": workflows.total(),
        "done": dict(done.most_common()),
        "seconds": round(seconds, 1),
        "histories_per_second": round(totals["histories"] / seconds, 2),
        "wrong_seeds": wrong,
    }
    target = REPORT.with_stem(f"{REPORT.stem}{'-beside' if given.beside else ''}-{given.database}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))
    return 1 if wrong else 0


def _tell(settings: Settings, seed: int, given: argparse.Namespace) -> Tale:
    if not given.beside:
        return histories.tell(settings, seed, given.customers, given.deeds)
    deeds = given.deeds * beside.CUSTOMERS
    return beside.tell_beside(settings.data_dir.parent, settings.database_url, seed, kills=given.kills, deeds=deeds)


class _Databases:
    """Fresh migrated databases, each a copy of a template."""

    def __init__(self, folder: Path, server: str | None) -> None:
        self._folder, self._server, self._number = folder, server, 0
        self._template = self._url("template") if server else f"sqlite:///{folder}/template.sqlite3"
        if server:
            self._execute('CREATE DATABASE "template"')
        migrate(Settings(data_dir=folder / "template", database_url=self._template))

    @contextlib.contextmanager
    def settings(self) -> Iterator[Settings]:
        """Settings of a new world; its database and files are gone afterwards."""
        self._number += 1
        name, folder = f"world_{self._number}", self._folder / str(self._number)
        folder.mkdir()
        if self._server:
            self._execute(f'CREATE DATABASE "{name}" TEMPLATE "template"')
            url = self._url(name)
        else:
            shutil.copy(self._folder / "template.sqlite3", folder / "clawhaven.sqlite3")
            url = f"sqlite:///{folder}/clawhaven.sqlite3"
        try:
            yield Settings(data_dir=folder / "data", database_url=url)
        finally:
            if self._server:
                self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            shutil.rmtree(folder, ignore_errors=True)

    def _url(self, name: str) -> str:
        return f"{(self._server or '').rsplit('/', 1)[0]}/{name}"

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server or "", autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def _databases(kind: str) -> Iterator[_Databases]:
    with contextlib.ExitStack() as stack:
        shared = Path("/dev/shm")
        where = shared if shared.is_dir() else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clawhaven-bench-", dir=where)))
        server = stack.enter_context(running_postgres()) if kind == "postgresql" else None
        yield _Databases(folder, server)
