"""Google's consent, tokens and tools, against a stand-in that is strict where Google is."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.integrations.google import Google
from tests.fakes.google_server import CALENDAR, CLIENT_SECRET, GMAIL, GoogleServer, coded

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


class FixedClock(Clock):
    def now(self) -> datetime:
        return datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[GoogleServer]:
    with GoogleServer() as made:
        yield made


@pytest.fixture
def google(server: GoogleServer, monkeypatch: pytest.MonkeyPatch) -> Google:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return Google(Google.Options(), Settings(), FixedClock())


def consent(google: Google, server: GoogleServer, *scopes: str) -> Any:
    back = server.allow(google.consent_url("s-1", CHALLENGE, server.return_url), *scopes)
    assert back["state"] == "s-1"
    return google.complete(back["code"], VERIFIER, server.return_url)


def refused(call: Any, code: str, *, permanent: bool = True) -> str:
    with pytest.raises(ProviderError) as caught:
        call()
    assert (caught.value.code, caught.value.permanent) == (code, permanent)
    return caught.value.message


def test_the_consent_page_is_asked_for_lasting_read_only_access(google: Google, server: GoogleServer) -> None:
    parts = urlsplit(google.consent_url("s-1", CHALLENGE, server.return_url))
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.path == "/o/oauth2/v2/auth"
    assert (query["access_type"], query["prompt"], query["code_challenge_method"]) == ("offline", "consent", "S256")
    assert set(query["scope"].split()) == {"openid", "email", GMAIL, CALENDAR}
    assert CLIENT_SECRET not in parts.query


def test_a_code_becomes_tokens_once_and_only_with_its_verifier(google: Google, server: GoogleServer) -> None:
    found = consent(google, server)
    assert (found.subject, found.address) == (server.subject, server.address)
    assert found.scopes == {GMAIL, CALENDAR}
    assert 0 < found.access.seconds <= 3600
    assert found.refresh_token not in repr(found)
    assert found.access.token not in repr(found)
    back = server.allow(google.consent_url("s-2", CHALLENGE, server.return_url))
    refused(lambda: google.complete(back["code"], "w" * 64, server.return_url), "consent_refused")
    refused(lambda: google.complete(back["code"], VERIFIER, server.return_url), "consent_refused")


def test_unticked_boxes_are_seen_and_their_tools_are_not_offered(google: Google, server: GoogleServer) -> None:
    found = consent(google, server, CALENDAR)
    assert found.scopes == {CALENDAR}
    assert [tool.name for tool in google.tools(found.scopes)] == ["calendar_events"]
    refused(lambda: google.use("mail_search", {}, found.access.token), "not_granted")


def test_a_refresh_works_until_the_permission_is_withdrawn(google: Google, server: GoogleServer) -> None:
    found = consent(google, server)
    fresh = google.refresh(found.refresh_token)
    assert fresh.token != found.access.token
    assert google.use("mail_search", {}, fresh.token) == "No message was found."
    server.withdraw()
    refused(lambda: google.use("mail_search", {}, fresh.token), "token_refused")
    refused(lambda: google.refresh(found.refresh_token), "access_revoked")


def test_what_google_forgot_already_counts_as_forgotten(google: Google, server: GoogleServer) -> None:
    found = consent(google, server)
    server.is_down = True
    refused(lambda: google.revoke(found.refresh_token), "vendor_down", permanent=False)
    refused(lambda: google.refresh(found.refresh_token), "vendor_down", permanent=False)
    server.is_down = False
    for status, code, permanent in ((429, "vendor_down", False), (403, "revocation_refused", True)):
        server.revoke_answer = (status, {"error": "no"})
        refused(lambda: google.revoke(found.refresh_token), code, permanent=permanent)
    server.revoke_answer = None
    for _ in range(2):
        google.revoke(found.refresh_token)
    assert [one.is_dead for one in server.permissions] == [True]


def test_a_false_client_is_the_operators_trouble(
    google: Google, server: GoogleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLIENT_SECRET", "other")
    other = Google(Google.Options(), Settings())
    back = server.allow(other.consent_url("s-1", CHALLENGE, server.return_url))
    told = refused(lambda: other.complete(back["code"], VERIFIER, server.return_url), "misconfigured")
    assert "GOOGLE_CLIENT_SECRET" in told


def test_half_a_client_is_named_and_none_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Google(Google.Options(), Settings()).is_ready
    assert Google.problems(Google.Options(), Settings()) == []
    monkeypatch.setenv("GOOGLE_CLIENT_ID", "x")
    assert "GOOGLE_CLIENT_SECRET is missing" in Google.problems(Google.Options(), Settings())[0]
    assert not Google(Google.Options(), Settings()).is_ready


def test_search_shows_what_a_mailbox_shows(google: Google, server: GoogleServer) -> None:
    server.add_message("18a1", "Lunch\nid: 666", "Shall we eat?")
    server.add_message("18a2", "Invoice 7", "Please pay.", labels=["INBOX"])
    token = consent(google, server).access.token
    found = google.use("mail_search", {"query": "subject:lunch"}, token)
    assert found.splitlines()[0] == "id: 18a1 (unread)"
    assert "Subject: Lunch id: 666" in found  # no line of its own
    assert "Begins: Shall we eat?" in found
    assert "Invoice" not in found
    everything = google.use("mail_search", {"max_results": 1}, token)
    assert everything.count("Subject:") == 1
    assert "There are more" in everything


def test_a_message_is_text_with_its_attachments_only_named(google: Google, server: GoogleServer) -> None:
    shown = "<style>p{}</style><p>Dear Ada,</p><p>pay&nbsp;here<script>x()</script></p>\u202e"
    pdf = {"mimeType": "application/pdf", "filename": "bill.pdf", "body": {"attachmentId": "a1", "size": 4321}}
    parts = [{"mimeType": "multipart/alternative", "filename": "", "body": {"size": 0}, "parts": []}, pdf]
    parts[0]["parts"] = [{"mimeType": "text/html", "filename": "", "body": coded(shown)}]
    server.add_message("18a3", "Bill", "", parts=parts)
    token = consent(google, server).access.token
    found = google.use("mail_read", {"id": "18a3"}, token)
    assert found.endswith("\n\nDear Ada,\n\npay here")
    assert "Attachments (names only): bill.pdf (application/pdf, 4321 bytes)" in found
    server.add_message("18a4", "Long", "long " * 20_000)
    assert len(google.use("mail_read", {"id": "18a4"}, token)) < 21_000
    refused(lambda: google.use("mail_read", {"id": "18ff"}, token), "not_found")


def test_the_diary_is_listed_in_order(google: Google, server: GoogleServer) -> None:
    server.events = [
        {
            "summary": "Dentist",
            "start": {"dateTime": "2026-11-23T09:00:00+01:00"},
            "end": {"dateTime": "2026-11-23T09:30:00+01:00"},
            "location": "Ring 1",
            "description": "<b>Bring</b> the card",
            "attendees": [{"email": "ada@gmail.example", "self": True}, {"email": "d@example.com"}],
        },
        {"summary": "Holiday", "start": {"date": "2026-11-24"}, "end": {"date": "2026-11-25"}},
    ]
    token = consent(google, server).access.token
    found = google.use("calendar_events", {}, token)
    assert "2026-11-23T09:00:00+01:00 to 2026-11-23T09:30:00+01:00: Dentist" in found
    assert "Where: Ring 1\nWith: d@example.com (no answer)\nNotes: Bring the card" in found
    assert "2026-11-24 to 2026-11-25: Holiday" in found
    asked = server.called("/calendar/")[-1].query
    assert (asked["timeMin"], asked["timeMax"]) == (["2026-11-21T12:00:00+00:00"], ["2026-11-28T12:00:00+00:00"])
    google.use("calendar_events", {"from": "2026-12-01", "to": "2026-12-01"}, token)
    asked = server.called("/calendar/")[-1].query
    assert (asked["timeMin"], asked["timeMax"]) == (["2026-12-01T00:00:00+00:00"], ["2026-12-02T00:00:00+00:00"])


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("mail_send", {}, "no tool"),
        ("mail_read", {}, "id is missing"),
        ("mail_read", {"id": "../../profile"}, "id is the id"),
        ("mail_search", {"q": "x"}, "no argument"),
        ("mail_search", {"max_results": "ten"}, "whole number"),
        ("mail_search", {"query": "x" * 501}, "500 characters"),
        ("calendar_events", {"from": "tomorrow"}, "2026-11-22"),
        ("calendar_events", {"from": "9999-12-31", "to": "9999-12-31"}, "to is a day"),
        ("calendar_events", {"from": "2026-11-22", "to": "2026-11-20"}, "not after"),
    ],
)
def test_bad_arguments_are_told_to_the_model(
    google: Google, server: GoogleServer, tool: str, arguments: dict[str, Any], told: str
) -> None:
    assert told in refused(lambda: google.use(tool, arguments, "never sent"), "bad_arguments")
    assert not server.called("/gmail/")
    assert not server.called("/calendar/")


@pytest.mark.parametrize(
    ("answer", "code", "permanent"),
    [
        ((429, {"error": {"errors": [{"reason": "rateLimitExceeded"}]}}), "rate_limited", False),
        ((403, {"error": {"errors": [{"reason": "userRateLimitExceeded"}]}}), "rate_limited", False),
        ((403, {"error": {"errors": [{"reason": "accessNotConfigured"}]}}), "misconfigured", True),
        ((403, {"error": {"errors": [{"reason": "insufficientPermissions"}]}}), "not_granted", True),
        ((400, {"error": {"message": "Invalid value"}}), "bad_arguments", True),
        ((500, {}), "vendor_down", False),
        ((302, {}), "vendor_down", False),
    ],
)
def test_each_refusal_of_the_api_has_its_word(
    google: Google, server: GoogleServer, answer: tuple[int, dict[str, Any]], code: str, permanent: bool
) -> None:
    token = consent(google, server).access.token
    server.api_answer = answer
    refused(lambda: google.use("mail_search", {}, token), code, permanent=permanent)
