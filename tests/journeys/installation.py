"""Driving an installation from outside: start it, kill it, sign up, pay, wait, look into its books."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa

from clawhaven.core.db import Database, make_engine
from clawhaven.core.settings import Settings
from clawhaven.ledger import check_books
from clawhaven.providers.payments.sandbox import Sandbox
from tests.conftest import free_port
from tests.fakes.world import FolderRuntime

REPO = Path(__file__).resolve().parents[2]


class Installation:
    """One installation under test. Every process it starts is ended by `close`."""

    def __init__(self, folder: Path, database_url: str, **options: Any) -> None:
        self.folder, self.database_url, self.options = folder, database_url, options
        self.port = free_port()
        self.world = FolderRuntime(folder / "world")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.logs = folder / "host.log"
        self.db = Database(make_engine(database_url))
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    @property
    def settings(self) -> Settings:
        return Settings(data_dir=self.folder / "data", database_url=self.database_url, platform_port=self.port)

    def start(self, *, api: bool = True, worker: bool = True, crash_after: str | None = None, **env: str) -> Any:
        options = {"world": str(self.folder / "world"), "api": api, "worker": worker, **self.options}
        environment = {
            **os.environ,
            "DATA_DIR": str(self.folder / "data"),
            "DATABASE_URL": self.database_url,
            "PLATFORM_PORT": str(self.port),
            "SIGN_UP_PER_MINUTE": "1000",
            "API_PER_MINUTE": "10000",
            **env,
        }
        if crash_after:
            environment["CLAWHAVEN_CRASH_AFTER"] = f"{crash_after}:{self.folder / 'crashed'}"
        with self.logs.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.journeys.host", json.dumps(options)],
                cwd=REPO,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        if api:
            self.wait(lambda: self._answers(process), "the API to answer", 60)
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the host ended with {process.returncode}:\n{self.log_tail()}")
        try:
            return self.http.get("/api/health/live").status_code == 200
        except httpx2.TransportError:
            return False

    def log_tail(self) -> str:
        return self.logs.read_text(errors="replace")[-4000:] if self.logs.exists() else ""

    def wait(self, check: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = check()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"waited {seconds} s for {what}:\n{self.log_tail()}")

    def sign_up(self, email: str, **fields: Any) -> httpx2.Response:
        body = {"email": email, "assistant_name": "Alex", "custom_instructions": "Help me.", **fields}
        return httpx2.post(f"http://127.0.0.1:{self.port}/api/signup", json=body, timeout=60)

    def pay(self, checkout_url: str, outcome: str = "paid", **faults: Any) -> None:
        """What the button on the vendor's page does."""
        vendor = Sandbox(Sandbox.Options(), self.settings)
        vendor.complete(checkout_url.rsplit("/", 1)[1], outcome, **faults)

    def status(self, instance_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(f"/api/status/{instance_id}").json()
        return answer

    def wait_for(self, instance_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            try:
                seen = self.status(instance_id)
            except httpx2.TransportError:
                return None
            return seen if seen["status"] in states else None

        found: dict[str, Any] = self.wait(look, f"{instance_id} to be {states}", seconds)
        return found

    def count(self, table: str, where: str = "1=1") -> int:
        with self.db.read() as db:
            return int(db.scalar(sa.text(f"SELECT count(*) FROM {table} WHERE {where}")) or 0)

    def problems(self) -> list[str]:
        with self.db.read() as db:
            return check_books(db)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)
        self.http.close()
        self.db.close()
