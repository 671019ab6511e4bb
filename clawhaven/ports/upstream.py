"""An LLM vendor, as pure functions over bytes: where to send, what it may cost, what it did cost; and its keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Dialect(StrEnum):
    """The shape of a request and its answer."""

    ANTHROPIC_MESSAGES = "anthropic-messages"
    ANTHROPIC_COUNT_TOKENS = "anthropic-count-tokens"
    OPENAI_CHAT = "openai-chat"
    OPENAI_RESPONSES = "openai-responses"
    OPENAI_EMBEDDINGS = "openai-embeddings"
    MODELS = "models"


@dataclass(slots=True)  # not frozen: making one costs five times as much then
class Usage:
    """Tokens of one call. Cache tokens are never included in `input_tokens`; reasoning is part of `output_tokens`.

    Audio tokens are a part of `input_tokens` and `output_tokens`, told apart because some models price them apart.
    `apart` are passes of the model that the vendor prices each by itself: they are part of the figures, and what the
    figures have beyond them is one pass more.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    is_estimated: bool = False
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    apart: tuple[Usage, ...] = ()


@dataclass(slots=True)  # not frozen: making one costs five times as much then
class Call:
    """The few facts of a request body that matter to us. `max_output_tokens` None: the client set no limit."""

    model: str
    is_stream: bool
    max_output_tokens: int | None
    reports_stream_usage: bool
    """False: an OpenAI chat stream whose client did not ask for usage; we ask, and drop the extra chunk again."""


@dataclass(slots=True)  # not frozen: making one costs five times as much then
class OutRequest:
    """What goes to the vendor."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class VendorDay:
    """What a vendor's export says of one day (`2026-11-21`, UTC) and model (`*`: all of them). None: it does not say.

    Tokens as in Usage; `cost_micros` is what the vendor charges.
    """

    day: str
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_micros: int | None = None


class UsageReader(Protocol):
    """Reads usage on the side while an answer passes through. Never raises, holds bounded memory."""

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the answer."""

    def usage(self) -> Usage | None:
        """What the vendor has reported so far, marked as estimated where a part of it is missing; None: nothing yet."""

    def output_estimate(self) -> int:
        """Output tokens estimated from the text seen so far, for an answer that was cut before it reported."""


class Upstream(Protocol):
    """An LLM vendor. All verbs but `check_key` are pure."""

    name: str
    label: str
    """As people write it."""

    key_prefix: str
    """What this vendor's API keys begin with."""

    keys_url: str
    """Where a customer makes one; empty where they are made up."""

    def check_key(self, api_key: str) -> None:
        """Ask the vendor whether it takes a customer's key, by the cheapest call that needs one.

        Raises ProviderError: permanent `invalid_api_key` (unknown or withdrawn) or `restricted_api_key` (known, but not
        allowed what an assistant needs); not permanent when the vendor cannot be asked.
        """

    def dialects(self) -> frozenset[Dialect]:
        """The endpoints this vendor has."""

    def request(
        self, dialect: Dialect, path: str, headers: Mapping[str, str], body: bytes, api_key: str, call: Call
    ) -> OutRequest:
        """The vendor's request: our key in, the client's credentials out, everything else unchanged."""

    def reader(self, dialect: Dialect, is_stream: bool) -> UsageReader:
        """A fresh usage reader for one answer."""


class BillingUpstream(Upstream, Protocol):
    """An upstream whose own figures can be compared with ours."""

    def read_export(self, text: str) -> list[VendorDay]:
        """The days of an export of its console or administration API. Pure. Raises ValueError with a sentence."""


class LocalUpstream(Upstream, Protocol):
    """An upstream that answers inside this process (the sandbox model)."""

    async def answer(
        self, dialect: Dialect, path: str, body: bytes, call: Call
    ) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        """Status, headers and the body's chunks."""
