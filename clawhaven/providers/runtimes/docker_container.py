"""One container as the engine shows it: whether it is the wanted one, what it uses, and its end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import datetime

import docker.errors
from docker.models.containers import Container
from docker.models.networks import Network

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import Placement
from clawhaven.providers.runtimes.docker_cell import INSTANCE_LABEL, PORT_LABEL, SPEC_LABEL, Cell
from clawhaven.providers.runtimes.docker_engine import Engine, words


def is_as_wanted(container: Container, cell: Cell, network: Network) -> bool:
    """True when the container was made from this very cell and its network still is the one it was joined to.

    One that was made before the rehearsal, with a compile cache of its own, is as wanted too.
    """
    wanted = {cell.fingerprint(), dataclasses.replace(cell, compiled=None).fingerprint()}
    joined = ((container.attrs.get("NetworkSettings") or {}).get("Networks") or {}).get(cell.name) or {}
    # The engine fills NetworkID in at the first start.
    return container.labels.get(SPEC_LABEL) in wanted and joined.get("NetworkID") in (network.id, "", None)


def stop(container: Container, drain_seconds: float) -> None:
    """SIGTERM, then SIGKILL after `drain_seconds`. Gone is success. Use inside `words`, as `remove` too."""
    try:
        wake(container)
        container.stop(timeout=max(0, round(drain_seconds)))
    except docker.errors.NotFound:
        return


@contextlib.contextmanager
def paused(container: Container | None) -> Iterator[None]:
    """Nothing in it runs inside, so that its files are those of one instant; after it goes on, if it ran before.

    One that a kill of ours left paused goes on too.
    """
    if container is None or container.status not in ("running", "paused"):
        yield
        return
    try:
        if container.status == "running":
            with words("holding the container still"):
                container.pause()
        yield
    finally:
        with words("letting the container go on"):
            container.reload()
            wake(container)


def wake(container: Container) -> None:
    """Let one go on that is paused. Gone is success. Use inside `words`."""
    try:
        if container.status == "paused":
            container.unpause()
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if "not paused" not in str(error):
            raise


def place(container: Container, port: int | None = None) -> Placement:
    """The placement of a container; with its limits, so that it can be made anew."""
    labels, limits = container.labels, container.attrs.get("HostConfig") or {}
    return {
        "instance": labels[INSTANCE_LABEL],
        "name": container.name,
        "port": port or int(labels[PORT_LABEL]),
        "image": container.attrs["Image"],
        "memory_bytes": limits.get("Memory"),
        "cpus": (limits.get("NanoCpus") or 0) / 1e9,
    }


def refuse_running(container: Container) -> None:
    """Raises ProviderError `running` for one that has not been stopped."""
    if container.status in ("running", "paused", "restarting"):
        raise ProviderError(f"{container.name} runs; stop it first", permanent=True, code="running")


def remove(container: Container) -> None:
    """Remove it, running or not. Gone, or going already, is success."""
    try:
        container.remove(force=True, v=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if "already in progress" not in str(error):
            raise


def find_memory_used(engine: Engine, container_id: str) -> int | None:
    """Working set in bytes: use without the page cache that the kernel would drop, as `docker stats` counts.

    None for a container that is gone. Raises ProviderError.
    """
    with words("reading memory use"):
        try:
            seen = engine.client.api.stats(container_id, stream=False, one_shot=True)
        except docker.errors.NotFound:
            return None
    memory = seen.get("memory_stats") or {}
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return memory["usage"] - cache if "usage" in memory else None


def parse_time(text: str | None) -> datetime | None:
    """The engine's RFC 3339 time; its zero time is None."""
    return None if not text or text.startswith("0001-") else datetime.fromisoformat(text)
