"""The yardstick: `openclaw fleet create`, OpenClaw's own way to start a cell, on the same engine and image."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import docker

from clawhaven.core.settings import Settings
from clawhaven.providers.runtimes import toolchain

TENANT = "clawhaven-bench"
SECONDS = 600


def measure(image: str) -> dict[str, Any]:
    """Seconds until `fleet create` returns (its health gate passed) and until the gateway says it has started, and the
    CPU seconds that its container had used by then."""
    with tempfile.TemporaryDirectory(prefix="clawhaven-fleet-") as folder:
        _remove(folder)
        began = time.monotonic()
        said = _run(folder, "create", TENANT, "--image", image, "--json")
        created = time.monotonic() - began
        try:
            port = _find_port(json.loads(said[said.index("{") :]))
            while not _has_started(port):
                time.sleep(0.05)
                if time.monotonic() - began > SECONDS:
                    raise RuntimeError("fleet's gateway did not start")
            started = time.monotonic() - began
            return {"created": created, "started": started, "cpu_seconds": _cpu_seconds()}
        finally:
            _remove(folder)


def _run(folder: str, *arguments: str) -> str:
    settings = Settings()
    tools = toolchain.install(settings.cache_dir, settings.openclaw_version)
    env = {
        "PATH": f"{tools.node.parent}:{os.environ.get('PATH', os.defpath)}",
        "HOME": folder,
        "OPENCLAW_STATE_DIR": f"{folder}/state",
        "OPENCLAW_NO_RESPAWN": "1",
        **({"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}),
    }
    command = [str(tools.node), str(tools.entry), "fleet", *arguments]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"fleet {arguments[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
    return done.stdout


def _remove(folder: str) -> None:
    with contextlib.suppress(RuntimeError):
        _run(folder, "rm", TENANT, "--purge-data", "--force")


def _find_port(answer: Any) -> int:
    for key, value in _pairs(answer):
        if key.lower() in ("port", "hostport") and isinstance(value, int):
            return value
    raise RuntimeError(f"fleet named no port: {list(answer)}")


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


def _cpu_seconds() -> float:
    with contextlib.closing(docker.from_env(version="auto")) as client:
        (cell,) = client.containers.list(filters={"name": TENANT})
        seen = client.api.stats(str(cell.id), stream=False, one_shot=True)
        return float(seen["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def _has_started(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/startupz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
