"""Gmail and Google Calendar, read-only: consent, tokens and the calls that both share.

https://developers.google.com/identity/protocols/oauth2/web-server (consent, token, refresh, revoke, granular
permissions), https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload,
https://developers.google.com/workspace/gmail/api/guides/handle-errors. Scopes: gmail.v1 and calendar.v3 discovery
documents. No token reaches a log, an exception, an address or a repr from here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx2
from pydantic import Field, SecretStr, field_validator

from clawhaven.core.clock import Clock
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.core.tls import authorities
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.integration import Access, Consent, Part, Tool
from clawhaven.providers.integrations import google_calendar, google_mail
from clawhaven.providers.integrations.asking import Ask, check

GMAIL: Final = "https://www.googleapis.com/auth/gmail.readonly"
CALENDAR: Final = "https://www.googleapis.com/auth/calendar.readonly"
SIGN_IN: Final = ("openid", "email")

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0
LONGEST_ANSWER: Final = 8_000_000
"""Bytes of one answer that are read; a message's attachments are not in it."""

_TOOLS: Final[Mapping[str, tuple[str, Tool, Callable[..., str]]]] = {
    tool.name: (scope, tool, run)
    for scope, tool, run in (
        (GMAIL, google_mail.SEARCH, google_mail.search),
        (GMAIL, google_mail.READ, google_mail.read),
        (CALENDAR, google_calendar.EVENTS, google_calendar.list_events),
    )
}


class Google:
    """Implements ports.integration.Integration."""

    name = "google"
    label = "Google"
    parts = (Part(GMAIL, "Gmail"), Part(CALENDAR, "Google Calendar"))
    missing = "Set GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET to let customers connect Gmail and Google Calendar."

    class Options(EnvSettings):
        """Settings of the Google integration."""

        google_client_id: str = Field(
            "", description="OAuth client of your Google Cloud project. Empty: customers cannot connect Google."
        )
        google_client_secret: SecretStr = Field(SecretStr(""), description="The client's secret.")
        google_accounts_url: str = Field("https://accounts.google.com", description="Where customers give consent.")
        google_oauth_url: str = Field("https://oauth2.googleapis.com", description="Google's token endpoints.")
        google_gmail_url: str = Field("https://gmail.googleapis.com", description="The Gmail API.")
        google_calendar_url: str = Field("https://www.googleapis.com", description="The Calendar API.")

        @field_validator("google_accounts_url", "google_oauth_url", "google_gmail_url", "google_calendar_url")
        @classmethod
        def _check_address(cls, value: str) -> str:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError("must be an http or https address")
            return value.rstrip("/")

    @staticmethod
    def problems(options: Options, settings: Settings) -> list[str]:
        """Half of a client is a mistake."""
        has_id, has_secret = bool(options.google_client_id), bool(options.google_client_secret.get_secret_value())
        if has_id == has_secret:
            return []
        missing = "GOOGLE_CLIENT_SECRET" if has_id else "GOOGLE_CLIENT_ID"
        return [f"{missing} is missing: the Google integration needs both halves of an OAuth client, or neither."]

    def __init__(self, options: Options, settings: Settings, clock: Clock | None = None) -> None:
        self._options, self._clock = options, clock or Clock()
        self._secret = options.google_client_secret.get_secret_value()
        self.consent_origin = options.google_accounts_url
        self.is_ready = bool(options.google_client_id and self._secret)

    @cached_property
    def _client(self) -> httpx2.Client:
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        return httpx2.Client(timeout=timeout, follow_redirects=False, verify=authorities())

    def consent_url(self, state: str, challenge: str, return_url: str) -> str:
        """Google's consent page. `prompt=consent`: only then does Google give a refresh token every time."""
        query = {
            "client_id": self._options.google_client_id,
            "redirect_uri": return_url,
            "response_type": "code",
            "scope": " ".join([*SIGN_IN, *(part.scope for part in self.parts)]),
            "access_type": "offline",
            "prompt": "consent",
            "include_granted_scopes": "false",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._options.google_accounts_url}/o/oauth2/v2/auth?{urlencode(query)}"

    def complete(self, code: str, verifier: str, return_url: str) -> Consent:
        """POST /token with the code."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": return_url}
        found = self._token(form, refused="consent_refused")
        who = _claims(found.get("id_token"))
        subject, address = who.get("sub"), who.get("email")
        refresh = found.get("refresh_token")
        is_ours = who.get("aud") == self._options.google_client_id
        if not (is_ours and isinstance(subject, str) and subject and isinstance(address, str) and address):
            raise ProviderError("Google did not say whose account this is.", permanent=True, code="consent_refused")
        if not isinstance(refresh, str) or not refresh:
            raise ProviderError("Google gave no lasting permission.", permanent=True, code="consent_refused")
        scopes = frozenset(str(found.get("scope", "")).split())
        wanted = frozenset(part.scope for part in self.parts)
        return Consent(subject[:255], address[:320], scopes & wanted, refresh, _access(found))

    def refresh(self, refresh_token: str) -> Access:
        """POST /token with the refresh token."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return _access(self._token(form, refused="access_revoked"))

    def revoke(self, token: str) -> None:
        """POST /revoke. A token that Google does not know (any more) is what was wanted."""
        status, body = self._send("POST", f"{self._options.google_oauth_url}/revoke", data={"token": token})
        if status == 200 or (status == 400 and body.get("error") in ("invalid_token", "invalid_grant")):
            return
        told = f"Google did not revoke the access (status {status})."
        if 400 <= status < 500 and status not in (408, 429):
            raise ProviderError(told, permanent=True, code="revocation_refused")
        raise ProviderError(told, code="vendor_down")

    def tools(self, scopes: Collection[str]) -> Sequence[Tool]:
        """Those whose scope was granted."""
        return [tool for scope, tool, _ in _TOOLS.values() if scope in scopes]

    def use(self, tool: str, arguments: Mapping[str, Any], access_token: str) -> str:
        """Gmail's and Calendar's calls are in files of their own; both ask through here."""
        known = _TOOLS.get(tool)
        if known is None:
            raise ProviderError(f"There is no tool {tool[:60]!r}.", permanent=True, code="bad_arguments")
        scope, described, run = known
        given = check(described.parameters, arguments)
        base = self._options.google_gmail_url if scope == GMAIL else self._options.google_calendar_url
        return run(self._ask(base, access_token), given, self._clock.now())

    def _ask(self, base: str, access_token: str) -> Ask:
        def ask(path: str, query: Mapping[str, Any]) -> Mapping[str, Any]:
            headers = {"authorization": f"Bearer {access_token}"}
            status, body = self._send("GET", base + path, params=query, headers=headers)
            if status == 200:
                return body
            raise _api_error(status, body)

        return ask

    def _token(self, form: Mapping[str, str], *, refused: str) -> Mapping[str, Any]:
        client = {"client_id": self._options.google_client_id, "client_secret": self._secret}
        status, body = self._send("POST", f"{self._options.google_oauth_url}/token", data={**client, **form})
        if status == 200 and isinstance(body.get("access_token"), str):
            return body
        error = body.get("error")
        if status in (400, 401) and error == "invalid_grant":
            raise ProviderError("Google does not take this permission any more.", permanent=True, code=refused)
        if status in (400, 401, 403) and isinstance(error, str):
            told = f"Google refuses our OAuth client ({error[:60]}). Check GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET."
            raise ProviderError(told, permanent=True, code="misconfigured")
        raise _down(f"status {status}")

    def _send(self, method: str, url: str, **more: Any) -> tuple[int, Mapping[str, Any]]:
        trouble, raw, status = "", bytearray(), 0
        try:
            with self._client.stream(method, url, **more) as answer:
                status = answer.status_code
                for piece in answer.iter_bytes():
                    raw += piece
                    if len(raw) > LONGEST_ANSWER:
                        trouble = "too long an answer"
                        break
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            trouble = type(error).__name__
        if trouble:
            raise _down(trouble)  # here, so that no exception that knows the request is chained
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            body = {}
        return status, body if isinstance(body, dict) else {}


def _access(found: Mapping[str, Any]) -> Access:
    seconds = found.get("expires_in")
    return Access(str(found["access_token"]), int(seconds) if isinstance(seconds, int) and seconds > 0 else 300)


def _claims(id_token: Any) -> Mapping[str, Any]:
    """What the id token says. It came from Google's own endpoint over TLS, for our secret: no signature to check
    (OpenID Connect Core 3.1.3.7, 6)."""
    parts = id_token.split(".") if isinstance(id_token, str) else []
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _api_error(status: int, body: Mapping[str, Any]) -> ProviderError:
    told = body.get("error")
    error: Mapping[str, Any] = told if isinstance(told, dict) else {}
    listed = error.get("errors")
    reasons = {str(one.get("reason")) for one in listed if isinstance(one, dict)} if isinstance(listed, list) else set()
    if status == 401:
        return ProviderError("Google does not take the access token.", permanent=True, code="token_refused")
    if status == 429 or reasons & {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"}:
        return ProviderError("Google asks to wait a little before the next question.", code="rate_limited")
    if reasons & {"accessNotConfigured"}:
        return ProviderError(
            "Google says that this API is not switched on for this site. Its operator has to enable it.",
            permanent=True,
            code="misconfigured",
        )
    if status == 403:
        return ProviderError("Google says that this was not permitted.", permanent=True, code="not_granted")
    if status in (404, 410):
        return ProviderError("Google has no such thing.", permanent=True, code="not_found")
    if status == 400:
        said = error.get("message")
        return ProviderError(f"Google refused the question: {str(said)[:200]}", permanent=True, code="bad_arguments")
    return _down(f"status {status}")


def _down(trouble: str) -> ProviderError:
    return ProviderError(f"Google did not answer as it should ({trouble}).", code="vendor_down")
