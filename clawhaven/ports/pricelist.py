"""Somebody else's list of what models cost, to compare ours with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ListedRates:
    """Micro-dollars per million tokens; None where the list says nothing."""

    input: int
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """What a model costs from `since` on (None: always). `long_rates` hold above `long_over_tokens` of a prompt."""

    upstream: str
    model: str
    rates: ListedRates
    since: date | None = None
    long_over_tokens: int | None = None
    long_rates: ListedRates | None = None
    context_window: int | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole list. `source` says in a few words which one; `unreadable` are models whose prices we cannot express."""

    source: str
    prices: tuple[ListedPrice, ...]
    unreadable: tuple[str, ...] = ()


class PriceList(Protocol):
    """A list of model prices that others keep. Raises ProviderError only."""

    def installed(self) -> Listing:
        """The list that came with an installed package: no network. Permanent error when there is none."""

    def latest(self) -> Listing:
        """The list as it is published at this moment, over the network."""
