"""Testing a customer's key at its vendor: one harmless call, the same as the official libraries make."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Upstream
from clawhaven.providers.upstreams.anthropic import VERSION, Anthropic
from clawhaven.providers.upstreams.openai import OpenAI
from clawhaven.providers.upstreams.sandbox import Sandbox
from tests.conftest import free_port

KEYS = {"anthropic": "sk-ant-api03-customers", "openai": "sk-proj-customers"}
MODELS = {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


class Vendor:
    """Answers every GET with `status` and `body`, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps(MODELS).encode()
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        vendor = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                vendor.seen.append((self.command, self.path, headers))
                self.send_response(vendor.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(vendor.body)))
                self.end_headers()
                self.wfile.write(vendor.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    running = Vendor()
    yield running
    running.close()


def upstream(name: str, url: str, tmp_path: Path) -> Upstream:
    settings = Settings(data_dir=tmp_path)
    if name == "anthropic":
        return Anthropic(Anthropic.Options(anthropic_api_url=url, anthropic_api_key="sk-ant-ours"), settings)  # type: ignore[arg-type]
    return OpenAI(OpenAI.Options(openai_api_url=url, openai_api_key="sk-ours"), settings)  # type: ignore[arg-type]


def error(kind: str, message: str = "no") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


@pytest.mark.parametrize("name", KEYS)
def test_it_asks_what_the_official_library_asks(vendor: Vendor, tmp_path: Path, name: str) -> None:
    upstream(name, vendor.url, tmp_path).check_key(KEYS[name])
    if name == "anthropic":
        list(anthropic.Anthropic(api_key=KEYS[name], base_url=vendor.url).models.list(limit=1))
    else:
        list(openai.OpenAI(api_key=KEYS[name], base_url=f"{vendor.url}/v1").models.list())
    ours, theirs = vendor.seen
    assert ours[:2] == theirs[:2]
    assert theirs[2]["authorization"] == f"Bearer {KEYS[name]}"
    if name == "anthropic":  # both ways are documented; the proxy's calls use the older one, so that one is tested
        assert (ours[2]["x-api-key"], "authorization" in ours[2]) == (KEYS[name], False)
        assert ours[2]["anthropic-version"] == VERSION
    else:
        assert ours[2]["authorization"] == theirs[2]["authorization"]
    assert "ours" not in str(ours)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    ("status", "body", "code", "is_permanent"),
    [
        (401, error("authentication_error", "invalid x-api-key"), "invalid_api_key", True),
        (401, error("invalid_request_error", "Incorrect API key provided"), "invalid_api_key", True),
        (401, error("invalid_request_error", "Missing scopes: api.model.read."), "restricted_api_key", True),
        (403, error("invalid_request_error", "Missing scopes: api.model.read."), "restricted_api_key", True),
        (403, error("permission_error"), "restricted_api_key", True),
        (402, error("billing_error"), "restricted_api_key", True),
        (403, error("request_forbidden", "Country, region, or territory not supported"), "vendor_down", False),
        (403, b"<html>a wall</html>", "vendor_down", False),
        (401, b"[]", "vendor_down", False),
        (429, error("rate_limit_error"), "vendor_down", False),
        (500, error("api_error"), "vendor_down", False),
        (302, b"", "vendor_down", False),
        (200, b"<html>a captive portal</html>", "vendor_down", False),
        (200, b"{}", "vendor_down", False),
    ],
)
def test_what_the_vendor_says_about_it(
    vendor: Vendor, tmp_path: Path, name: str, status: int, body: bytes, code: str, is_permanent: bool
) -> None:
    vendor.status, vendor.body = status, body
    with pytest.raises(ProviderError) as caught:
        upstream(name, vendor.url, tmp_path).check_key(KEYS[name])
    assert (caught.value.code, caught.value.permanent) == (code, is_permanent)
    assert KEYS[name] not in str(caught.value)


@pytest.mark.parametrize("name", KEYS)
def test_a_vendor_that_cannot_be_reached_says_nothing_about_the_key(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProviderError, match="cannot be reached") as caught:
        upstream(name, f"http://127.0.0.1:{free_port()}", tmp_path).check_key(KEYS[name])
    assert not caught.value.permanent
    assert KEYS[name] not in str(caught.value) + caplog.text


def test_the_key_is_not_logged(vendor: Vendor, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx2")  # the product logs less of it
    for name, key in KEYS.items():
        upstream(name, vendor.url, tmp_path).check_key(key)
    assert "/v1/models" in caplog.text
    assert not [key for key in KEYS.values() if key in caplog.text]


@pytest.mark.parametrize("key", ["sk-ключ", "sk-a\nb: c", "sk-\x00"])
def test_what_cannot_be_a_header_is_no_key(vendor: Vendor, tmp_path: Path, key: str) -> None:
    for name in KEYS:
        with pytest.raises(ProviderError, match="does not take this key"):
            upstream(name, vendor.url, tmp_path).check_key(key)
    assert vendor.seen == []


def test_the_sandbox_takes_its_own(tmp_path: Path) -> None:
    sandbox = Sandbox(Sandbox.Options(), Settings(data_dir=tmp_path))
    sandbox.check_key("sk-sandbox-anything")
    for key in ("sk-sandbox-", "sk-ant-x", "sk-x", ""):
        with pytest.raises(ProviderError) as caught:
            sandbox.check_key(key)
        assert (caught.value.code, caught.value.permanent) == ("invalid_api_key", True)
