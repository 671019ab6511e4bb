"""A messaging network. `fields` drives forms, API, CLI, validation and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Field:
    """One thing the customer enters to connect a channel. `pattern` is a full-match regular expression."""

    name: str
    label: str
    is_secret: bool
    pattern: str
    help: str
    help_url: str | None = None


@dataclass(frozen=True, slots=True)
class BotInfo:
    """Who the network says these credentials are. `id` is unique on the network."""

    id: str
    username: str
    display_name: str
    url: str


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """The gateway's configuration for a channel, and the secrets it refers to (`/telegram/botToken` -> value)."""

    config: Mapping[str, Any]
    secrets: Mapping[str, str]


class Channel(Protocol):
    """A messaging network that an assistant can be reached on."""

    name: str
    label: str
    fields: tuple[Field, ...]
    pairing: Literal["none", "qr", "code"]

    def probe(self, credentials: Mapping[str, str]) -> BotInfo:
        """Ask the network who these credentials are. ProviderError(permanent=True) when it refuses them."""

    def config(
        self, credentials: Mapping[str, str], dm_policy: str, owners: tuple[str, ...], secrets_provider: str
    ) -> ChannelConfig:
        """The gateway's configuration for this channel. Pure. `owners` are the network's user ids."""


@dataclass(frozen=True, slots=True)
class OwnerClaim:
    """What one look at a bot's messages found. `next_offset` goes into the next look."""

    user_id: str | None
    username: str | None
    next_offset: int


class ClaimableChannel(Channel, Protocol):
    """A network on which the owner makes a bot theirs by opening a one-time link."""

    def claim_owner(
        self, credentials: Mapping[str, str], token: str, offset: int, timeout_seconds: int = 25
    ) -> OwnerClaim:
        """One look, of at most `timeout_seconds`, for whoever opened the link that carries `token`.

        It answers nobody and keeps the claim findable: it may be recorded by nobody yet.
        """

    def confirm_claim(self, credentials: Mapping[str, str], next_offset: int, user_id: str) -> None:
        """Call once a found claim is recorded: use it up on the network and tell its owner. A repeat is harmless."""
