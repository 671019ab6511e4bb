"""OpenAI's Chat Completions, Responses and Embeddings. https://developers.openai.com/api/reference, SDK 3.52."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from pydantic import Field, SecretStr

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Call, Dialect, OutRequest, Usage, UsageReader, VendorDay
from clawhaven.providers.upstreams import asking, openai_export
from clawhaven.providers.upstreams.reading import (
    MAX_JSON_BYTES,
    MAX_VECTORS_BYTES,
    BodyReader,
    Count,
    StreamReader,
    decode,
    strings,
)

PASSED_HEADERS = ("accept", "content-type", "openai-beta")
CHAT_TEXT = strings("content", "reasoning_content", "refusal", "arguments")
RESPONSE_DELTA = strings("delta")


class OpenAI:
    """Requests to and usage of OpenAI's models, and of servers that speak the same API."""

    name = "openai"
    label = "OpenAI"
    key_prefix = "sk-"
    keys_url = "https://platform.openai.com/api-keys"

    class Options(EnvSettings):
        """OpenAI's settings."""

        openai_api_key: SecretStr = Field(SecretStr(""), description="The operator's key for OpenAI's models.")
        openai_api_url: str = Field("https://api.openai.com", description="Address of OpenAI's API.")

    def __init__(self, options: Options, settings: Settings) -> None:
        self._key = options.openai_api_key.get_secret_value()
        self._url = options.openai_api_url.rstrip("/").removesuffix("/v1")

    @property
    def is_ready(self) -> bool:
        """True where the operator has a key of their own."""
        return bool(self._key)

    def check_key(self, api_key: str) -> None:
        """List the models with it."""
        asking.check_key(self.label, f"{self._url}/v1/models", {"authorization": f"Bearer {api_key}"})

    def dialects(self) -> frozenset[Dialect]:
        """Chat, responses and embeddings."""
        return frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.OPENAI_EMBEDDINGS})

    def request(
        self, dialect: Dialect, path: str, headers: Mapping[str, str], body: bytes, api_key: str, call: Call
    ) -> OutRequest:
        """The same body to the vendor; a chat stream whose client did not ask for usage gets that one option added.

        An empty `api_key` means the operator's; ProviderError when there is none.
        """
        key = api_key or self._key
        if not key:
            raise ProviderError("OPENAI_API_KEY is not set", permanent=True, code="no_api_key")
        if dialect is Dialect.OPENAI_CHAT and call.is_stream and not call.reports_stream_usage:
            body = ask_for_usage(body)
        passed = {name: headers[name] for name in PASSED_HEADERS if name in headers}
        passed.setdefault("content-type", "application/json")
        sent = {**passed, "authorization": f"Bearer {key}", "accept-encoding": "identity"}
        return OutRequest(self._url + path, sent, body)

    def reader(self, dialect: Dialect, is_stream: bool) -> UsageReader:
        """A fresh reader for one answer."""
        if not is_stream:
            return _Body(has_output=dialect is not Dialect.OPENAI_EMBEDDINGS)
        return _ResponseStream() if dialect is Dialect.OPENAI_RESPONSES else _ChatStream()

    def read_export(self, text: str) -> list[VendorDay]:
        """The days of a usage or cost export (CSV or JSON). Raises ValueError with a sentence."""
        return openai_export.read_export(text)


def ask_for_usage(body: bytes) -> bytes:
    """`body` with `stream_options.include_usage` set; every other value keeps its bytes."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    given = msgspec.json.decode(fields.get("stream_options") or b"null", type=dict[str, msgspec.Raw] | None)
    options = {**(given or {}), "include_usage": msgspec.Raw(b"true")}
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(fields)


class _WriteDetails(msgspec.Struct):
    ttl_12h_tokens: Count | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    audio_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cache_write_tokens_details: _WriteDetails | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class _Usage(msgspec.Struct):
    """The chat API's names and the Responses API's names for the same things."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    @property
    def total_input(self) -> int | None:
        """Input with what the cache gave and took; None where it was not reported."""
        return self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens

    def to_port(self, estimate: Callable[[], int] | None) -> Usage | None:
        """OpenAI includes tokens read from and written to the cache in the input. 12-hour writes count as long.

        An estimate stands for output that the report leaves out (None: there is none). None: no input.
        """
        total = self.total_input
        if total is None:
            return None
        inside = self.prompt_tokens_details or self.input_tokens_details or _InputDetails()
        outside = self.completion_tokens_details or self.output_tokens_details or _OutputDetails()
        read = min(inside.cached_tokens or 0, total)
        written = min(inside.cache_write_tokens or 0, total - read)
        details = inside.cache_write_tokens_details or _WriteDetails()
        long = min(details.ttl_12h_tokens or 0, written)
        output = self.completion_tokens if self.completion_tokens is not None else self.output_tokens
        return Usage(
            input_tokens=total - read - written,
            output_tokens=output if output is not None else estimate() if estimate else 0,
            cache_read_tokens=read,
            cache_write_5m_tokens=written - long,
            cache_write_1h_tokens=long,
            reasoning_tokens=outside.reasoning_tokens or 0,
            is_estimated=output is None and estimate is not None,
            input_audio_tokens=inside.audio_tokens or 0,
            output_audio_tokens=outside.audio_tokens or 0,
        )


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


class _ResponseEvent(msgspec.Struct):
    response: _Answer | None = None


class _ChatStream(StreamReader):
    text = CHAT_TEXT

    def __init__(self) -> None:
        super().__init__()
        self._reported = _Usage()

    def take(self, data: bytes) -> None:
        self.note(decode(data, _Answer))

    def note(self, answer: _Answer | None) -> None:
        """Keep what it reports, in place of what was reported before."""
        if answer and answer.usage and answer.usage.total_input is not None:
            self._reported = answer.usage

    def usage(self) -> Usage | None:
        return self._reported.to_port(self.output_estimate)


class _ResponseStream(_ChatStream):
    text = RESPONSE_DELTA

    def take(self, data: bytes) -> None:
        event = decode(data, _ResponseEvent)
        self.note(event.response if event else None)


class _Body(BodyReader):
    text = strings("content", "reasoning_content", "text", "refusal", "arguments")

    def __init__(self, has_output: bool) -> None:
        super().__init__(MAX_JSON_BYTES if has_output else MAX_VECTORS_BYTES)
        self._has_output = has_output

    def read(self, body: bytes) -> Usage | None:
        answer = decode(body, _Answer)
        estimate = self.output_estimate if self._has_output else None
        return answer.usage.to_port(estimate) if answer and answer.usage else None
