"""Anthropic's Messages API. https://platform.claude.com/docs/en/api/messages, checked against SDK 2.11."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import msgspec
from pydantic import Field, SecretStr

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Call, Dialect, OutRequest, Usage, UsageReader, VendorDay
from clawhaven.providers.upstreams import anthropic_export, asking
from clawhaven.providers.upstreams.reading import MOST_TOKENS, BodyReader, Count, StreamReader, decode, strings

VERSION = "2023-06-01"
PASSED_HEADERS = ("accept", "content-type", "anthropic-version", "anthropic-beta")
TEXT = strings("text", "thinking", "partial_json")
MOST_PASSES = 1_000


class Anthropic:
    """Requests to and usage of Anthropic's models."""

    name = "anthropic"
    label = "Anthropic"
    key_prefix = "sk-ant-"
    keys_url = "https://platform.claude.com/settings/keys"

    class Options(EnvSettings):
        """Anthropic's settings."""

        anthropic_api_key: SecretStr = Field(SecretStr(""), description="The operator's key for Anthropic's models.")
        anthropic_api_url: str = Field("https://api.anthropic.com", description="Address of Anthropic's API.")

    def __init__(self, options: Options, settings: Settings) -> None:
        self._key = options.anthropic_api_key.get_secret_value()
        self._url = options.anthropic_api_url.rstrip("/").removesuffix("/v1")

    @property
    def is_ready(self) -> bool:
        """True where the operator has a key of their own."""
        return bool(self._key)

    def check_key(self, api_key: str) -> None:
        """List one model with it."""
        headers = {"x-api-key": api_key, "anthropic-version": VERSION}
        asking.check_key(self.label, f"{self._url}/v1/models?limit=1", headers)

    def dialects(self) -> frozenset[Dialect]:
        """Messages and token counts."""
        return frozenset({Dialect.ANTHROPIC_MESSAGES, Dialect.ANTHROPIC_COUNT_TOKENS})

    def request(
        self, dialect: Dialect, path: str, headers: Mapping[str, str], body: bytes, api_key: str, call: Call
    ) -> OutRequest:
        """The same body to the vendor. An empty `api_key` means the operator's; ProviderError when there is none."""
        key = api_key or self._key
        if not key:
            raise ProviderError("ANTHROPIC_API_KEY is not set", permanent=True, code="no_api_key")
        passed = {name: headers[name] for name in PASSED_HEADERS if name in headers}
        passed.setdefault("anthropic-version", VERSION)
        passed.setdefault("content-type", "application/json")
        return OutRequest(self._url + path, {**passed, "x-api-key": key, "accept-encoding": "identity"}, body)

    def reader(self, dialect: Dialect, is_stream: bool) -> UsageReader:
        """A fresh reader for one answer."""
        return _Stream() if is_stream else _Body()

    def read_export(self, text: str) -> list[VendorDay]:
        """The days of a usage or cost export (CSV or JSON). Raises ValueError with a sentence."""
        return anthropic_export.read_export(text)


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Count | None = None


class _Counts(msgspec.Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None

    def to_pass(self) -> Usage:
        """Anthropic does not include cache tokens in input_tokens. Writes of unknown life count as 5 minutes."""
        split = self.cache_creation or _CacheCreation()
        long = split.ephemeral_1h_input_tokens or 0
        written = max(self.cache_creation_input_tokens or 0, long + (split.ephemeral_5m_input_tokens or 0))
        details = self.output_tokens_details or _OutputDetails()
        return Usage(
            input_tokens=self.input_tokens or 0,
            output_tokens=self.output_tokens or 0,
            cache_read_tokens=self.cache_read_input_tokens or 0,
            cache_write_5m_tokens=written - long,
            cache_write_1h_tokens=long,
            reasoning_tokens=details.thinking_tokens or 0,
        )


class _Iteration(_Counts):
    """One pass of the model: `message`, or `compaction`, whose tokens the figures at the top leave out.

    Those of other kinds come of what is not offered on the operator's key.
    """

    type: str = ""


class _Usage(_Counts):
    iterations: Annotated[list[_Iteration], msgspec.Meta(max_length=MOST_PASSES)] | None = None

    def to_port(self, estimate: Callable[[], int], *, is_final: bool) -> Usage | None:
        """All passes together: their sum is what Anthropic bills.

        Until the report is final, or where it leaves the output out, an estimate counts if it is more. None: no input.
        """
        if self.input_tokens is None:
            return None
        found = self.to_pass()
        passes = self.iterations or []
        said = [one.to_pass() for one in passes if one.type == "message"]
        in_all = _sum(said)
        if _tokens(in_all) > _tokens(found):
            found = replace(in_all, reasoning_tokens=found.reasoning_tokens)
        # What does not add up, or tells less of the cache than the figures at the top do, is one pass.
        earlier = said[:-1] if in_all == replace(found, reasoning_tokens=0) else []
        if not (is_final and self.output_tokens is not None):
            found = replace(found, output_tokens=max(found.output_tokens, estimate()), is_estimated=True)
        compacted = [one.to_pass() for one in passes if one.type == "compaction"]
        apart = (*compacted, *earlier)
        return replace(_sum([found, *compacted]), apart=apart, is_estimated=found.is_estimated) if apart else found


_PRICED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


def _tokens(usage: Usage) -> int:
    return sum(getattr(usage, name) for name in _PRICED)


def _sum(passes: Sequence[Usage]) -> Usage:
    names = (*_PRICED, "reasoning_tokens")
    return Usage(**{name: min(sum(getattr(one, name) for one in passes), MOST_TOKENS) for name in names})


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    """`message_start` has the usage inside `message`, `message_delta` at the top."""

    type: str = ""
    usage: _Usage | None = None
    message: _Message | None = None


class _Stream(StreamReader):
    text = TEXT

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, object] = {}
        self._is_final = False

    def take(self, data: bytes) -> None:
        """Figures are cumulative: a later one replaces the earlier, it is never added. The end tells the output."""
        event = decode(data, _Event)
        if event is None or event.type not in ("message_start", "message_delta"):
            return
        reported = event.usage or (event.message and event.message.usage)
        if reported:
            self._known |= {
                name: value for name, value in msgspec.structs.asdict(reported).items() if value is not None
            }
            self._is_final |= event.type == "message_delta" and reported.output_tokens is not None

    def usage(self) -> Usage | None:
        known = _Usage(**self._known)  # type: ignore[arg-type]
        return known.to_port(self.output_estimate, is_final=self._is_final)


class _Body(BodyReader):
    text = TEXT

    def read(self, body: bytes) -> Usage | None:
        message = decode(body, _Message)
        return message.usage.to_port(self.output_estimate, is_final=True) if message and message.usage else None
