"""A stand-in for the outside world that survives kill -9: every gateway is a folder, every state a file.

Named for what it does; used where the question is what *we* do, not what OpenClaw does. `SLOW`, `NEVER_READY`,
`NEVER_READY_WITH`, `DIES`, `DISK_FULL`, `DOWN` and `PORT_TAKEN:<port>` files in the root switch faults on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import ChatEvent, GatewayAddress, Said
from clawhaven.ports.runtime import File, Health, Layout, Missing, Observation, Packing, Placement, Spec
from clawhaven.providers.runtimes import archive


class FolderRuntime:
    """Gateways as folders. Counts what was ever made, and the most that booted at the same time."""

    name = "folder"

    def __init__(self, root: Path, boot_seconds: float = 0.0) -> None:
        self.root, self.boot_seconds = root, boot_seconds
        root.mkdir(parents=True, exist_ok=True)

    def fault(self, name: str) -> bool:
        return (self.root / name).exists()

    def _refuse_faults(self) -> None:
        if self.fault("DOWN"):
            raise ProviderError("the engine does not answer", code="docker_down")
        if self.fault("DISK_FULL"):
            raise ProviderError("no space left on device", permanent=True, code="disk_full")

    def layout(self, instance_id: str, port: int) -> Layout:
        return Layout("/s", "/x/secrets.json", "/s/workspace", port, "http://127.0.0.1:1/proxy", "loopback")

    def missing(self) -> list[Missing]:
        return []

    def prepare(self) -> None:
        if self.fault("NPM_DOWN"):
            raise ProviderError("npm is unreachable", permanent=True, code="npm_unreachable")

    def validate(self, config: str) -> list[str]:
        json.loads(config)
        return []

    def create(self, spec: Spec) -> Placement:
        self._refuse_faults()
        if self.fault(f"PORT_TAKEN:{spec.port}"):
            raise ProviderError("in use", permanent=True, code="port_taken")
        folder = self.root / spec.instance_id
        if not folder.exists():
            self._note_made(spec.instance_id)
            folder.mkdir()
        for file in spec.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.content)
        self._run(folder)
        return {"folder": spec.instance_id, "port": spec.port}

    def _note_made(self, instance_id: str) -> None:
        """Before it is made, and once: who is killed in between finds the line, and no folder, when it comes again."""
        log = self.root / "made.log"
        known = [line for line in (log.read_text().split() if log.exists() else ()) if line.lstrip("-") == instance_id]
        if known[-1:] != [instance_id]:
            with log.open("a") as lines:
                lines.write(f"{instance_id}\n")

    def _run(self, folder: Path) -> None:
        if not (folder / "RUNNING").exists():
            (folder / "RUNNING").write_text(str(time.time()))

    def find(self, instance_id: str) -> Placement | None:
        return {"folder": instance_id, "port": 0} if (self.root / instance_id).is_dir() else None

    def list(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())

    def observe(self, placement: Placement, *, with_memory: bool = False) -> Observation:
        if self.fault("DOWN"):
            raise ProviderError("the engine does not answer", code="docker_down")
        folder = self.root / placement["folder"]
        if not folder.is_dir():
            return Observation("absent")
        if self.fault("DIES"):
            return Observation("exited", exit_code=1)
        if not (folder / "RUNNING").exists():
            return Observation("stopped")
        return Observation("running", f"folder://{folder}")

    def read(self, placement: Placement, path: str) -> str | None:
        target = self.root / placement["folder"] / path
        return target.read_text() if target.is_file() else None

    def apply(self, placement: Placement, files: Sequence[File]) -> None:
        for file in files:
            target = self.root / placement["folder"] / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (file.keep and target.exists()):
                target.write_text(file.content)

    def start(self, placement: Placement) -> None:
        self._refuse_faults()
        self._run(self.root / placement["folder"])

    def stop(self, placement: Placement, drain_seconds: float) -> None:
        (self.root / placement["folder"] / "RUNNING").unlink(missing_ok=True)

    def destroy(self, placement: Placement | None, instance_id: str) -> None:
        if (self.root / instance_id).exists():
            with (self.root / "made.log").open("a") as lines:
                lines.write(f"-{instance_id}\n")
        shutil.rmtree(self.root / instance_id, ignore_errors=True)

    def logs(self, placement: Placement, lines: int = 200) -> Sequence[str]:
        return ["folder gateway: nothing to say"]

    def pack(self, placement: Placement, instead: Mapping[str, str], most_bytes: int) -> Packing:
        self._refuse_faults()
        yield from archive.pack(self.root / placement["folder"], instead, most_bytes)

    def unpack(
        self, placement: Placement, pieces: Iterable[bytes], most_bytes: int, *, is_way_back: bool = False
    ) -> None:
        folder = self.root / placement["folder"]
        if (folder / "RUNNING").exists():
            raise ProviderError("it runs", permanent=True, code="running")
        archive.unpack(folder, pieces, most_bytes, None, 0)

    def pin(self, placement: Placement, to: Placement | None) -> Placement:
        return {**placement, "version": to.get("version", "folder") if to else "new"}

    def made(self) -> list[str]:
        log = self.root / "made.log"
        return [line for line in log.read_text().split() if line[0] != "-"] if log.exists() else []

    def running(self) -> list[str]:
        return sorted(path.parent.name for path in self.root.glob("*/RUNNING"))


class FolderGateway:
    """Answers for a folder: ready once it has run for `boot_seconds`; echoes in chat."""

    def __init__(self, runtime: FolderRuntime) -> None:
        self.runtime = runtime

    def has_started(self, address: GatewayAddress) -> bool | None:
        health = self.health(address)
        return health.started if health.live else None

    def health(self, address: GatewayAddress) -> Health:
        running = Path(address.url.removeprefix("folder://")) / "RUNNING"
        if self.runtime.fault("NEVER_READY") or self._is_refused(running.parent) or not running.exists():
            return Health(False, False, False, problems={"startupz": "still loading"})
        is_ready = time.time() - float(running.read_text()) >= self.runtime.boot_seconds
        return Health(True, is_ready, is_ready, {"telegram": "ready"}, version="folder")

    def _is_refused(self, folder: Path) -> bool:
        """NEVER_READY_WITH holds what the diary must not say."""
        fault, diary = self.runtime.root / "NEVER_READY_WITH", folder / "state" / "workspace" / "diary.md"
        return fault.exists() and diary.exists() and diary.read_text() == fault.read_text()

    def call(self, address: GatewayAddress, method: str, params: Mapping[str, Any] | None = None) -> Any:
        return {"ok": True, "method": method}

    def chat(
        self, address: GatewayAddress, session: str, message: str, idempotency_key: str, timeout_seconds: float = 300
    ) -> Iterator[ChatEvent]:
        yield ChatEvent("delta", "You said: ")
        kept = Path(address.url.removeprefix("folder://")) / "state" / f"{session.replace(':', '-')}.talk"
        kept.parent.mkdir(exist_ok=True)
        with kept.open("a") as talk:
            talk.write(json.dumps([time.time(), message, f"You said: {message}"]) + "\n")
        yield ChatEvent("final", f"You said: {message}")

    def history(self, address: GatewayAddress, session: str, most: int) -> Sequence[Said]:
        kept = Path(address.url.removeprefix("folder://")) / "state" / f"{session.replace(':', '-')}.talk"
        said: list[Said] = []
        for line in kept.read_text().splitlines() if kept.exists() else ():
            at, question, answer = json.loads(line)
            when = datetime.fromtimestamp(at, UTC)
            said += [Said(True, question, when), Said(False, answer, when)]
        return said[-most:]

    def trace_id(self, idempotency_key: str) -> str:
        return hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]
