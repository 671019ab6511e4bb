"""Where an instance runs. Every verb is idempotent and keyed by our instance id."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

Placement = Mapping[str, Any]
"""Opaque JSON that a runtime returns and only that runtime reads. Never holds a secret."""


Packing = Generator[bytes, None, None]
"""Pieces of an archive; closing it early lets the gateway go on."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of an instance. `path` is relative to its root: `state/…` or `secrets/…`.

    `keep`: written only when the file does not exist yet (the gateway or the customer owns it afterwards).
    """

    path: str
    content: str
    mode: int = 0o600
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths and addresses as the gateway itself sees them on this runtime."""

    state_dir: str
    secrets_file: str
    workspace_dir: str
    gateway_port: int
    proxy_url: str
    bind: Literal["loopback", "lan"]
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a runtime needs to make one instance. Secrets only inside `files` under `secrets/`."""

    instance_id: str
    port: int
    files: Sequence[File]
    memory_bytes: int = 2 * 1024**3
    cpus: float = 2.0
    subnet: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What the runtime sees now. `address` is the gateway's base URL for the control plane."""

    status: Literal["absent", "stopped", "running", "exited"]
    address: str | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    started_at: datetime | None = None
    memory_bytes: int | None = None
    """Only when it was asked for."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing `doctor` found missing, and the line that mends it."""

    what: str
    fix: str


class Runtime(Protocol):
    """A kind of place an instance can run in. Raises ProviderError only."""

    name: str

    def layout(self, instance_id: str, port: int) -> Layout:
        """Where things are as the gateway sees them. Pure."""

    def missing(self) -> list[Missing]:
        """What this machine lacks for this runtime; empty when ready."""

    def prepare(self) -> None:
        """Install or build what every instance needs (Node, OpenClaw, image). Long the first time; then quick."""

    def validate(self, config: str) -> list[str]:
        """Problems of an `openclaw.json` according to the pinned OpenClaw itself; empty when valid."""

    def create(self, spec: Spec) -> Placement:
        """Write the files and start the gateway, or find it already made. Does not wait for readiness."""

    def find(self, instance_id: str) -> Placement | None:
        """The placement of what exists for this id (running or not), or None."""

    def list(self) -> list[str]:
        """Instance ids for which anything of ours exists here (for orphan detection)."""

    def observe(self, placement: Placement, *, with_memory: bool = False) -> Observation:
        """What is there now, in milliseconds; gone is `absent`, not an error. Memory costs up to a second more."""

    def read(self, placement: Placement, path: str) -> str | None:
        """One file of the instance by its relative path, or None when it does not exist."""

    def apply(self, placement: Placement, files: Sequence[File]) -> None:
        """Replace these files atomically; the gateway reloads by itself where it can."""

    def start(self, placement: Placement) -> None:
        """Start; already running is success."""

    def stop(self, placement: Placement, drain_seconds: float) -> None:
        """Ask to stop, wait up to `drain_seconds` for a turn in flight, then kill; already stopped is success."""

    def destroy(self, placement: Placement | None, instance_id: str) -> None:
        """Remove everything for this id, data included; gone is success."""

    def logs(self, placement: Placement, lines: int = 200) -> Sequence[str]:
        """The newest `lines` lines of the gateway's log, oldest first."""

    def pack(self, placement: Placement, instead: Mapping[str, str], most_bytes: int) -> Packing:
        """All that the instance keeps, as it is at one instant, as a gzipped tar of an OpenClaw home.

        `instead`: texts for paths of the archive (`.openclaw/openclaw.json`), in place of what is there. Never in it:
        `secrets/`, caches, locks, links that lead out. A running gateway is held still only while its files are
        read, before the first piece that is not empty; close the iterator when you stop early. Raises ProviderError
        `too_large` beyond `most_bytes` of content, `held_too_long`.
        """

    def unpack(
        self, placement: Placement, pieces: Iterable[bytes], most_bytes: int, *, is_way_back: bool = False
    ) -> None:
        """Replace all that the instance keeps by such an archive, at once and whole, or not at all; it must be stopped.

        Its `openclaw.json` and its secrets stay as they are now. Raises ProviderError `bad_archive` (permanent) for
        anything but plain files, folders and links that stay inside, or more than `most_bytes`; and what `pieces` do.
        `is_way_back`: what is kept free of the disk may be used, because what lies there now cannot stay.
        """

    def pin(self, placement: Placement, to: Placement | None) -> Placement:
        """From the next start on run the OpenClaw that this installation pins, or the one that `to` ran; it must be
        stopped, and is not started. Until then a start keeps the version it had."""


@dataclass(frozen=True, slots=True)
class Health:
    """The gateway's own word, from its probes and an authenticated call."""

    live: bool
    started: bool
    authenticated: bool
    channels: Mapping[str, str] = field(default_factory=dict)
    """Channel -> lifecycle word (`ready`, `starting`, `blocked`, …)."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Channel or probe -> the gateway's last error text."""
    version: str | None = None
