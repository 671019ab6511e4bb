"""What reaches Anthropic: the client's bytes, our key, its version headers, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Call, Dialect
from clawhaven.providers.upstreams.anthropic import VERSION, Anthropic

CALL = Call("claude-sonnet-5-5", True, 100, True)
BODY = b'{"model": "claude-sonnet-5-5",  "max_tokens":100}'


def _vendor(tmp_path: Path, key: str = "sk-ours", url: str = "https://api.anthropic.com") -> Anthropic:
    options = Anthropic.Options(anthropic_api_key=SecretStr(key), anthropic_api_url=url)
    return Anthropic(options, Settings(data_dir=tmp_path))


def test_the_clients_credentials_stay_here_and_its_bytes_go_out_unchanged(tmp_path: Path) -> None:
    client = {
        "x-api-key": "chp_theirs",
        "authorization": "Bearer chp_theirs",
        "cookie": "a=b",
        "x-forwarded-for": "10.0.0.1",
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "context-1m",
        "content-type": "application/json",
    }
    sent = _vendor(tmp_path).request(Dialect.ANTHROPIC_MESSAGES, "/v1/messages?beta=true", client, BODY, "", CALL)
    assert sent.url == "https://api.anthropic.com/v1/messages?beta=true"
    assert sent.body is BODY
    assert sent.headers == {
        "x-api-key": "sk-ours",
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "context-1m",
        "content-type": "application/json",
        "accept-encoding": "identity",
    }


def test_a_customers_own_key_goes_before_ours_and_the_version_has_a_default(tmp_path: Path) -> None:
    sent = _vendor(tmp_path).request(Dialect.ANTHROPIC_MESSAGES, "/v1/messages", {}, BODY, "sk-customer", CALL)
    assert (sent.headers["x-api-key"], sent.headers["anthropic-version"]) == ("sk-customer", VERSION)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://127.0.0.1:9/", "http://127.0.0.1:9/v1"])
def test_the_address_is_a_setting_with_or_without_its_version(tmp_path: Path, url: str) -> None:
    sent = _vendor(tmp_path, url=url).request(Dialect.ANTHROPIC_MESSAGES, "/v1/messages", {}, BODY, "", CALL)
    assert sent.url == "http://127.0.0.1:9/v1/messages"


def test_without_any_key_it_is_not_ready_and_says_which_setting(tmp_path: Path) -> None:
    vendor = _vendor(tmp_path, key="")
    assert not vendor.is_ready
    with pytest.raises(ProviderError, match="ANTHROPIC_API_KEY is not set"):
        vendor.request(Dialect.ANTHROPIC_MESSAGES, "/v1/messages", {}, BODY, "", CALL)
