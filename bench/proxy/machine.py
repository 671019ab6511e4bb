"""Processes of the benchmark: start, wait until they answer, end; what they cost in CPU and memory; PostgreSQL."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

START_SECONDS = 120.0
PATIENCE_SECONDS = 20.0


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[int]:
    """A command in a process group of its own, its output in `log`; gives its pid, ends the group with the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=env, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_answering(port: int, path: str, pid: int, log: Path) -> None:
    """Until GET `path` is answered 200. Raises RuntimeError with the end of the log when it is not, or the process
    has ended."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and psutil.pid_exists(pid):
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get(port, path)[0] == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing answers at port {port}{path}; {log.name} ends with:\n{log.read_text()[-2000:]}")


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of one GET at 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def cpu_seconds(roots: Sequence[int]) -> float:
    """What these processes and all below them have used until now, those that have ended below them included."""
    total = 0.0
    for process in _trees(roots):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mb(roots: Sequence[int]) -> float:
    """What they hold in memory, shared pages split among their holders (PSS)."""
    total = 0
    for process in _trees(roots):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total / 1e6


def fsync_ms(folder: Path, times: int = 50) -> float:
    """Median milliseconds of writing 4 kB and waiting until the disk has it."""
    found = []
    path = folder / "fsync-probe"
    with path.open("wb") as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            found.append(time.perf_counter() - began)
    path.unlink()
    return round(1000 * sorted(found)[times // 2], 3)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, int]]:
    """A PostgreSQL server with its own defaults (so with fsync), and 300 connections; gives its URL and its pid.

    Raises FileNotFoundError where the server is not installed.
    """
    binaries = _postgres_binaries()
    run_as: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        run_as = ["runuser", "-u", "postgres", "--"]
    port, data = free_port(), folder / "data"
    init = [str(binaries / "initdb"), "-D", str(data), "-U", "clawhaven", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*run_as, *init], check=True, capture_output=True, cwd=folder)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=300"
    start = [str(binaries / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start"]
    subprocess.run([*run_as, *start], check=True, capture_output=True, cwd=folder)
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        yield f"postgresql://clawhaven@127.0.0.1:{port}/postgres", pid
    finally:
        stop = [str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]
        subprocess.run([*run_as, *stop], check=False, capture_output=True, cwd=folder)


def has_postgres() -> bool:
    """True where a PostgreSQL server is installed."""
    try:
        _postgres_binaries()
    except FileNotFoundError:
        return False
    return True


def _postgres_binaries() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    raise FileNotFoundError("PostgreSQL's server; install it with: apt-get install postgresql")


def _trees(roots: Sequence[int]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(root)
            found |= {one.pid: one for one in [top, *top.children(recursive=True)]}
    return list(found.values())
