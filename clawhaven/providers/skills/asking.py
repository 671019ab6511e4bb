"""One question to a vendor of skills: the key is a header, so it is in no address; nothing of it leaves this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from clawhaven.core.tls import authorities
from clawhaven.ports.errors import ProviderError

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0


def ask(label: str, url: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that a GET brings back; an empty one for anything else.

    Raises ProviderError: `vendor_down` when nobody answers, permanent `invalid_api_key` for a key no header can hold.
    """
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise refused(label)
    timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    trouble = ""
    answer: httpx2.Response | None = None
    try:
        with httpx2.Client(timeout=timeout, follow_redirects=False, verify=authorities()) as client:
            answer = client.get(url, headers=dict(headers))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        trouble = type(error).__name__
    if answer is None:
        raise ProviderError(f"{label} cannot be reached ({trouble}).", code="vendor_down")
    try:
        body = answer.json()
    except ValueError:
        body = None
    return answer.status_code, body if isinstance(body, dict) else {}


def refused(label: str) -> ProviderError:
    """The vendor does not know the key."""
    return ProviderError(f"{label} does not take this key.", permanent=True, code="invalid_api_key")


def restricted(label: str) -> ProviderError:
    """The vendor knows the key, and does not let it do what the skill needs."""
    return ProviderError(
        f"{label} knows this key, but it may not be used for this.", permanent=True, code="restricted_api_key"
    )


def unclear(label: str, status: int) -> ProviderError:
    """The vendor says nothing about the key."""
    return ProviderError(f"{label} did not answer as it should (status {status}).", code="vendor_down")


def check_address(setting: str, value: str) -> str:
    """A vendor's base address without a slash at its end. Raises ValueError naming the setting."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{setting} must be an http or https address")
    return value.rstrip("/")
