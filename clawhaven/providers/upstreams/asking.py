"""Asking a vendor whether it takes a key: `GET /v1/models`, which costs nothing and needs one.

The key is a header, so it is in no address; it must not reach a log, an exception or a repr from here.
https://platform.claude.com/docs/en/api/models/list, https://developers.openai.com/api/reference/resources/models
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2

from clawhaven.core.tls import authorities
from clawhaven.ports.errors import ProviderError

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0


def check_key(label: str, url: str, headers: Mapping[str, str]) -> None:
    """Raises ProviderError as ports.upstream.Upstream.check_key says."""
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise _invalid(label)
    timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    answer: httpx2.Response | None = None
    trouble = ""
    try:
        with httpx2.Client(timeout=timeout, follow_redirects=False, verify=authorities()) as client:
            answer = client.get(url, headers=dict(headers))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        trouble = type(error).__name__
    if answer is None:
        raise ProviderError(f"{label} cannot be reached ({trouble}).", code="vendor_down")
    body = _object(answer)
    if answer.status_code == 200 and isinstance(body.get("data"), list):
        return
    if answer.status_code in (401, 402, 403) and isinstance(body.get("error"), dict):
        told = str(body["error"].get("message"))
        # OpenAI answers 401 or 403 for a restricted key; its 403 without scopes is about the country we ask from.
        if "issing scopes" in told or body["error"].get("type") in ("permission_error", "billing_error"):
            raise ProviderError(
                f"{label} knows this key, but it may not use models.", permanent=True, code="restricted_api_key"
            )
        if answer.status_code == 401:
            raise _invalid(label)
    raise ProviderError(f"{label} did not answer as it should (status {answer.status_code}).", code="vendor_down")


def _invalid(label: str) -> ProviderError:
    return ProviderError(f"{label} does not take this key.", permanent=True, code="invalid_api_key")


def _object(answer: httpx2.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
