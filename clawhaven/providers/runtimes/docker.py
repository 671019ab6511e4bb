"""Runtime `docker`: one hardened container per instance, each on a small network of its own.

Engine API 1.41 (Docker 20.10) and later, on this machine: the mounts are directories of this host. Source of the
verbs' behaviour: docs.docker.com/engine/api. Empty lists and maps may come as null.

A container is not a wall against the host's other services: it reaches whatever listens on the bridge address or on
all addresses. Bind everything else to loopback, and the model proxy to `proxy_listen_address`.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import hashlib
import ipaddress
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker.errors
from docker.models.containers import Container
from pydantic import Field

from clawhaven.core.logs import get_logger
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File, Layout, Missing, Observation, Packing, Placement, Spec
from clawhaven.providers.runtimes import archive, compiled, detached, docker_container, docker_files, spool
from clawhaven.providers.runtimes.docker_cell import (
    GATEWAY_PORT,
    HOME_LABEL,
    INSTANCE_LABEL,
    OWN_COMPILED,
    SECRETS,
    STATE,
    Cell,
    name_of,
)
from clawhaven.providers.runtimes.docker_check import Checker, find_missing
from clawhaven.providers.runtimes.docker_engine import Engine, held, words
from clawhaven.providers.runtimes.docker_image import Image
from clawhaven.providers.runtimes.docker_network import Networks

FROM_OUTSIDE = {"X-Forwarded-For": "192.0.2.1"}
"""Our calls come from a trusted proxy's address, so a gateway answers only when told for whom; this is nobody."""
SAFE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")

log = get_logger(__name__)


class Docker:
    """Implements ports.runtime.Runtime with a Docker engine on this machine."""

    name = "docker"

    class Options(EnvSettings):
        """Settings of the `docker` runtime."""

        docker_host: str = Field("", description="The engine, as the docker command reads it. Default: its own socket.")
        docker_subnet_pool: str = Field("10.213.0.0/16", description="Each instance's network is a /28 of this.")
        docker_base: str = Field(
            "", description="Base of our image: a Debian with Node 24, or `debootstrap`. Default: node, pinned."
        )
        openclaw_image: str = Field("", description="Use this image instead of building one; give it with its digest.")
        docker_ca_file: Path | None = Field(
            None, description="Extra certificates that instances trust (a private CA); a file that stays where it is."
        )

    def __init__(self, options: Options, settings: Settings) -> None:
        self._options, self._settings = options, settings
        self._pool = ipaddress.ip_network(options.docker_subnet_pool)
        self._home = hashlib.sha256(str(settings.instances_dir).encode()).hexdigest()[:16]
        self._ca_file = options.docker_ca_file.absolute() if options.docker_ca_file else None
        self._base = options.docker_base
        self._engine = Engine(options.docker_host)
        self._networks = Networks(self._engine, self._pool, self._home, settings)
        self._image = Image(
            self._engine, settings, given=options.openclaw_image, base=options.docker_base, ca_file=self._ca_file
        )
        self._checker = Checker(self._engine, self._image, self._home, settings.cache_dir / "docker-validate")

    # -- what is true without asking the engine

    def layout(self, instance_id: str, port: int) -> Layout:
        """Paths inside the container. Calls through the published port come from the network's gateway address."""
        return Layout(
            state_dir=STATE,
            secrets_file=f"{SECRETS}/secrets.json",
            workspace_dir=f"{STATE}/workspace",
            gateway_port=GATEWAY_PORT,
            proxy_url=self._settings.proxy_url or f"http://host.docker.internal:{self._proxy_port()}",
            bind="lan",
            trusted_proxies=(str(self._pool),),
        )

    def proxy_listen_address(self) -> tuple[str, int]:
        """Where the model proxy must listen so that containers, and nobody outside this host, reach it.

        On Linux the address of the default bridge, which containers know as host.docker.internal. Raises ProviderError.
        """
        host = self._settings.proxy_bind.rpartition(":")[0].strip("[]")
        if not host:
            host = self._networks.host_address() if sys.platform == "linux" else "127.0.0.1"
        return host, self._proxy_port()

    def _proxy_port(self) -> int:
        given = self._settings.proxy_bind.rpartition(":")[2]
        return int(given) if given else self._settings.platform_port + 1

    # -- the machine

    def missing(self) -> list[Missing]:
        """The engine, its limits, and the right to give files to the container's user."""
        return find_missing(self._engine, self._image, self._settings, is_debootstrap=self._base == "debootstrap")

    def prepare(self) -> None:
        """Pull or build the image: one to three minutes the first time, then milliseconds. Raises ProviderError."""
        self._image.prepare()
        self._checker.sweep()

    def validate(self, config: str) -> list[str]:
        """Problems found by OpenClaw itself in a throw-away container without network; each text is asked once."""
        return self._checker.validate(config)

    def warm_up(self, files_for: Callable[[Layout], Sequence[File]], memory_bytes: int) -> None:
        """Boot a container nobody owns and keep what Node compiled, for all that are made later: 15 seconds, once.

        `files_for` gives its files, `memory_bytes` is that of later instances. Raises ProviderError and OSError.
        """
        kept = self._compiled(self._image.require())
        if compiled.is_ready(kept):
            return
        # A home of its own: its container and network are never taken for those of an instance.
        home = self._settings.cache_dir / "docker-rehearsal"
        stage = Docker(self._options, self._settings.model_copy(update={"customers_dir": home}))
        name, port = f"rehearsal-{stage._home}", detached.free_port()
        spec = Spec(name, port, files_for(stage.layout(name, port)), memory_bytes)
        compiled.rehearse(stage, spec, stage._root(name) / "state" / OWN_COMPILED, kept, FROM_OUTSIDE)

    # -- one instance

    def create(self, spec: Spec) -> Placement:
        """Make network, files and container, or find them. A container that differs from the spec is made anew.

        Raises ProviderError: port_taken (undone), disk_full, image_missing, docker_down, no_subnet, name_taken.
        """
        root = self._root(spec.instance_id)
        image = self._image.require()
        with self._alone(spec.instance_id):
            return self._create(spec, root, image)

    def _create(self, spec: Spec, root: Path, image: str) -> Placement:
        is_new = not root.exists()
        network, subnet = self._networks.ensure(spec.instance_id, spec.subnet)
        cell = Cell(
            instance_id=spec.instance_id,
            home=self._home,
            image=image,
            port=spec.port,
            subnet=subnet,
            memory_bytes=spec.memory_bytes,
            cpus=min(spec.cpus, self._cpus()),
            root=root,
            ca_file=self._ca_file,
            compiled=self._compiled(image),
        )
        container = self._container(spec.instance_id)
        if container is not None and not docker_container.is_as_wanted(container, cell, network):
            log.info("container_replace", instance=spec.instance_id)
            with words("removing the container that differs"):
                docker_container.stop(container, self._settings.drain_seconds)
                docker_container.remove(container)
            container = None
        if container is None:
            if cell.compiled and not compiled.is_ready(cell.compiled):
                cell = dataclasses.replace(cell, compiled=None)
            self._write(root, cell, spec.files)
        try:
            if container is None:
                container = self._make(cell)
            with words("starting the container"):
                container.start()
        except ProviderError as error:
            # Nothing of a failed start stays, so the caller may come back with another port.
            if error.code != "docker_down":
                self._undo(spec.instance_id, root if is_new else None)
            raise
        return docker_container.place(container, cell.port)

    def _write(self, root: Path, cell: Cell, files: Sequence[File]) -> None:
        with words("writing the instance's files"):
            docker_files.make_mounts(root)
            compose = root / "compose.yaml"
            draft = compose.with_suffix(".new")
            draft.write_text(cell.compose())
            draft.replace(compose)
            docker_files.write(root, files)

    def _make(self, cell: Cell) -> Container:
        with words("making the container"):
            try:
                client = self._engine.client
                made_id = client.api.create_container(**cell.engine_arguments(client.api.api_version))["Id"]
                return client.containers.get(made_id)
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise
                made = self._container(cell.instance_id)  # by somebody else, a moment ago
                if made is None:
                    raise ProviderError(
                        f"The container name {cell.name} belongs to another installation.",
                        permanent=True,
                        code="name_taken",
                    ) from error
                return made

    def _undo(self, instance_id: str, root: Path | None) -> None:
        with words("undoing a failed start"):
            container = self._container(instance_id)
            if container is not None:
                docker_container.remove(container)
            self._networks.remove(instance_id)
            if root is not None:
                docker_files.remove(root)

    def find(self, instance_id: str) -> Placement | None:
        """The placement of this installation's container for the id, in whatever state it is."""
        self._root(instance_id)
        container = self._container(instance_id)
        return None if container is None else docker_container.place(container)

    def list(self) -> list[str]:
        """Ids with a container, a network or a directory of this installation."""
        with words("listing instances"):
            mine: dict[str, str | builtins.list[str] | bool] = {"label": [f"{HOME_LABEL}={self._home}", INSTANCE_LABEL]}
            containers = self._engine.client.containers.list(all=True, filters=mine, sparse=True)
            found = {(container.attrs.get("Labels") or {}).get(INSTANCE_LABEL) for container in containers}
            found |= set(self._networks.list())
            found |= {path.parent.name for path in self._settings.instances_dir.glob("*/compose.yaml")}
        return sorted(instance_id for instance_id in found if instance_id)

    def observe(self, placement: Placement, *, with_memory: bool = False) -> Observation:
        """`exited` is a gateway that died (the engine keeps trying); `stopped` one that was told to.

        Memory is asked of the engine's statistics, which take 0.9 seconds.
        """
        container = self._placed(placement)
        if container is None:
            return Observation("absent")
        state: dict[str, Any] = container.attrs["State"]
        status, failure = state["Status"], state.get("Error") or ""
        restarts = container.attrs.get("RestartCount") or 0
        detail = "; ".join(filter(None, [failure, f"restarted {restarts} times" if restarts else ""]))
        started_at = docker_container.parse_time(state.get("StartedAt"))
        address = f"http://127.0.0.1:{placement['port']}"
        if status in ("running", "paused"):
            used = docker_container.find_memory_used(self._engine, str(container.id)) if with_memory else None
            return Observation("running", address, None, bool(state.get("OOMKilled")), started_at, used, detail)
        is_told = status in ("created", "exited") and not failure and not state.get("OOMKilled")
        return Observation(
            status="stopped" if is_told else "exited",
            address=address,
            exit_code=None if status == "created" else state.get("ExitCode"),
            oom_killed=bool(state.get("OOMKilled")),
            started_at=started_at,
            detail=detail,
        )

    def read(self, placement: Placement, path: str) -> str | None:
        """One file below `state/` or `secrets/`; links that the assistant made are refused."""
        with words(f"reading {path}"):
            return docker_files.read(self._root(placement["instance"]), path)

    def apply(self, placement: Placement, files: Sequence[File]) -> None:
        """Replace files by rename; OpenClaw sees a changed `openclaw.json` within a second (secrets need a reload)."""
        with words("writing the instance's files"):
            docker_files.write(self._root(placement["instance"]), files)

    def start(self, placement: Placement) -> None:
        """Start the container. Raises ProviderError: absent, port_taken, docker_down."""
        container = self._placed(placement)
        if container is None:
            raise ProviderError(f"There is no container {placement['name']}.", permanent=True, code="absent")
        archive.settle(self._root(str(placement["instance"])))
        with words("starting the container"):
            docker_container.wake(container)
            container.start()

    def stop(self, placement: Placement, drain_seconds: float) -> None:
        """SIGTERM, up to `drain_seconds` for the turn in flight, then SIGKILL. Gone or stopped is success."""
        container = self._placed(placement)
        if container is not None:
            with words("stopping the container"):
                docker_container.stop(container, drain_seconds)

    def destroy(self, placement: Placement | None, instance_id: str) -> None:
        """Remove container, network and directory, data included. Gone is success."""
        root = self._root(instance_id)
        with words("removing the instance"), self._alone(instance_id):
            container = self._container(instance_id)
            if container is not None:
                docker_container.remove(container)
            self._networks.remove(instance_id)
            docker_files.remove(root)

    def logs(self, placement: Placement, lines: int = 200) -> Sequence[str]:
        """The newest lines of the gateway's output; the engine keeps 30 MB."""
        container = self._placed(placement)
        if container is None:
            return []
        with words("reading the log"):
            raw: bytes = container.logs(tail=lines)
        return raw.decode(errors="replace").splitlines()

    def pack(self, placement: Placement, instead: Mapping[str, str], most_bytes: int) -> Packing:
        """The state as an archive; a container that runs is paused while its files are read."""
        container, root = self._placed(placement), self._root(str(placement["instance"]))
        if container is not None and container.status in ("running", "paused"):
            hold, kept_free = docker_container.paused(container), self._settings.kept_free_bytes
            yield from spool.pack(hold, root, instead, most_bytes, kept_free)
        else:
            yield from archive.pack(root, instead, most_bytes)

    def unpack(
        self, placement: Placement, pieces: Iterable[bytes], most_bytes: int, *, is_way_back: bool = False
    ) -> None:
        """Replace the state by an archive. Raises ProviderError `running`, `bad_archive`, `disk_full`."""
        container = self._placed(placement)
        if container is not None:
            docker_container.refuse_running(container)
        root, kept_free = self._root(str(placement["instance"])), 0 if is_way_back else self._settings.kept_free_bytes
        archive.unpack(root, pieces, most_bytes, docker_files.OWNER, kept_free)

    def pin(self, placement: Placement, to: Placement | None) -> Placement:
        """The container anew with the installation's image, or with that of `to`; made, not started.

        Raises ProviderError: running, absent, image_missing, docker_down.
        """
        image, instance_id = str(to["image"]) if to else self._image.require(), str(placement["instance"])
        with self._alone(instance_id):
            container = self._placed(placement)
            # None: a kill came between the two, and the placement knows enough to make it.
            if container is None or container.attrs["Image"] != image:
                cell = Cell(
                    instance_id=instance_id,
                    home=self._home,
                    image=image,
                    port=int(placement["port"]),
                    subnet=self._networks.ensure(instance_id, None)[1],
                    memory_bytes=int(placement["memory_bytes"]),
                    cpus=float(placement["cpus"]),
                    root=self._root(instance_id),
                    ca_file=self._ca_file,
                )
                if container is not None:
                    docker_container.refuse_running(container)
                    with words("removing the container of the other version"):
                        docker_container.remove(container)
                self._write(cell.root, cell, [])
                container = self._make(cell)
            return docker_container.place(container, int(placement["port"]))

    # -- within

    def _alone(self, instance_id: str) -> contextlib.AbstractContextManager[None]:
        """One create or destroy of an id at a time on this host; 64 lock files serve all ids."""
        number = zlib.crc32(instance_id.encode()) % 64
        return held(self._settings.data_dir / "locks" / f"docker-{number:02}")

    def _root(self, instance_id: str) -> Path:
        if not SAFE_ID.fullmatch(instance_id):
            raise ProviderError(f"{instance_id!r} is not an instance id", permanent=True, code="invalid_id")
        return self._settings.instances_dir / instance_id

    def _compiled(self, image: str) -> Path:
        """Where the rehearsal's gain is for this image, which fixes Node, OpenClaw and their paths."""
        digest = image.rpartition(":")[2][:16]
        return self._settings.cache_dir / "docker-compiled" / f"{self._settings.openclaw_version}-{digest}"

    def _container(self, instance_id: str) -> Container | None:
        with words("looking for the container"):
            try:
                container = self._engine.client.containers.get(name_of(instance_id))
            except docker.errors.NotFound:
                return None
            return container if (container.labels or {}).get(HOME_LABEL) == self._home else None

    def _placed(self, placement: Placement) -> Container | None:
        return self._container(str(placement["instance"]))

    def _cpus(self) -> float:
        with words("asking how many CPUs there are"):  # the engine refuses a limit above that
            return float(self._engine.client.info().get("NCPU") or os.cpu_count() or 1)
