"""No reverse proxy: gateways stay on loopback and people reach them through this site."""

from __future__ import annotations

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.ingress import Route


class Direct:
    """Publishes nothing, so it keeps no routes: `put` and `remove` succeed, `list` is empty."""

    name = "direct"

    class Options(EnvSettings):
        """Nothing to set."""

    def __init__(self, options: Options, settings: Settings) -> None:
        self._url = settings.base_url

    def put(self, route: Route) -> None:
        """Nothing to do: the control plane speaks to `route.upstream` itself."""

    def remove(self, host: str) -> None:
        """Nothing to do."""

    def list(self) -> list[Route]:
        """Always empty."""
        return []

    def url(self, host: str) -> str:
        """This site's own address: an instance has no public name of its own."""
        return self._url
