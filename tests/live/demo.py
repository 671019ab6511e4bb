"""Driving the real product from outside: `clawhaven demo` in a folder of its own, with real gateways.

Every process that it starts, gateways included, is gone after `close`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
import psutil

from clawhaven.core.db import Database, make_engine
from clawhaven.ledger import check_books
from clawhaven.providers.runtimes import labelled

PROGRAM = Path(sys.executable).with_name("clawhaven")
PASSED_ON = [
    "PATH",
    "PYTHONPATH",
    "HOME",
    "LANG",
    "TZ",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "DOCKER_HOST",
]
START_SECONDS = 240
"""The first start may install OpenClaw, and a busy machine boots slowly."""

PORTS = 24


class Demo:
    """One installation under test. `env` holds settings for every start; those of `start` are for one."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder, self.data = folder, folder / "data"
        self.port = _free_block(2)
        self.first_port = _free_block(PORTS)
        self.env = env
        self.outputs: list[Path] = []
        self.errors: list[Path] = []
        self.host: subprocess.Popen[bytes] | None = None
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=300)

    def __enter__(self) -> Demo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The process

    def start(self, command: str = "demo", **env: str) -> None:
        """Start and wait for `ready`. `command` is `demo`, or `serve`, which obeys LOG_LEVEL and stops no gateway."""
        arguments = ["--port", str(self.port), "--data", str(self.data)] if command == "demo" else []
        self.spawn(command, *arguments, **env)
        self.wait(lambda: "\nready http://" in f"\n{self._alive().outputs[-1].read_text()}", "the site to be ready")

    def spawn(self, command: str, *arguments: str, **env: str) -> None:
        """Start without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = len(self.outputs)
        self.outputs.append(self.folder / f"output-{number}.log")
        self.errors.append(self.folder / f"errors-{number}.log")
        with self.outputs[-1].open("wb") as output, self.errors[-1].open("wb") as errors:
            self.host = subprocess.Popen(
                [str(PROGRAM), command, *arguments],
                cwd=self.folder,
                env=self.environment() | env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )

    def environment(self) -> dict[str, str]:
        """The settings of this installation; nothing else of the tester's environment but the machine's own."""
        passed = {name: value for name, value in os.environ.items() if name in PASSED_ON or _is_network(name)}
        cache = os.environ.get("CLAWHAVEN_TEST_CACHE")
        return {
            **passed,
            **({"CACHE_DIR": cache} if cache else {}),
            "DATA_DIR": str(self.data),
            "PLATFORM_PORT": str(self.port),
            "PORT_RANGE_START": str(self.first_port),
            "PORT_RANGE_END": str(self.first_port + PORTS - 1),
            "SIGN_UP_PER_MINUTE": "1000",
            "API_PER_MINUTE": "100000",
            **self.env,
        }

    def _alive(self) -> Demo:
        assert self.host is not None
        if self.host.poll() is not None:
            raise AssertionError(f"the program ended with {self.host.returncode}:\n{self.output()[-4000:]}")
        return self

    def stop(self) -> int:
        """SIGTERM, as Ctrl-C at a terminal does, and wait for its end; returns the exit code."""
        assert self.host is not None
        self.host.send_signal(signal.SIGTERM)
        return self.host.wait(120)

    def kill(self) -> None:
        """kill -9: the program alone; gateways are nobody's children and go on."""
        assert self.host is not None
        self.host.kill()
        self.host.wait()

    def output(self) -> str:
        """Everything that was printed and logged, by every start."""
        return "".join(path.read_text(errors="replace") for path in [*self.outputs, *self.errors])

    def close(self) -> None:
        """End everything of this installation, whatever state it is in."""
        if self.host is not None and self.host.poll() is None:
            self.kill()
        for instance_id in labelled.find_all(self.data / "customers"):
            labelled.kill_all(self.data / "customers", instance_id)
        self.http.close()

    # What is there

    def relatives(self) -> list[psutil.Process]:
        """Living processes that know our data directory, from their environment or command line."""
        return [process for process, text in _process_texts() if str(self.data) in text]

    def gateways(self) -> dict[str, int]:
        """Instance id -> pid of its gateway, for every gateway that runs on this installation's files."""
        found = {}
        for instance_id, members in labelled.find_all(self.data / "customers").items():
            with contextlib.suppress(OSError, ValueError):
                pid = json.loads((self.data / "customers" / instance_id / "run" / "run.json").read_text())["pid"]
                if any(process.pid == pid and labelled.is_alive(process) for process in members):
                    found[instance_id] = int(pid)
        return found

    def keepers(self) -> int:
        """How many gateways were started and have not ended: each has one keeper, which ends with it."""
        found = labelled.find_all(self.data / "customers").values()
        return sum(labelled.is_keeper(process) for members in found for process in members)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the database, read from outside."""
        connection = sqlite3.connect(f"file:{self.data}/clawhaven.sqlite3?mode=ro", uri=True, timeout=30)
        with contextlib.closing(connection):
            return list(connection.execute(query, values))

    def count(self, table: str, where: str = "1=1") -> int:
        """How many rows."""
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

    def problems(self) -> list[str]:
        """What does not add up in the books."""
        database = Database(make_engine(f"sqlite:///{self.data}/clawhaven.sqlite3"))
        try:
            with database.read() as db:
                return check_books(db)
        finally:
            database.close()

    def wait(self, check: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
        """The first true answer of `check`; AssertionError with the newest output when there is none in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = check()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"waited {seconds} s for {what}:\n{self.output()[-4000:]}")

    # A customer

    def sign_up(self, email: str, **fields: Any) -> httpx2.Response:
        """A new customer; the answer's cookie signs in."""
        body = {"email": email, "assistant_name": "Ada", "custom_instructions": "Be brief.", **fields}
        with httpx2.Client(base_url=str(self.http.base_url), timeout=60) as fresh:
            return fresh.post("/api/signup", json=body)

    def join(self, email: str, **fields: Any) -> Customer:
        """A new customer who has signed up; AssertionError when refused."""
        answer = self.sign_up(email, **fields)
        assert answer.status_code == 201, answer.text
        return Customer(self, answer)

    def status(self, instance_id: str) -> dict[str, Any]:
        """Progress as everybody sees it."""
        answer: dict[str, Any] = self.http.get(f"/api/status/{instance_id}").json()
        return answer


class Customer:
    """Somebody who signed up, and their assistant."""

    def __init__(self, demo: Demo, answer: httpx2.Response) -> None:
        body = answer.json()
        self.demo = demo
        self.instance_id: str = body["instance_id"]
        self.checkout_url: str = body["checkout_url"]
        self.session: str = answer.cookies["clawhaven_session"]
        self.path = f"/api/instances/{self.instance_id}"

    def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """One call, signed in."""
        headers = {"cookie": f"clawhaven_session={self.session}", **more.pop("headers", {})}
        return self.demo.http.request(method, path, headers=headers, **more)

    def get(self, path: str) -> Any:
        """The JSON of a GET that succeeds."""
        answer = self.request("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pay(self, outcome: str = "paid") -> None:
        """Press a button on the payment vendor's page."""
        answer = self.demo.http.post(self.checkout_url, data={"outcome": outcome})
        assert answer.status_code == 303, answer.text

    def wait_for(self, *states: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """Until the assistant is in one of these states; AssertionError at once when it failed instead."""

        def look() -> dict[str, Any] | None:
            try:
                seen = self.demo.status(self.instance_id)
            except httpx2.TransportError:
                return None
            assert seen["status"] != "failed" or "failed" in states, seen
            return seen if seen["status"] in states else None

        found: dict[str, Any] = self.demo.wait(look, f"{self.instance_id} to be {states}", seconds)
        return found

    def wait_idle(self, seconds: float = START_SECONDS) -> None:
        """Until nothing is under way for the assistant."""
        mine = f"instance_id = '{self.instance_id}' AND state IN ('queued', 'running')"
        self.demo.wait(lambda: self.demo.count("operation", mine) == 0, "the operation to end", seconds)

    def chat(self, message: str) -> dict[str, Any]:
        """A whole answer: reply and usage."""
        answer = self.request("POST", f"{self.path}/chat", json={"message": message})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def stream(self, message: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of an answer that grows."""
        headers = {"cookie": f"clawhaven_session={self.session}", "accept": "text/event-stream"}
        body = {"message": message}
        with self.demo.http.stream("POST", f"{self.path}/chat", json=body, headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            return list(_events(answer.iter_lines()))


def _events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def _process_texts() -> Iterator[tuple[psutil.Process, str]]:
    for process in psutil.process_iter():
        try:
            text = "\0".join([*process.cmdline(), *process.environ().values()])
            if process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                yield process, text
        except (psutil.Error, OSError):
            continue


def _is_network(name: str) -> bool:
    return name.lower().endswith("_proxy") or name.lower().startswith("npm_config_")


def _free_block(size: int) -> int:
    """The first of `size` ports that nobody uses, below the range that the system hands out by itself."""
    for _ in range(200):
        first = random.randrange(12_000, 32_000 - size)
        try:
            for port in range(first, first + size):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")
