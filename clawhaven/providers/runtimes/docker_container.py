"""One container as the engine shows it: whether it is the wanted one, what it uses, and its end."""

from __future__ import annotations

import dataclasses
from datetime import datetime

import docker.errors
from docker.models.containers import Container
from docker.models.networks import Network

from clawhaven.providers.runtimes.docker_cell import SPEC_LABEL, Cell
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
        container.stop(timeout=max(0, round(drain_seconds)))
    except docker.errors.NotFound:
        return


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
