"""What reaches OpenAI: the client's bytes and our key; a chat stream is asked to report its usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Call, Dialect
from clawhaven.providers.upstreams.openai import OpenAI, ask_for_usage


def _vendor(tmp_path: Path, key: str = "sk-ours") -> OpenAI:
    return OpenAI(OpenAI.Options(openai_api_key=SecretStr(key)), Settings(data_dir=tmp_path))


def test_the_clients_credentials_stay_here(tmp_path: Path) -> None:
    body = b'{"model":"gpt-6-luna"}'
    client = {"authorization": "Bearer chp_theirs", "x-api-key": "chp_theirs", "cookie": "a=b"}
    call = Call("gpt-6-luna", False, None, True)
    sent = _vendor(tmp_path).request(Dialect.OPENAI_CHAT, "/v1/chat/completions", client, body, "", call)
    assert sent.url == "https://api.openai.com/v1/chat/completions"
    assert sent.body is body
    assert dict(sent.headers) == {
        "authorization": "Bearer sk-ours",
        "content-type": "application/json",
        "accept-encoding": "identity",
    }


def test_a_stream_that_would_not_report_usage_is_asked_to(tmp_path: Path) -> None:
    body = b'{"model":"gpt-6-luna","stream":true,"temperature":0.70000000000000001,"stream_options":{"x":1}}'
    call = Call("gpt-6-luna", True, None, False)
    sent = _vendor(tmp_path).request(Dialect.OPENAI_CHAT, "/v1/chat/completions", {}, body, "", call)
    assert json.loads(sent.body)["stream_options"] == {"x": 1, "include_usage": True}
    assert b"0.70000000000000001" in sent.body
    asked = Call("gpt-6-luna", True, None, True)
    assert _vendor(tmp_path).request(Dialect.OPENAI_CHAT, "/v1/chat/completions", {}, body, "", asked).body is body
    assert _vendor(tmp_path).request(Dialect.OPENAI_RESPONSES, "/v1/responses", {}, body, "", call).body is body


@pytest.mark.parametrize("given", [b"{}", b'{"stream_options":null}', b'{"stream_options":{"include_usage":false}}'])
def test_the_option_is_set_whatever_was_there(given: bytes) -> None:
    assert json.loads(ask_for_usage(given)) == {"stream_options": {"include_usage": True}}


def test_without_any_key_it_is_not_ready_and_says_which_setting(tmp_path: Path) -> None:
    vendor = _vendor(tmp_path, key="")
    assert not vendor.is_ready
    with pytest.raises(ProviderError, match="OPENAI_API_KEY is not set"):
        vendor.request(Dialect.OPENAI_CHAT, "/v1/chat/completions", {}, b"{}", "", Call("m", False, None, True))
