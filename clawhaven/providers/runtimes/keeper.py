"""Stands over one gateway process: starts it, writes down how it ended. Run as a script, standard library only.

    python -I -S keeper.py <lock descriptor> <run directory> <program> <argument> …

It is nobody's child, so the control plane may die and come back; it holds the instance's lock together with the
gateway, adopts what the gateway leaves behind, and passes SIGTERM on. Files it writes in the run directory:
`run.json` {"pid", "started_at"} and, at the end, `exit.json` {"code", "ended_at"}; code is 128 + n after signal n.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time

OOM_SCORE = "500"
PR_SET_CHILD_SUBREAPER = 36


def write(path: str, value: object) -> None:
    """Replace a small JSON file atomically and durably."""
    fresh = f"{path}.new"
    with open(fresh, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def adopt_orphans() -> None:
    """Processes whose parents die below us become our children (Linux), so that they can be found and ended."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(argv: list[str]) -> int:
    """Fork the gateway; it keeps the lock's descriptor. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        # When memory runs out, the kernel shall take a gateway and not the control plane.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(OOM_SCORE)
        env = {name: value for name, value in os.environ.items() if name != "CLAWHAVEN_KEEPER"}
        os.execve(argv[0], argv, env)
    except OSError as error:
        print(f"keeper: {argv[0]}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def wait_for(pid: int) -> int:
    """Reap every child until `pid` has ended; returns its code."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(lock: int, run: str, argv: list[str]) -> None:
    """Keep one gateway until it ends."""
    if os.fork():
        os._exit(0)
    os.set_inheritable(lock, True)
    adopt_orphans()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pid = start(argv)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    write(f"{run}/run.json", {"pid": pid, "started_at": time.time()})
    code = wait_for(pid)
    write(f"{run}/exit.json", {"code": code, "ended_at": time.time()})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
