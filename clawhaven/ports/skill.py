"""A vendor that a skill of an assistant needs an account at: whose key it is, whether it is good, where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from clawhaven.ports.channel import Field


@dataclass(frozen=True, slots=True)
class SkillConfig:
    """What the gateway's configuration says for a skill, and the secrets it refers to (`/skills/brave` -> value)."""

    config: Mapping[str, Any]
    secrets: Mapping[str, str]


class SkillVendor(Protocol):
    """Whom the gateway asks by itself, with the customer's key."""

    name: str
    label: str
    """As people write it."""

    field: Field
    """The key, as it is asked for."""

    def check_key(self, api_key: str) -> None:
        """Ask the vendor whether it takes a key, by the cheapest call that needs one.

        Raises ProviderError: permanent `invalid_api_key` (unknown or withdrawn) or `restricted_api_key` (known, but not
        allowed what the skill needs); not permanent when the vendor cannot be asked.
        """

    def config(self, api_key: str, secrets_provider: str) -> SkillConfig:
        """The gateway's configuration with this key. Pure."""
