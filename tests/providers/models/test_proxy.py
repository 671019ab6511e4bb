"""The proxy's client against a real listener: both shapes, and streams that end badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.model import Exchange, Question
from clawhaven.ports.upstream import Dialect
from clawhaven.providers.models.proxy import OwnProxy, texts
from tests.conftest import free_port


class Listener:
    """Answers every POST with `status` and `body`, and remembers what it was sent."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        outer = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                told = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append((self.path, told, json.loads(self.rfile.read(length))))
                self._answer()

            def do_GET(self) -> None:
                outer.seen.append((self.path, {}, None))
                self._answer()

            def _answer(self) -> None:
                self.send_response(outer.status)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.server.shutdown()
    made.server.server_close()


def client(url: str) -> OwnProxy:
    return OwnProxy(OwnProxy.Options(trial_proxy_url=url), Settings())


def question(dialect: Dialect) -> Question:
    return Question("m", dialect, "Be kind.", [Exchange("Hi", "Hello")], "More", 99)


TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "More"},
]


def test_in_anthropics_shape(listener: Listener) -> None:
    listener.body = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m"}}\n\n'
        b'data: {"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}\n\n'
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Good "}}\n\n: ping\n\n'
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"day"}}\n\n'
        b'data: {"type":"message_stop"}\n\n'
    )
    assert list(client(listener.url).say("key", question(Dialect.ANTHROPIC_MESSAGES))) == ["Good ", "day"]
    ((path, headers, body),) = listener.seen
    assert (path, headers["x-api-key"]) == ("/v1/messages", "key")
    assert body == {"model": "m", "max_tokens": 99, "stream": True, "system": "Be kind.", "messages": TURNS}


def test_in_openais_shape(listener: Listener) -> None:
    listener.body = (
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"Good day"}}]}\n\n'
        b'data: {"choices":[],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
    )
    assert list(client(listener.url).say("key", question(Dialect.OPENAI_CHAT))) == ["Good day"]
    ((path, headers, body),) = listener.seen
    assert (path, headers["authorization"]) == ("/v1/chat/completions", "Bearer key")
    assert (body["max_completion_tokens"], body["messages"][1:]) == (99, TURNS)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, b"{}", "busy"),
        (500, b"", "model_down"),
        (302, b"", "model_down"),
        (200, b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Go"}}\n\n', "model_down"),
        (200, b'data: {"type":"error","error":{"type":"overloaded_error"}}\n\n', "model_down"),
        (200, b"data: [1]\n\ndata: {\n\n", "model_down"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(listener: Listener, status: int, body: bytes, code: str) -> None:
    listener.status, listener.body = status, body
    with pytest.raises(ProviderError) as refused:
        list(client(listener.url).say("s3cret", question(Dialect.ANTHROPIC_MESSAGES)))
    assert refused.value.code == code
    assert "s3cret" not in str(refused.value)


def test_nobody_there(listener: Listener) -> None:
    assert client(listener.url).answers()
    assert listener.seen[-1][0] == "/healthz"
    listener.status = 503
    assert not client(listener.url).answers()
    away = client(f"http://127.0.0.1:{free_port()}")
    assert not away.answers()
    with pytest.raises(ProviderError) as refused:
        list(away.say("key", question(Dialect.OPENAI_CHAT)))
    assert refused.value.code == "model_down"


def test_it_is_beside_the_web_server_where_nothing_else_is_said() -> None:
    everywhere = Settings(platform_host="0.0.0.0", platform_port=9999)
    assert OwnProxy(OwnProxy.Options(), everywhere)._url == "http://127.0.0.1:9999/proxy"


def test_words_that_are_no_text_are_left_out() -> None:
    lines = ['data: {"choices":[{"delta":{"content":null}}]}', 'data: {"choices":[{"delta":null}]}', "data: [DONE]"]
    assert list(texts(lines, is_anthropic=False)) == []
