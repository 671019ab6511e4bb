"""Making an instance reachable under its own host name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Route:
    """`host` (`user-example-com.example.com`) leads to `upstream` (`127.0.0.1:19100`)."""

    host: str
    upstream: str


class Ingress(Protocol):
    """The reverse proxy in front of instances. Raises ProviderError."""

    name: str

    def put(self, route: Route) -> None:
        """Make the route, or replace the one with this host."""

    def remove(self, host: str) -> None:
        """Remove the route; gone is success."""

    def list(self) -> list[Route]:
        """Every route of ours."""

    def url(self, host: str) -> str:
        """The address a person opens for this host."""
