"""Calls to Creem's API: one header, plain JSON, errors as sentences that hold no secret.

Source: docs.creem.io, "API reference" and "Error handling".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, NoReturn

import httpx2

from clawhaven.core.tls import authorities
from clawhaven.ports.errors import ProviderError

_TIMEOUT: Final = httpx2.Timeout(20.0, connect=5.0)
_READ_TRIES: Final = 3
_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 5.0
_PAGE_SIZE: Final = 50
_MOST_PAGES: Final = 200
_MOST_WORDS: Final = 200


class Calls:
    """Creem's API at `url`. Reads are tried three times while Creem is down or busy, writes once."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: httpx2.Timeout = _TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url, self._key, self._timeout, self._sleep = url, key, timeout, sleep

    def get(self, path: str, params: Mapping[str, str | int], noun: str) -> dict[str, Any]:
        """The object at `path`. ProviderError `unknown_<noun>` (permanent) when Creem has none."""
        wait = _FIRST_WAIT_SECONDS
        for left in range(_READ_TRIES - 1, -1, -1):
            try:
                return self._send("GET", path, params, None, noun)
            except _Passing as trouble:
                if not left:
                    raise ProviderError(trouble.message, code=trouble.code) from None
                self._sleep(min(_LONGEST_WAIT_SECONDS, max(wait, trouble.wait_seconds)))
                wait *= 2
        raise AssertionError("unreachable")

    def post(self, path: str, body: Mapping[str, Any], noun: str) -> dict[str, Any]:
        """Do something. Never repeated here: after an error that is not permanent it may have happened."""
        try:
            return self._send("POST", path, {}, body, noun)
        except _Passing as trouble:
            raise ProviderError(trouble.message, code=trouble.code) from None

    def pages(
        self, path: str, params: Mapping[str, str | int], noun: str, most: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The first `most` items of a list, page after page; None: all, ProviderError `too_many` beyond 10,000."""
        count = 0
        for number in range(1, _MOST_PAGES + 1):
            page = self.get(path, {**params, "page_number": number, "page_size": _PAGE_SIZE}, noun)
            items, paging = page.get("items"), page.get("pagination")
            if not isinstance(items, list) or not isinstance(paging, dict):
                raise unexpected()
            for item in items:
                if not isinstance(item, dict):
                    raise unexpected()
                yield item
                count += 1
                if count == most:
                    return
            if not items or not paging.get("next_page"):
                return
        raise ProviderError("Creem's list is longer than this product reads.", code="too_many")

    @cached_property
    def _client(self) -> httpx2.Client:
        return httpx2.Client(timeout=self._timeout, follow_redirects=False, verify=authorities())

    def _send(
        self, verb: str, path: str, params: Mapping[str, str | int], body: Mapping[str, Any] | None, noun: str
    ) -> dict[str, Any]:
        trouble = ""
        answer: httpx2.Response | None = None
        try:
            answer = self._client.request(
                verb, f"{self._url}{path}", params=dict(params), json=body, headers={"x-api-key": self._key}
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            trouble = type(error).__name__
        if answer is None:  # raised here, so that no exception that knows the request is chained
            raise _Passing(f"Creem cannot be reached ({trouble}).", "creem_down")
        return self._read(answer, noun)

    def _read(self, answer: httpx2.Response, noun: str) -> dict[str, Any]:
        status = answer.status_code
        if status in (401, 403):
            raise ProviderError(
                "Creem refuses CREEM_API_KEY: it is wrong, or a key of the other mode (test or live).",
                permanent=True,
                code="creem_key",
            )
        if status == 404:
            raise ProviderError(f"Creem has no such {noun}.", permanent=True, code=f"unknown_{noun}")
        if status == 429:
            raise _Passing("Creem asks us to wait.", "rate_limited", _seconds(answer.headers.get("retry-after", "")))
        if status >= 500:
            raise _Passing(f"Creem is in trouble ({status}).", "creem_down")
        body = _decode(answer.content)
        if 400 <= status < 500:
            said = self._plain(body.get("message") if body else None)
            raise ProviderError(f"Creem refused the call ({status}){said}.", permanent=True, code="creem_refused")
        if status not in (200, 201) or body is None:
            raise unexpected()
        return body

    def _plain(self, words: Any) -> str:
        """Creem's own words, which may repeat what was sent: without our key and without mail addresses."""
        text = "; ".join(str(word) for word in words) if isinstance(words, list) else str(words or "")
        text = re.sub(r"\S+@\S+|creem_\w+|whsec_\w+", "…", text.replace(self._key, "…") if self._key else text)
        text = "".join(sign if sign.isprintable() else " " for sign in text).strip(" .")[:_MOST_WORDS]
        return f": {text}" if text else ""


class _Passing(Exception):
    """Trouble that may be gone in a moment."""

    def __init__(self, message: str, code: str, wait_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.message, self.code, self.wait_seconds = message, code, wait_seconds


def unexpected() -> ProviderError:
    """An answer that Creem's documentation does not know."""
    return ProviderError("CREEM_API_URL did not answer as Creem does.", code="unexpected_answer")


def refused(code: str, message: str) -> ProviderError:
    """An error that the same call would meet again."""
    return ProviderError(message, permanent=True, code=code)


def not_offered(what: str) -> NoReturn:
    """Raises the ProviderError (permanent) of what Creem cannot do."""
    raise refused("not_offered", f"Creem does not offer {what}.")


def too_early() -> ProviderError:
    """What is asked for will be there in a moment."""
    return ProviderError("Creem has not booked this payment yet.", code="not_booked_yet")


def _decode(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
