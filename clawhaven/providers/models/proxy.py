"""Our own proxy as a Model: the same endpoints, checks and books that assistants' calls go through.

https://platform.claude.com/docs/en/build-with-claude/streaming,
https://developers.openai.com/api/reference/resources/chat/subresources/completions/streaming-events
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2
from pydantic import Field

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.core.tls import authorities
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.model import Question
from clawhaven.ports.upstream import Dialect

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 60.0
LOOK_SECONDS = 1.0
LONGEST_LINE = 1_000_000
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - what a listener's address means to a client here


class OwnProxy:
    """Implements ports.model.Model. Thread-safe; each answer has a connection of its own."""

    class Options(EnvSettings):
        """Where the proxy is."""

        trial_proxy_url: str = Field(
            "", description="The model proxy as the web server sees it. Default: in the web server itself."
        )

    def __init__(self, options: Options, settings: Settings) -> None:
        host = EVERYWHERE.get(settings.platform_host, settings.platform_host)
        own = f"http://{host}:{settings.platform_port}/proxy"
        self._url = options.trial_proxy_url.rstrip("/") or own

    def say(self, key: str, question: Question) -> Iterator[str]:
        """One streamed call; closing the iterator ends it."""
        is_anthropic = question.dialect is Dialect.ANTHROPIC_MESSAGES
        path = "/v1/messages" if is_anthropic else "/v1/chat/completions"
        body = messages(question) if is_anthropic else chat(question)
        timeout = httpx2.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"} if is_anthropic else {}
        headers |= {} if is_anthropic else {"authorization": f"Bearer {key}"}
        trouble = ""
        try:
            # The proxy is beside us: no environment's HTTP proxy may come between.
            with (
                httpx2.Client(timeout=timeout, follow_redirects=False, trust_env=False, verify=authorities()) as client,
                client.stream("POST", self._url + path, json=body, headers=headers) as answer,
            ):
                if answer.status_code == 200:
                    yield from texts(answer.iter_lines(), is_anthropic=is_anthropic)
                    return
                trouble, code = f"status {answer.status_code}", "busy" if answer.status_code == 429 else "model_down"
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            trouble, code = type(error).__name__, "model_down"
        raise ProviderError(f"the model proxy did not answer ({trouble})", code=code)

    def answers(self) -> bool:
        """Ask its `/healthz`."""
        try:
            found = httpx2.get(f"{self._url}/healthz", timeout=LOOK_SECONDS, trust_env=False, verify=authorities())
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError):
            return False
        return found.status_code == 200


def messages(question: Question) -> dict[str, Any]:
    """The body in Anthropic's shape. Pure."""
    return {
        "model": question.model,
        "max_tokens": question.most_tokens,
        "stream": True,
        "system": question.instructions,
        "messages": _turns(question),
    }


def chat(question: Question) -> dict[str, Any]:
    """The body in OpenAI's shape. Pure."""
    return {
        "model": question.model,
        "max_completion_tokens": question.most_tokens,
        "stream": True,
        "messages": [{"role": "developer", "content": question.instructions}, *_turns(question)],
    }


def texts(lines: Iterable[str], *, is_anthropic: bool) -> Iterator[str]:
    """The text in a stream of events. Raises ProviderError for an error in it, or a stream that breaks off."""
    is_whole = False
    for line in lines:
        if not line.startswith("data:") or len(line) > LONGEST_LINE:
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            is_whole = True
            continue
        try:
            event = json.loads(data)
        except ValueError:
            continue
        if not isinstance(event, dict):
            continue
        if event.get("type") == "error" or "error" in event:
            raise ProviderError("the model's answer broke off", code="model_down")
        is_whole = is_whole or event.get("type") == "message_stop"
        text = _delta(event) if is_anthropic else _choice(event)
        if text:
            yield text
    if not is_whole:
        raise ProviderError("the model's answer broke off", code="model_down")


def _delta(event: dict[str, Any]) -> str:
    delta = event.get("delta")
    is_text = isinstance(delta, dict) and delta.get("type") == "text_delta"
    return str(delta.get("text") or "") if is_text and isinstance(delta, dict) else ""


def _choice(event: dict[str, Any]) -> str:
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    delta = first.get("delta") if isinstance(first, dict) else None
    text = delta.get("content") if isinstance(delta, dict) else None
    return text if isinstance(text, str) else ""


def _turns(question: Question) -> list[dict[str, str]]:
    earlier = [
        turn
        for one in question.before
        for turn in ({"role": "user", "content": one.said}, {"role": "assistant", "content": one.answered})
    ]
    return [*earlier, {"role": "user", "content": question.message}]
