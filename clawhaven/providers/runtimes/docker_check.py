"""OpenClaw's own verdict on a configuration, from the very image that will run it; and ours on the machine."""

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

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import Missing
from clawhaven.providers.runtimes import docker_files
from clawhaven.providers.runtimes.docker_cell import HOME, HOME_LABEL, USER
from clawhaven.providers.runtimes.docker_engine import Engine, words
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
        entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o600, docker_files.OWNER, docker_files.OWNER
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _discard(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except docker.errors.APIError:
        return  # gone already, or the next sweep gets it


def find_missing(engine: Engine, image: Image, settings: Settings, *, is_debootstrap: bool) -> list[Missing]:
    """What this machine lacks for containers: the engine, its limits, the right to give files away, a base to build."""
    lacking: list[Missing] = []
    try:
        with words("asking the engine for its version"):
            version = engine.client.version()
            facts = engine.client.info()
    except ProviderError as error:
        fix = "apt install docker.io; systemctl start docker; usermod -aG docker $USER, and sign in again"
        return [Missing(error.message, fix)]
    if tuple(int(part) for part in str(version["ApiVersion"]).split(".")) < (1, 41):
        lacking.append(Missing(f"Docker {version['Version']} is older than 20.10", "install a newer Docker"))
    lacking += [
        Missing(f"this kernel does not enforce {what}", "enable the memory, cpu and pids control groups")
        for key, what in (
            ("MemoryLimit", "memory limits"),
            ("CpuCfsQuota", "CPU limits"),
            ("PidsLimit", "process limits"),
        )
        if not facts.get(key)
    ]
    if not docker_files.is_able(settings.instances_dir):
        fix = (
            "run as root or as uid 1000, or with AmbientCapabilities=CAP_CHOWN CAP_DAC_OVERRIDE CAP_Fdocker_files.OWNER"
        )
        lacking.append(Missing(f"no right to hand files to uid {docker_files.OWNER}", fix))
    if is_debootstrap and image.lacking_for_base() and image.find() is None:
        lacking.append(Missing(image.lacking_for_base(), "apt install debootstrap debian-archive-keyring"))
    return lacking
