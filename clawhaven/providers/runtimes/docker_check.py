"""OpenClaw's own verdict on a configuration, from the very image that will run it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import docker.errors
from docker.models.containers import Container

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes.docker_cell import HOME, HOME_LABEL, USER
from clawhaven.providers.runtimes.docker_engine import Engine, words
from clawhaven.providers.runtimes.docker_files import OWNER
from clawhaven.providers.runtimes.docker_image import Image

CHECK_LABEL = "clawhaven.check"
CHECK_SECONDS = 120


class Checker:
    """Runs `openclaw config validate` and remembers what it said."""

    def __init__(self, engine: Engine, image: Image, home: str, cache: Path) -> None:
        self._engine, self._image, self._home, self._cache = engine, image, home, cache
        # Many who bring the same text at once wait for one answer; 16 locks serve all texts.
        self._asking = tuple(threading.Lock() for _ in range(16))

    def validate(self, config: str) -> list[str]:
        """Problems as `path: message`; empty when valid. Raises ProviderError when no verdict can be had."""
        image = self._image.require()
        key = hashlib.sha256(f"{image}\0{config}".encode()).hexdigest()
        kept = self._cache / f"{key}.json"
        with self._asking[int(key[0], 16)]:
            with contextlib.suppress(OSError, ValueError):
                known: list[str] = json.loads(kept.read_text())
                return known
            problems = self._ask(image, config)
            with words("keeping a verdict"):
                self._cache.mkdir(parents=True, exist_ok=True)
                draft = kept.with_suffix(f".{id(problems)}")
                draft.write_text(json.dumps(problems))
                draft.replace(kept)
            return problems

    def sweep(self) -> None:
        """Remove what a kill in the middle of a check left behind."""
        with words("removing old checks"):
            mine: dict[str, str | list[str] | bool] = {
                "label": [f"{HOME_LABEL}={self._home}", CHECK_LABEL],
                "status": ["exited", "created", "dead"],
            }
            for container in self._engine.client.containers.list(all=True, filters=mine, sparse=True):
                _discard(container)

    def _ask(self, image: str, config: str) -> list[str]:
        with words("checking a configuration"):
            container = self._engine.client.containers.create(
                image,
                entrypoint=["node", "openclaw.mjs"],
                command=["config", "validate", "--json"],
                working_dir="/app",
                user=USER,
                environment={"HOME": HOME, "OPENCLAW_CONFIG_PATH": f"{HOME}/openclaw.json"},
                labels={HOME_LABEL: self._home, CHECK_LABEL: "config"},
                network_mode="none",
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                init=True,
                pids_limit=128,
                mem_limit="1g",
                use_config_proxy=False,
            )
            try:
                container.put_archive(HOME, _packed("openclaw.json", config.encode()))
                container.start()
                code = container.wait(timeout=CHECK_SECONDS)["StatusCode"]
                said = container.logs(stdout=True, stderr=False).decode(errors="replace")
                if code == 0:
                    return []
                problems = _issues(said)
                if code == 1 and problems:
                    return problems
                said += container.logs(stdout=False, stderr=True).decode(errors="replace")
            finally:
                _discard(container)
        raise ProviderError(f"OpenClaw gave no verdict (exit {code}): {said[-500:]}", code="no_verdict")


def _issues(said: str) -> list[str]:
    start = said.find("{")
    if start < 0:
        return []
    try:
        verdict: dict[str, Any] = json.JSONDecoder().raw_decode(said[start:])[0]
    except ValueError:
        return []
    return [f"{issue.get('path') or '(root)'}: {issue.get('message', '')}" for issue in verdict.get("issues") or []]


def _packed(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o600, OWNER, OWNER
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _discard(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except docker.errors.APIError:
        return  # gone already, or the next sweep gets it
