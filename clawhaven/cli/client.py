"""The HTTP API, seen from a terminal: every failure is a sentence with an exit code, never a traceback."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from clawhaven import __version__
from clawhaven.cli.failures import ExitCode, Failure, from_answer
from clawhaven.core.tls import authorities

TIMEOUT_SECONDS = 30.0
CHAT_TIMEOUT_SECONDS = 330.0
"""A turn may use tools for minutes; the gateway gives up after 300 seconds."""

POLL_SECONDS = 1.0
MAX_PAGES = 200


def normalise_url(text: str) -> str:
    """The API's address without a trailing slash or `/api`. Raises Failure (usage) for anything else."""
    url = text.strip().rstrip("/").removesuffix("/api")
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        _ = parts.port
    except ValueError:
        is_usable = False
    if not is_usable or parts.username or parts.password:
        raise Failure(
            "The API's address must look like https://example.com or http://127.0.0.1:8080.",
            ExitCode.USAGE,
            code="usage",
            hint="Check --api-url, CLAWHAVEN_API_URL and the stored configuration.",
        )
    return url


def _own_language() -> dict[str, str]:
    """What letters that a command causes are to be written in: LC_ALL, LC_MESSAGES or LANG, the first that is set."""
    told = next(filter(None, (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    code = re.match(r"[a-z]{2}(?=[_.@]|$)", told)
    return {"Accept-Language": code.group()} if code else {}


class Api:
    """One server. `note` receives a line per request when the person asked for it (--verbose)."""

    def __init__(self, url: str, key: str | None, note: Callable[[str], None] | None = None) -> None:
        self.url, self.has_key = url, bool(key)
        self._note = note
        headers = {"User-Agent": f"clawhaven-cli/{__version__}", "Accept": "application/json", **_own_language()}
        if key:
            if not key.isascii() or not key.isprintable() or " " in key:
                raise Failure("This API key has characters no key has.", ExitCode.USAGE, code="usage")
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx2.Client(headers=headers, follow_redirects=False, verify=authorities())

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """The answer of a GET."""
        return self.ask("GET", path, query={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        """The answer of a POST."""
        return self.ask("POST", path, body=body or {}, timeout=timeout)

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer of a POST that makes something; a repeat of this very request makes it once."""
        return self.ask("POST", path, body=body, headers={"Idempotency-Key": str(uuid.uuid4())})

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer of a PATCH."""
        return self.ask("PATCH", path, body=body)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer of a PUT."""
        return self.ask("PUT", path, body=body)

    def delete(self, path: str) -> Any:
        """The answer of a DELETE."""
        return self.ask("DELETE", path)

    def download(self, path: str) -> str:
        """A file's text. Raises Failure."""
        try:
            response = self._http.get(f"{self.url}/api{path}", timeout=CHAT_TIMEOUT_SECONDS)
        except httpx2.HTTPError as error:
            raise self._unreachable(error, CHAT_TIMEOUT_SECONDS) from None
        return response.text if response.is_success else str(self._read(response))

    @contextmanager
    def stream(self, path: str) -> Iterator[tuple[str, Iterator[bytes]]]:
        """A file of any size: its name and its pieces. Raises Failure, also when it breaks off."""
        try:
            with self._http.stream("GET", f"{self.url}/api{path}", timeout=CHAT_TIMEOUT_SECONDS) as response:
                if not response.is_success:
                    response.read()
                    self._read(response)
                told = re.search(r'filename="([\w.-]+)"', response.headers.get("content-disposition", ""))
                yield told[1] if told else "download", response.iter_bytes()
        except httpx2.HTTPError as error:
            raise self._unreachable(error, CHAT_TIMEOUT_SECONDS) from None

    def pages(self, path: str) -> dict[str, Any]:
        """Every page of a list as one: `{"items": […], "next_cursor": null}`."""
        items: list[Any] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            answer = self.get(path, cursor=cursor)
            items += items_of(answer)
            cursor = answer.get("next_cursor") if isinstance(answer, dict) else None
            if not cursor:
                break
        return {"items": items, "next_cursor": cursor}

    def wait(self, instance_id: str, operation: Mapping[str, Any], timeout_seconds: float) -> Iterator[dict[str, Any]]:
        """The operation each time it was looked at, until it is over. Raises Failure when it fails or is too slow."""
        deadline = time.monotonic() + timeout_seconds
        path = f"/instances/{part(instance_id)}/operations/{part(str(operation['id']))}"
        while True:
            try:
                answer = self.get(path)
            except Failure as failure:
                seconds = failure.details.get("retry_after")
                if not isinstance(seconds, int) or time.monotonic() + seconds > deadline:
                    raise
                time.sleep(seconds)
                continue
            seen = operation_of(answer) or answer
            yield seen
            if seen.get("state") == "failed":
                raise Failure(
                    str(seen.get("message") or "The operation failed."),
                    code=str(seen.get("error") or "failed"),
                    hint=f"See `clawhaven instances events {instance_id}`.",
                    details={"operation": seen},
                )
            if seen.get("state") == "done":
                return
            if time.monotonic() > deadline:
                raise Failure(
                    f"It is still under way after {timeout_seconds:.0f} seconds.",
                    code="timeout",
                    hint=f"It goes on without you; look with `clawhaven instances get {instance_id}`.",
                )
            time.sleep(POLL_SECONDS)

    def wait_for_comparison(self, comparison_id: str, timeout_seconds: float) -> Any:
        """The result of a comparison of the money, once there is one. Raises Failure when it broke, or takes longer."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            answer = self.get(f"/admin/reconcile/{part(comparison_id)}")
            state = (answer.get("comparison") or {}).get("state") if isinstance(answer, dict) else None
            if state == "done":
                return answer
            if state == "broken":
                raise Failure("The comparison broke; the server's log says why.", code="failed")
            if time.monotonic() > deadline:
                hint = "It goes on without you; look with `clawhaven admin reconcile`."
                raise Failure(f"It is still under way after {timeout_seconds:.0f} seconds.", code="timeout", hint=hint)
            time.sleep(POLL_SECONDS)

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """One request; the parsed answer ({} for an empty one). Raises Failure."""
        url = f"{self.url}/api{path}"
        timeout = timeout or TIMEOUT_SECONDS
        began = time.monotonic()
        try:
            response = self._http.request(method, url, json=body, params=query, headers=headers, timeout=timeout)
        except httpx2.HTTPError as error:
            raise self._unreachable(error, timeout) from None
        if self._note:
            self._note(f"{method} {url} -> {response.status_code} in {(time.monotonic() - began) * 1000:.0f} ms")
        return self._read(response)

    def _unreachable(self, error: httpx2.HTTPError, timeout: float) -> Failure:
        if isinstance(error, httpx2.ConnectTimeout | httpx2.ConnectError):
            told = str(error)
            if "CERTIFICATE" in told.upper() or "SSL" in told.upper():
                return Failure(f"The certificate of {self.url} is not trusted: {told}.", code="unreachable")
            return Failure(
                f"No server answers at {self.url}.",
                code="unreachable",
                hint="Start one with `make demo` or `clawhaven serve`, or name another with --api-url.",
            )
        if isinstance(error, httpx2.TimeoutException):
            return Failure(
                f"{self.url} did not answer within {timeout:.0f} seconds.",
                code="timeout",
                hint="Try again; what was asked for may have been done all the same.",
            )
        return Failure(
            f"The connection to {self.url} broke ({type(error).__name__}).",
            code="unreachable",
            hint="Try again; what was asked for may have been done all the same.",
        )

    def _read(self, response: httpx2.Response) -> Any:
        if 300 <= response.status_code < 400:
            raise Failure(
                f"{self.url} sends us elsewhere ({response.headers.get('location', 'without an address')}).",
                code="redirected",
                hint="Give the final address with --api-url; a key is never sent to an address you did not name.",
            )
        if not response.content and response.is_success:
            return {}
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success and answer is not None:
            return answer
        if not isinstance(answer, dict) or "error" not in answer:
            kind = response.headers.get("content-type", "no content type")
            raise Failure(
                f"{self.url} does not answer like a Clawhaven API (status {response.status_code}, {kind}).",
                code="bad_answer",
                hint="Check --api-url; it is the address of the site, without /api.",
            )
        details = answer.get("details")
        raise from_answer(
            response.status_code,
            str(answer["error"]),
            str(answer.get("message") or answer["error"]),
            details if isinstance(details, dict) else {},
            has_key=self.has_key,
            path=response.request.url.path.removeprefix(urlsplit(self.url).path),
        )


def part(text: str) -> str:
    """One segment of a path, so that an id with a slash cannot name another thing."""
    if text in ("", ".", ".."):
        raise Failure(f"{text!r} is not an id.", ExitCode.USAGE, code="usage")
    return quote(text, safe="")


def items_of(answer: Any) -> list[Any]:
    """The items of a list answer."""
    if isinstance(answer, list):
        return answer
    found = answer.get("items") if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def operation_of(answer: Any) -> dict[str, Any] | None:
    """The operation inside an answer, if it has one."""
    found = answer.get("operation") if isinstance(answer, dict) else None
    return found if isinstance(found, dict) and "id" in found else None
