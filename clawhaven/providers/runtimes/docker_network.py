"""The small networks: one bridge per instance, so that no assistant reaches another."""

from __future__ import annotations

import builtins
import ipaddress
from collections.abc import Iterator

import docker.errors
import docker.types
from docker.models.networks import Network

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes.docker_cell import HOME_LABEL, INSTANCE_LABEL, name_of
from clawhaven.providers.runtimes.docker_engine import Engine, held, words

PREFIX = 28
"""16 addresses: network, gateway, broadcast, one container and room for a side-car."""

AnyNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Networks:
    """Networks of one installation. Subnets are explicit: Docker's own pools end after about thirty networks."""

    def __init__(self, engine: Engine, pool: AnyNetwork, home: str, settings: Settings) -> None:
        self._engine, self._pool, self._home = engine, pool, home
        self._lock = settings.data_dir / "locks" / "docker-network"

    def ensure(self, instance_id: str, subnet: str | None) -> tuple[Network, str]:
        """The instance's network and its subnet; `subnet` None picks a free /28 of the pool.

        Raises ProviderError(code="no_subnet") when the pool is used up or `subnet` is outside it.
        """
        if subnet is not None and not _is_within(ipaddress.ip_network(subnet), self._pool):
            raise ProviderError(f"{subnet} is not within {self._pool}", permanent=True, code="no_subnet")
        with words("making the network"), held(self._lock):
            found = self._find(instance_id)
            if found is not None:
                has = next(iter(_subnets(found)), "")
                if subnet in (None, has) and _is_within(ipaddress.ip_network(has), self._pool):
                    return found, has
                self.remove(instance_id)
            return self._make(instance_id, subnet)

    def _make(self, instance_id: str, subnet: str | None) -> tuple[Network, str]:
        for candidate in [subnet] if subnet else self._free():
            gateway = str(next(ipaddress.ip_network(candidate).hosts()))
            pools = [docker.types.IPAMPool(subnet=candidate, gateway=gateway)]
            try:
                network = self._engine.client.networks.create(
                    name_of(instance_id),
                    driver="bridge",
                    check_duplicate=True,
                    ipam=docker.types.IPAMConfig(pool_configs=pools),
                    labels={INSTANCE_LABEL: instance_id, HOME_LABEL: self._home},
                )
            except docker.errors.APIError as error:
                if "already exists" in str(error).lower():
                    raise ProviderError(
                        f"The network name {name_of(instance_id)} belongs to another installation.",
                        permanent=True,
                        code="name_taken",
                    ) from error
                # Another installation on this engine was quicker.
                if "overlaps" not in str(error).lower() or subnet:
                    raise
                continue
            return network, candidate
        raise ProviderError(f"No free /{PREFIX} is left in {self._pool}", code="no_subnet")

    def _free(self) -> Iterator[str]:
        taken = [
            ipaddress.ip_network(text) for network in self._engine.client.networks.list() for text in _subnets(network)
        ]
        for candidate in self._pool.subnets(new_prefix=PREFIX):
            if not any(candidate.version == used.version and candidate.overlaps(used) for used in taken):
                yield str(candidate)

    def _find(self, instance_id: str) -> Network | None:
        name = name_of(instance_id)
        for network in self._engine.client.networks.list(names=[name]):  # the engine also answers with longer names
            labels = network.attrs.get("Labels") or {}
            if network.name == name and labels.get(HOME_LABEL) == self._home:
                return network
        return None

    def remove(self, instance_id: str) -> None:
        """Remove the instance's network, whoever is still joined to it. Gone is success. Use inside `words`."""
        network = self._find(instance_id)
        if network is None:
            return
        try:
            network.reload()
            for container_id in network.attrs.get("Containers") or {}:
                network.disconnect(container_id, force=True)
            network.remove()
        except docker.errors.NotFound:
            return

    def list(self) -> builtins.list[str]:
        """Ids of the instances that have a network here. Use inside `words`."""
        mine = self._engine.client.networks.list(filters={"label": f"{HOME_LABEL}={self._home}"})
        return [(network.attrs.get("Labels") or {}).get(INSTANCE_LABEL, "") for network in mine]

    def host_address(self) -> str:
        """This host's address on the default bridge (docker0). Raises ProviderError(code="no_bridge")."""
        with words("asking for the bridge's address"):
            bridge = self._engine.client.networks.get("bridge")
            for pool in (bridge.attrs.get("IPAM") or {}).get("Config") or []:
                subnet = ipaddress.ip_network(pool["Subnet"])
                if subnet.version == 4:  # the gateway is not told before the first container
                    return str(pool.get("Gateway") or next(subnet.hosts()))
        raise ProviderError("The engine has no default bridge; set PROXY_BIND", permanent=True, code="no_bridge")


def _subnets(network: Network) -> list[str]:
    pools = (network.attrs.get("IPAM") or {}).get("Config") or []
    return [pool["Subnet"] for pool in pools if pool.get("Subnet")]


def _is_within(subnet: AnyNetwork, pool: AnyNetwork) -> bool:
    if isinstance(subnet, ipaddress.IPv4Network) and isinstance(pool, ipaddress.IPv4Network):
        return subnet.subnet_of(pool)
    if isinstance(subnet, ipaddress.IPv6Network) and isinstance(pool, ipaddress.IPv6Network):
        return subnet.subnet_of(pool)
    return False
