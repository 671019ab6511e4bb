"""One container as it should be, said twice: to the engine and as a compose file."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.types
import yaml

GATEWAY_PORT = 18789
HOME = "/home/node"
STATE = f"{HOME}/.openclaw"
SECRETS = f"{HOME}/.config/openclaw"
CA_FILE = "/etc/ssl/clawhaven-ca.crt"
COMPILED = "/opt/compiled"
OWN_COMPILED = "cache/node"
"""Below the state: what Node compiles for this one instance, where no rehearsal's is there to read."""
USER = "1000:1000"
PIDS = 512
TMP_OPTIONS = "rw,nosuid,nodev,size=512m,mode=1777"
LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}
STOP_SECONDS = 60
"""What the engine waits when it stops the container by itself (its own shutdown)."""

INSTANCE_LABEL = "clawhaven.instance"
HOME_LABEL = "clawhaven.home"
SPEC_LABEL = "clawhaven.spec"
PORT_LABEL = "clawhaven.port"


def name_of(instance_id: str) -> str:
    """The name of an instance's container and of its network."""
    return f"clawhaven-{instance_id}"


@dataclass(frozen=True, slots=True)
class Cell:
    """All that makes up one container. `home` tells the installations on one engine apart."""

    instance_id: str
    home: str
    image: str
    port: int
    subnet: str
    memory_bytes: int
    cpus: float
    root: Path
    ca_file: Path | None = None
    compiled: Path | None = None
    """What a rehearsal compiled of this image's OpenClaw, to be read only."""

    @property
    def name(self) -> str:
        """Name of the container and of its network."""
        return name_of(self.instance_id)

    @property
    def hostname(self) -> str:
        """Always the same: OpenClaw's owner lease makes another hostname wait five minutes after a hard kill."""
        return self.instance_id.replace("_", "-")

    @property
    def gateway_address(self) -> str:
        """The first address of the subnet; what the host's calls seem to come from."""
        return str(next(ipaddress.ip_network(self.subnet).hosts()))

    def environment(self) -> dict[str, str]:
        """Nothing secret: `docker inspect` and the assistant's shell show it."""
        fixed = {
            "HOME": HOME,
            "NODE_ENV": "production",
            "OPENCLAW_STATE_DIR": STATE,
            "OPENCLAW_CONFIG_PATH": f"{STATE}/openclaw.json",
            "OPENCLAW_NO_RESPAWN": "1",
            # The root is read-only and /tmp is memory: what should last lies on the state mount.
            "XDG_CACHE_HOME": f"{STATE}/cache",
            "NODE_COMPILE_CACHE": COMPILED if self.compiled else f"{STATE}/{OWN_COMPILED}",
            # With a compile cache set, OpenClaw would start itself a second time: 60 MB and a process for nothing.
            "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
            "npm_config_cache": f"{STATE}/cache/npm",
        }
        if self.ca_file:
            fixed |= {"NODE_EXTRA_CA_CERTS": CA_FILE, "SSL_CERT_FILE": CA_FILE, "CURL_CA_BUNDLE": CA_FILE}
        return fixed

    def binds(self) -> list[tuple[Path, str, bool]]:
        """(path here, path inside, is read-only)."""
        pairs = [(self.root / "state", STATE, False), (self.root / "secrets", SECRETS, False)]
        if self.ca_file:
            pairs.append((self.ca_file, CA_FILE, True))
        return pairs

    def spare_binds(self) -> list[tuple[Path, str]]:
        """(path here, path inside), read-only: what the engine may replace by an empty directory when it is gone, since
        the cache is anybody's to clear and the gateway starts without it."""
        return [(self.compiled, COMPILED)] if self.compiled else []

    def fingerprint(self) -> str:
        """Changes when the container would differ in any way."""
        return hashlib.sha256(json.dumps(self._body(), sort_keys=True).encode()).hexdigest()[:16]

    def labels(self) -> dict[str, str]:
        """How container and network are found again."""
        return self.network_labels() | {SPEC_LABEL: self.fingerprint(), PORT_LABEL: str(self.port)}

    def network_labels(self) -> dict[str, str]:
        """The labels of the network alone."""
        return {INSTANCE_LABEL: self.instance_id, HOME_LABEL: self.home}

    def engine_arguments(self, api_version: str) -> dict[str, Any]:
        """Arguments for the SDK's low-level `create_container` (the high-level one knows no stop timeout)."""
        host = docker.types.HostConfig(
            version=api_version,
            network_mode=self.name,
            port_bindings={f"{GATEWAY_PORT}/tcp": ("127.0.0.1", self.port)},
            mounts=[
                docker.types.Mount(target, str(source), type="bind", read_only=is_read_only)
                for source, target, is_read_only in self.binds()
            ],
            binds=[f"{source}:{target}:ro" for source, target in self.spare_binds()],
            tmpfs={"/tmp": TMP_OPTIONS},  # noqa: S108 - inside the container
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            init=True,
            pids_limit=PIDS,
            mem_limit=self.memory_bytes,
            memswap_limit=self.memory_bytes,
            nano_cpus=round(self.cpus * 1e9),
            restart_policy={"Name": "unless-stopped"},
            log_config=docker.types.LogConfig(type="json-file", config=dict(LOG_OPTIONS)),
            extra_hosts={"host.docker.internal": "host-gateway"},
        )
        return {
            "image": self.image,
            "name": self.name,
            "hostname": self.hostname,
            "entrypoint": ["node", "openclaw.mjs"],
            "command": ["gateway"],
            "working_dir": "/app",
            "user": USER,
            "environment": self.environment(),
            "labels": self.labels(),
            "ports": [(str(GATEWAY_PORT), "tcp")],
            "stop_timeout": STOP_SECONDS,
            "healthcheck": {"test": ["NONE"]},  # the control plane asks; a probe inside would only burn CPU
            "use_config_proxy": False,
            "host_config": host,
        }

    def compose(self) -> str:
        """A compose file that gives the same container and network."""
        body = self._body()
        body["labels"] = self.labels()
        network = {
            "name": self.name,
            "driver": "bridge",
            "labels": self.network_labels(),
            "ipam": {"config": [{"subnet": self.subnet, "gateway": self.gateway_address}]},
        }
        head = (
            f"# Written by Clawhaven for {self.instance_id}; rewritten whenever the container is made.\n"
            f"# By hand: docker rm -f {self.name}; docker network rm {self.name}; docker compose up -d\n"
        )
        document = {"name": self.name.lower(), "services": {"gateway": body}, "networks": {"cell": network}}
        return head + yaml.safe_dump(document, sort_keys=False).replace("$", "$$")  # a bare $ names a variable there

    def _body(self) -> dict[str, Any]:
        """The compose form of the service, without the labels (one of which is its hash)."""
        return {
            "container_name": self.name,
            "image": self.image,
            "hostname": self.hostname,
            "entrypoint": ["node", "openclaw.mjs"],
            "command": ["gateway"],
            "working_dir": "/app",
            "user": USER,
            "environment": self.environment(),
            "networks": ["cell"],
            "ports": [f"127.0.0.1:{self.port}:{GATEWAY_PORT}"],
            "volumes": [
                *(_volume(*pair, is_made=False) for pair in self.binds()),
                *(_volume(*pair, True, is_made=True) for pair in self.spare_binds()),
            ],
            "tmpfs": [f"/tmp:{TMP_OPTIONS}"],  # noqa: S108 - inside the container
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "init": True,
            "pids_limit": PIDS,
            "mem_limit": self.memory_bytes,
            "memswap_limit": self.memory_bytes,
            "cpus": self.cpus,
            "restart": "unless-stopped",
            "stop_grace_period": f"{STOP_SECONDS}s",
            "logging": {"driver": "json-file", "options": dict(LOG_OPTIONS)},
            "extra_hosts": ["host.docker.internal:host-gateway"],
            "healthcheck": {"disable": True},
        }


def _volume(source: Path, target: str, is_read_only: bool, *, is_made: bool) -> dict[str, Any]:
    bind = {"create_host_path": is_made}
    return {"type": "bind", "source": str(source), "target": target, "read_only": is_read_only, "bind": bind}
