"""What Node makes of OpenClaw's code at a first start: made once per installed OpenClaw, read by every gateway after.

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
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import Runtime, Spec

START_SECONDS = 120
STOP_SECONDS = 30


def rehearse(stage: Runtime, spec: Spec, made: Path, kept: Path, headers: Mapping[str, str] | None = None) -> None:
    """Boot `spec` on `stage`, a runtime with a home of its own, and keep the directory `made` as `kept`.

    10 to 20 seconds; at once when somebody else is at it. What a kill leaves behind goes at the next rehearsal, and
    there is a next one: `kept` appears last, when nothing else is left. `headers` go with each look at its readiness.
    Raises ProviderError and OSError.
    """
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(kept.with_name(f"{kept.name}.lock")) as is_mine:
        if not is_mine or is_ready(kept):
            return
        half = kept.with_name(f"{kept.name}.half")
        _discard(half)
        stage.destroy(None, spec.instance_id)
        remove = atexit.register(lambda: stage.destroy(None, spec.instance_id))
        try:
            placement = stage.create(spec)
            _wait_until_started(spec.port, headers or {})
            stage.stop(placement, STOP_SECONDS)
            # A closed directory cannot be moved to another parent by its owner, but can be renamed where it is.
            made.rename(half)
            for folder in (*half.iterdir(), half):
                folder.chmod(0o555)
        finally:
            atexit.unregister(remove)
            stage.destroy(None, spec.instance_id)
        half.rename(kept)


def is_ready(kept: Path) -> bool:
    """True when a rehearsal has filled `kept`; an empty directory is what an engine put in a lost one's place."""
    try:
        return any(kept.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _discard(half: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        for folder in (half, *half.iterdir()):
            folder.chmod(0o700)
        shutil.rmtree(half)


def _wait_until_started(port: int, headers: Mapping[str, str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError, ValueError, http.client.HTTPException),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as line,
        ):
            line.request("GET", "/startupz", headers=dict(headers))
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
