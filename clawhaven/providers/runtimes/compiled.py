"""What Node makes of OpenClaw's code at a first start: made once per installation, read by every gateway after that.

A fresh gateway spends an eighth of its boot on compiling; Node can keep the result (NODE_COMPILE_CACHE). It comes from
a rehearsal that has seen no customer: a gateway in a folder of its own is started, stopped once it has started (Node
writes the cache at its exit), and removed. What is kept is closed for writing; Node is content to read only.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import Runtime, Spec

START_SECONDS = 120
STOP_SECONDS = 30


def rehearse(stage: Runtime, spec: Spec, made: Path, kept: Path) -> None:
    """Boot `spec` on `stage`, a runtime with a home of its own, and keep the directory `made` as `kept`.

    10 to 20 seconds; at once when somebody else is at it. What a kill leaves behind goes at the next rehearsal.
    Raises ProviderError and OSError.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    with _alone(kept.with_name(f"{kept.name}.lock")) as is_mine:
        if not is_mine or kept.is_dir():
            return
        stage.destroy(None, spec.instance_id)
        remove = atexit.register(lambda: stage.destroy(None, spec.instance_id))
        try:
            placement = stage.create(spec)
            _wait_until_started(spec.port)
            stage.stop(placement, STOP_SECONDS)
            made.rename(kept)
            for folder in (*kept.iterdir(), kept):
                folder.chmod(0o555)
        finally:
            atexit.unregister(remove)
            stage.destroy(None, spec.instance_id)


def _wait_until_started(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError, ValueError, http.client.HTTPException),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as line,
        ):
            line.request("GET", "/startupz")
            if json.loads(line.getresponse().read()).get("status") == "started":
                return
        time.sleep(0.5)
    raise ProviderError(f"the rehearsal did not start within {START_SECONDS} seconds", code="not_ready")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
