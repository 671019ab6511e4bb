"""A stand-in for Google: the consent page, the token endpoints, Gmail and Calendar, as their documents describe them.

https://developers.google.com/identity/protocols/oauth2/web-server, the discovery documents gmail.v1 and calendar.v3.
It is strict where Google is: redirect addresses, PKCE, client secrets, one use of a code, scopes at the API.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT_ID = "1234-clawhaven.apps.googleusercontent.com"
CLIENT_SECRET = "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6789"
GMAIL = "https://www.googleapis.com/auth/gmail.readonly"
CALENDAR = "https://www.googleapis.com/auth/calendar.readonly"
LABELS = {GMAIL: "View your email messages and settings", CALENDAR: "See any calendar you can access"}


@dataclass
class Permission:
    """What a person gave to a client; every token of it dies with it."""

    scopes: frozenset[str]
    refresh: str
    is_dead: bool = False


@dataclass
class _Code:
    redirect_uri: str
    challenge: str
    scopes: frozenset[str]


@dataclass
class Call:
    """One request as it came, for questions about it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)


class GoogleServer:
    """`with GoogleServer(return_url) as google:`; `google.environment()` points the product at it."""

    def __init__(self, return_url: str = "http://127.0.0.1/integrations/google/callback") -> None:
        self.return_url = return_url
        self.subject, self.address = "108000000000000000001", "ada@gmail.example"
        self.calls: list[Call] = []
        self.codes: dict[str, _Code] = {}
        self.permissions: list[Permission] = []
        self.access: dict[str, Permission] = {}
        self.secrets_given: list[str] = []
        self.is_down = False
        self.api_answer: tuple[int, dict[str, Any]] | None = None
        self.revoke_answer: tuple[int, dict[str, Any]] | None = None
        self.messages: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._http = _Http(("127.0.0.1", 0), _Door)
        self._http.google = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> GoogleServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def environment(self) -> dict[str, str]:
        """Settings that send the product here."""
        names = ("GOOGLE_ACCOUNTS_URL", "GOOGLE_OAUTH_URL", "GOOGLE_GMAIL_URL", "GOOGLE_CALENDAR_URL")
        client = {"GOOGLE_CLIENT_ID": CLIENT_ID, "GOOGLE_CLIENT_SECRET": CLIENT_SECRET}
        return {**client, **dict.fromkeys(names, self.url)}

    def allow(self, consent_url: str, *scopes: str) -> dict[str, str]:
        """What a person's browser brings back after Allow; without `scopes` every box stays ticked."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(consent_url).query).items()}
        assert not self.refuse(query)
        given = frozenset(scopes) if scopes else frozenset(query["scope"].split()) & LABELS.keys()
        return {"code": self.grant(query, given), "state": query["state"]}

    def refuse(self, query: dict[str, str]) -> str:
        """Why Google would show an error instead of its consent page."""
        if query.get("client_id") != CLIENT_ID:
            return "invalid_client"
        if query.get("redirect_uri") != self.return_url:
            return "redirect_uri_mismatch"
        if query.get("response_type") != "code" or query.get("code_challenge_method") != "S256":
            return "invalid_request"
        scopes = set(query.get("scope", "").split())
        return "" if {"openid", "email"} <= scopes and scopes <= {"openid", "email", *LABELS} else "invalid_scope"

    def grant(self, query: dict[str, str], scopes: frozenset[str]) -> str:
        """A code for what was ticked."""
        code = f"4/0{secrets.token_urlsafe(24)}"
        self.codes[code] = _Code(query["redirect_uri"], query["code_challenge"], scopes)
        self.secrets_given.append(code)
        return code

    def withdraw(self) -> None:
        """The person removes the app at myaccount.google.com."""
        for one in self.permissions:
            one.is_dead = True

    def wait_until_forgotten(self) -> None:
        """Until every permission is dead; AssertionError after a minute."""
        deadline = time.monotonic() + 60
        while not (self.permissions and all(one.is_dead for one in self.permissions)):
            assert time.monotonic() < deadline, "a permission is still alive"
            time.sleep(0.05)

    def add_message(self, message_id: str, subject: str, text: str, **more: Any) -> None:
        """A message in the mailbox, in the shape of `format=full`."""
        headers = {"From": "Bob <bob@example.com>", "To": self.address, "Date": "Sat, 21 Nov 2026 10:00:00 +0000"}
        listed = [{"name": name, "value": value} for name, value in {**headers, "Subject": subject}.items()]
        body = {"mimeType": "text/plain", "filename": "", "headers": [], "body": coded(text)}
        payload = {"mimeType": "multipart/mixed", "filename": "", "headers": listed, "body": {"size": 0}}
        payload["parts"] = more.get("parts", [body])
        self.messages[message_id] = {
            "id": message_id,
            "threadId": message_id,
            "labelIds": more.get("labels", ["INBOX", "UNREAD"]),
            "snippet": html.escape(text[:100]),
            "payload": payload,
        }

    def called(self, path: str) -> list[Call]:
        """Requests to paths that begin so."""
        return [call for call in self.calls if call.path.startswith(path)]


def coded(text: str) -> dict[str, Any]:
    """A body as Gmail gives it."""
    raw = text.encode()
    return {"size": len(raw), "data": base64.urlsafe_b64encode(raw).decode()}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    google: GoogleServer


class _Door(BaseHTTPRequestHandler):
    server: _Http

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        google, (path, query) = self.server.google, self._note()
        flat = {name: values[0] for name, values in query.items()}
        if google.is_down:
            self._json(503, {"error": {"code": 503, "message": "The service is currently unavailable."}})
        elif path == "/o/oauth2/v2/auth":
            wrong = google.refuse(flat)
            self._page(400 if wrong else 200, f"<h1>Error 400: {wrong}</h1>" if wrong else _consent(google, flat))
        elif path.startswith("/gmail/"):
            self._api(GMAIL, lambda: _gmail(google, path, query))
        elif path.startswith("/calendar/"):
            self._api(CALENDAR, lambda: _calendar(google, path, flat))
        else:
            self._json(404, {"error": {"code": 404, "message": "Not Found"}})

    def do_POST(self) -> None:
        google, (path, _) = self.server.google, self._note()
        raw = self.rfile.read(int(self.headers["content-length"])).decode()
        form = parse_qs(raw)
        flat = {name: values[0] for name, values in form.items()}
        google.calls[-1].form = flat
        if google.is_down:
            self._json(503, {"error": "internal_failure"})
        elif path == "/consent":
            if flat.get("answer") == "deny":
                back = {"error": "access_denied", "state": flat["state"]}
            else:
                back = {"code": google.grant(flat, frozenset(form.get("scopes", []))), "state": flat["state"]}
            self.send_response(302)
            self.send_header("location", f"{flat['redirect_uri']}?{urlencode(back)}")
            self.end_headers()
        elif path == "/token":
            self._json(*_token(google, flat))
        elif path == "/revoke":
            self._json(*(google.revoke_answer or _revoke(google, flat.get("token", ""))))
        else:
            self._json(404, {"error": "not_found"})

    def _note(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.google.calls.append(Call(self.command, parts.path, query, headers))
        return parts.path, query

    def _api(self, scope: str, answer: Any) -> None:
        google = self.server.google
        permission = google.access.get(self.headers.get("authorization", "").removeprefix("Bearer "))
        if permission is None or permission.is_dead:
            self._json(401, _problem(401, "Invalid Credentials", "authError"))
        elif scope not in permission.scopes:
            self._json(403, _problem(403, "Request had insufficient authentication scopes.", "insufficientPermissions"))
        else:
            self._json(*(google.api_answer or answer()))

    def _json(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=UTF-8")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _page(self, status: int, body: str) -> None:
        head = "<!doctype html><html lang=en><link rel=icon href='data:,'><title>Sign in</title>"
        raw = f"{head}<main>{body}</main></html>".encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def _consent(google: GoogleServer, query: dict[str, str]) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in query.items()
        if name in ("redirect_uri", "code_challenge", "state")
    )
    boxes = "".join(
        f'<p><label><input type="checkbox" name="scopes" value="{scope}" checked> {LABELS[scope]}</label></p>'
        for scope in query["scope"].split()
        if scope in LABELS
    )
    buttons = '<button name="answer" value="allow">Allow</button><button name="answer" value="deny">Deny</button>'
    return f'<h1>{google.address}</h1><form method="post" action="/consent">{hidden}{boxes}{buttons}</form>'


def _token(google: GoogleServer, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
    if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
        return 401, {"error": "invalid_client", "error_description": "The OAuth client was not found."}
    if form.get("grant_type") == "authorization_code":
        code = google.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if code is None or code.challenge != challenge or code.redirect_uri != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant", "error_description": "Bad Request"}
        permission = Permission(code.scopes, f"1//0{secrets.token_urlsafe(40)}")
        google.permissions.append(permission)
        google.secrets_given.append(permission.refresh)
        claims = {
            "sub": google.subject,
            "email": google.address,
            "aud": CLIENT_ID,
            "iss": "https://accounts.google.com",
        }
        signed = ".".join(_part(part) for part in ({"alg": "RS256"}, claims)) + ".c2lnbmF0dXJl"
        return 200, _issue(google, permission) | {"refresh_token": permission.refresh, "id_token": signed}
    found = [one for one in google.permissions if one.refresh == form.get("refresh_token") and not one.is_dead]
    if form.get("grant_type") != "refresh_token" or not found:
        return 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    return 200, _issue(google, found[0])


def _issue(google: GoogleServer, permission: Permission) -> dict[str, Any]:
    token = f"ya29.{secrets.token_urlsafe(60)}"
    google.access[token] = permission
    google.secrets_given.append(token)
    scope = " ".join(sorted({"openid", "https://www.googleapis.com/auth/userinfo.email", *permission.scopes}))
    return {"access_token": token, "expires_in": 3599, "scope": scope, "token_type": "Bearer"}


def _part(value: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _revoke(google: GoogleServer, token: str) -> tuple[int, dict[str, Any]]:
    """All of what the person gave to this client ends with one of its tokens, as at Google."""
    known = [one for one in google.permissions if token == one.refresh or google.access.get(token) is one]
    if not known or known[0].is_dead:
        return 400, {"error": "invalid_token", "error_description": "Token expired or revoked"}
    google.withdraw()
    return 200, {}


def _gmail(google: GoogleServer, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
    if path == "/gmail/v1/users/me/messages":
        word = re.sub(r"\b\w+:", "", query.get("q", [""])[0]).lower()
        fitting = [one for one in google.messages.values() if word in json.dumps(one).lower()]
        most = int(query["maxResults"][0])
        listed = [{"id": one["id"], "threadId": one["threadId"]} for one in fitting[:most]]
        more = {"nextPageToken": "09"} if len(fitting) > most else {}
        return 200, {**({"messages": listed} if listed else {}), "resultSizeEstimate": len(fitting), **more}
    found = google.messages.get(path.rpartition("/")[2])
    if found is None:
        return 404, _problem(404, "Requested entity was not found.", "notFound")
    if query["format"] == ["metadata"]:
        wanted = {name.lower() for name in query["metadataHeaders"]}
        headers = [one for one in found["payload"]["headers"] if one["name"].lower() in wanted]
        return 200, {**found, "payload": {"mimeType": found["payload"]["mimeType"], "headers": headers}}
    return 200, found


def _calendar(google: GoogleServer, path: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
    if path != "/calendar/v3/calendars/primary/events":
        return 404, _problem(404, "Not Found", "notFound")
    assert query["singleEvents"] == "true"
    for name in ("timeMin", "timeMax"):
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", query[name]):
            return 400, _problem(400, "Bad Request", "badRequest")
    most = int(query["maxResults"])
    more = {"nextPageToken": "x"} if len(google.events) > most else {}
    head = {"kind": "calendar#events", "summary": google.address, "timeZone": "Europe/Vienna"}
    return 200, {**head, "items": google.events[:most], **more}


def _problem(status: int, message: str, reason: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}}
