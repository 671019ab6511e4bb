"""One detached gateway of this machine: its lock, its port, its birth, its end, its log."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes import keeper, labelled

LOG_BYTES = 5_000_000
"""A log larger than this at a start becomes `gateway.log.1`."""

_TAIL_BYTES = 1_000_000
_LOCK_TRIES = 25


@contextlib.contextmanager
def take_lock(run: Path) -> Iterator[int | None]:
    """The instance's lock as a descriptor that a child may inherit; None when a living gateway holds it.

    Raises OSError. Closing our descriptor frees the lock only when nobody has inherited it.
    """
    handle = os.open(run / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        # is_running holds the lock for an instant when it looks; that must not pass for a gateway.
        for _ in range(_LOCK_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield handle
                return
            time.sleep(0.02)
        yield None
    finally:
        os.close(handle)


def is_running(run: Path) -> bool:
    """True while a gateway (or its keeper) holds the lock."""
    try:
        handle = os.open(run / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def check_port(port: int) -> None:
    """Raises ProviderError `port_taken` when somebody listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ProviderError(f"Port {port} cannot be used: {error.strerror}", code="port_taken") from error


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn(run: Path, argv: Sequence[str], env: Mapping[str, str], cwd: Path, lock: int) -> None:
    """Start `argv` under a keeper in a session of its own. The lock goes with it. Raises OSError."""
    for name in ("run.json", "exit.json"):
        (run / name).unlink(missing_ok=True)
    log = run / "gateway.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(run / "gateway.log.1")
    out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        with subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(lock), str(run), *argv],
            env={**env, labelled.KEEPER: "1"},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=(lock,),
        ) as parent:
            code = parent.wait()
    finally:
        os.close(out)
    if code != 0:
        raise ProviderError(f"The keeper did not start (exit {code}): {' '.join(tail(log, 5))}", code="not_started")


def read_note(run: Path, name: str) -> dict[str, float]:
    """One of the keeper's notes; empty when there is none."""
    try:
        note = json.loads((run / name).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def gateway_among(run: Path, members: Sequence[psutil.Process]) -> psutil.Process | None:
    """The gateway itself among an instance's processes; None in the instant before the keeper has noted it."""
    pid = read_note(run, "run.json").get("pid")
    return next((process for process in members if process.pid == pid), None)


def started_at(run: Path) -> datetime | None:
    """When the keeper started the gateway, or None in the instant before it has noted it."""
    moment = read_note(run, "run.json").get("started_at")
    return None if moment is None else datetime.fromtimestamp(moment, UTC)


def tail(path: Path, lines: int) -> list[str]:
    """The last `lines` lines of a file, at most one megabyte of them; nothing when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    found = text.splitlines()
    if size > _TAIL_BYTES:
        found = found[1:]
    return found[-lines:] if lines > 0 else []
