"""Our processes in this machine's process table, told by two variables in their environment.

The label is there from the first instant of a process, so nothing is lost when we are killed before we can note a pid.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

INSTANCE = "CLAWHAVEN_INSTANCE"
HOME = "CLAWHAVEN_HOME"
KEEPER = "CLAWHAVEN_KEEPER"


def find_all(home: Path) -> dict[str, list[psutil.Process]]:
    """Instance id -> its living processes, for every instance whose files are under `home`."""
    found: dict[str, list[psutil.Process]] = {}
    for process, env in _environments():
        if env.get(HOME) == str(home) and (instance_id := env.get(INSTANCE)):
            found.setdefault(instance_id, []).append(process)
    return found


def find(home: Path, instance_id: str) -> list[psutil.Process]:
    """The living processes of one instance and all that descend from them."""
    members: dict[int, psutil.Process] = {}
    for process in find_all(home).get(instance_id, []):
        members[process.pid] = process
        try:
            members.update((child.pid, child) for child in process.children(recursive=True))
        except psutil.Error:
            continue
    return [process for process in members.values() if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    """False when it has ended, also when nobody has reaped it yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_keeper(process: psutil.Process) -> bool:
    """True for the process that stands over the gateway."""
    try:
        return KEEPER in process.environ()
    except psutil.Error:
        return False


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Memory of these processes together; what they share (Node's 126 MB program) counts once where that is known."""
    total = 0
    for process in processes:
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
        except psutil.Error:
            continue
    return total


def kill_all(home: Path, instance_id: str, patience_seconds: float = 10) -> bool:
    """SIGKILL until nothing of this instance lives; False when something still does after `patience_seconds`."""
    deadline = time.monotonic() + patience_seconds
    while members := find(home, instance_id):
        if time.monotonic() > deadline:
            return False
        for process in members:
            try:
                process.kill()
            except psutil.Error:
                continue
        time.sleep(0.02)
    return True


@contextmanager
def held_still(home: Path, instance_id: str) -> Iterator[None]:
    """Nothing of this instance runs inside (SIGSTOP), so that its files are those of one instant; after it goes on.

    Also when we are killed: a shell that reads from a pipe of ours wakes them when that closes.
    """
    stopped: dict[int, psutil.Process] = {}
    with ExitStack() as shells:
        try:
            while fresh := [one for one in find(home, instance_id) if one.pid not in stopped and not is_keeper(one)]:
                shells.enter_context(_waking([one.pid for one in fresh]))
                for process in fresh:
                    stopped[process.pid] = process
                    with suppress(psutil.Error):
                        process.suspend()
            yield
        finally:
            for process in stopped.values():
                with suppress(psutil.Error):
                    process.resume()


@contextmanager
def _waking(pids: list[int]) -> Iterator[None]:
    script = 'read -r _; kill -s CONT "$@" 2>/dev/null; :'
    argv = ["/bin/sh", "-c", script, "wake", *(str(pid) for pid in pids)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True):
        yield


def _environments() -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    for process in psutil.process_iter():
        try:
            yield process, process.environ()
        except (psutil.Error, OSError):
            continue
