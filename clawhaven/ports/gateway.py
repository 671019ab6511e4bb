"""Talking to one running OpenClaw gateway: probes, admin HTTP RPC, WebSocket RPC, chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from clawhaven.ports.runtime import Health


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Where a gateway listens and the bearer token that opens it. Never logged (`repr` hides the token)."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"GatewayAddress(url={self.url!r})"


@dataclass(frozen=True, slots=True)
class ChatEvent:
    """A piece of an answer: the new text of a `delta`, the whole text of a `final`, or an `error`'s sentence."""

    kind: Literal["delta", "final", "error"]
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a conversation as the gateway keeps it."""

    is_owner: bool
    """True for the person's words, False for the assistant's."""
    text: str
    at: datetime | None


class Gateway(Protocol):
    """Client for a gateway's own control interfaces. Raises ProviderError only."""

    def has_started(self, address: GatewayAddress) -> bool | None:
        """Cheap enough to ask a booting gateway ten times a second. None when nobody answers yet; never raises."""

    def health(self, address: GatewayAddress) -> Health:
        """Probes and channel states. Never raises for a gateway that is down: everything is False."""

    def call(self, address: GatewayAddress, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """One RPC call over the cheapest door that offers it (admin HTTP, else WebSocket)."""

    def chat(
        self, address: GatewayAddress, session: str, message: str, idempotency_key: str, timeout_seconds: float = 300
    ) -> Iterator[ChatEvent]:
        """Send a person's message in `session` and yield the answer as it grows; ends with `final` or `error`."""

    def history(self, address: GatewayAddress, session: str, most: int) -> Sequence[Said]:
        """What was said in `session`, oldest first, the newest `most` lines at most; without tools and asides."""

    def trace_id(self, idempotency_key: str) -> str:
        """The W3C trace id (32 hex digits) that the model calls of this turn carry in `traceparent`. Pure."""
