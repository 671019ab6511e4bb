"""What is measured: no gateway, nginx, and our proxy on each database, each started fresh for its turn."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.proxy import machine

INSTANCES = 16
ROOT = Path(__file__).parents[2]
BOOKS = Path(__file__).with_name("books.py")


@dataclass(frozen=True, slots=True)
class Setup:
    """Where and how subjects are started. `tree` is the repository whose proxy is measured, `command` starts it."""

    folder: Path
    stub_port: int
    tree: Path
    command: str
    has_all_limits: bool
    dialect: str
    cache: Path


@dataclass(frozen=True, slots=True)
class Target:
    """A subject that answers. `headers`: one set for each instance. `roots`: pids of its processes, the database's
    apart. `check` takes (acknowledged, cut) and gives what the books say, where there are books."""

    name: str
    port: int
    model: str
    headers: Sequence[Mapping[str, str]]
    gateway: Sequence[int] = ()
    database: Sequence[int] = ()
    check: Callable[[int, int], dict[str, Any]] | None = None

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"


class Missing(Exception):
    """A subject that cannot be measured here; the message says why, and what installs it."""


Start = Callable[[Setup], contextlib.AbstractContextManager[Target]]


@contextlib.contextmanager
def stub(folder: Path, port: int) -> Iterator[int]:
    """The vendor's process; gives its pid."""
    log = folder / "stub.log"
    command = [sys.executable, "-m", "bench.proxy.stub", "--port", str(port)]
    with machine.running(command, log=log, cwd=ROOT) as pid:
        machine.wait_until_answering(port, "/served", pid, log)
        yield pid


@contextlib.contextmanager
def direct(setup: Setup) -> Iterator[Target]:
    """No gateway at all."""
    yield Target("direct", setup.stub_port, "stub", [{"authorization": "Bearer none"}])


@contextlib.contextmanager
def nginx(setup: Setup) -> Iterator[Target]:
    """nginx as a plain reverse proxy with kept connections."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        raise Missing("nginx; install it with: apt-get install nginx-light")
    folder, port = setup.folder / "nginx", machine.free_port()
    folder.mkdir(exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_NGINX.format(user=user, port=port, stub=setup.stub_port, folder=folder))
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with machine.running(command, log=folder / "log") as pid:
        machine.wait_until_answering(port, "/served", pid, folder / "log")
        yield Target("nginx", port, "stub", [{"authorization": "Bearer none"}], gateway=[pid])


@contextlib.contextmanager
def ours_on_sqlite(setup: Setup) -> Iterator[Target]:
    """Our proxy; its database is a SQLite file."""
    folder = setup.folder / "ours-sqlite"
    shutil.rmtree(folder, ignore_errors=True)
    with _ours(setup, "ours-sqlite", folder, f"sqlite:///{folder}/clawhaven.sqlite3", ()) as target:
        yield target


@contextlib.contextmanager
def ours_on_postgresql(setup: Setup) -> Iterator[Target]:
    """Our proxy; its database is PostgreSQL with the server's own defaults."""
    if not machine.has_postgres():
        raise Missing("PostgreSQL's server; install it with: apt-get install postgresql")
    folder = setup.folder / "ours-postgresql"
    shutil.rmtree(folder, ignore_errors=True)
    server = setup.folder / "postgresql"
    shutil.rmtree(server, ignore_errors=True)
    with (
        machine.postgres(server) as (url, pid),
        _ours(setup, "ours-postgresql", folder, url, [pid]) as target,
    ):
        yield target


@contextlib.contextmanager
def _ours(setup: Setup, name: str, folder: Path, url: str, database: Sequence[int]) -> Iterator[Target]:
    folder.mkdir(parents=True)
    log, port, vendor = folder / "proxy.log", machine.free_port(), f"http://127.0.0.1:{setup.stub_port}"
    env = {
        **{name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_SECRET", "_TOKEN"))},
        "PYTHONPATH": str(setup.tree),
        "DATA_DIR": str(folder),
        "DATABASE_URL": url,
        "ANTHROPIC_API_URL": vendor,
        "ANTHROPIC_API_KEY": "sk-ant-bench",
        "OPENAI_API_URL": vendor,
        "OPENAI_API_KEY": "sk-bench",
        "LOG_LEVEL": "WARNING",
    }
    before = json.loads(machine.get(setup.stub_port, "/served")[1])["served"]
    told = _books(env, folder, ["prepare", "--instances", str(INSTANCES), *setup.has_all_limits * ["--all-limits"]])
    model = told["models"][setup.dialect]

    def check(acknowledged: int, cut: int) -> dict[str, Any]:
        asked = {"vendor": vendor, "before": before, "acknowledged": acknowledged, "cut": cut, "model": model}
        return _books(env, folder, ["check"], json.dumps(asked))

    command = shlex.split(setup.command.format(bin=Path(sys.executable).parent, bind=f"127.0.0.1:{port}"))
    with machine.running(command, log=log, env=env, cwd=folder) as pid:
        machine.wait_until_answering(port, "/healthz", pid, log)
        headers = [{"authorization": f"Bearer {key}"} for key in told["keys"]]
        yield Target(name, port, model, headers, gateway=[pid], database=database, check=check)


def _books(env: Mapping[str, str], folder: Path, arguments: Sequence[str], given: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(BOOKS), *arguments],
        env=dict(env),
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"books.py {arguments[0]} failed: {done.stderr[-1500:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


_NGINX = """{user}
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/temp; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 32m;
  client_body_buffer_size 256k;
  keepalive_requests 100000000;
  upstream vendor {{ server 127.0.0.1:{stub}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://vendor; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
