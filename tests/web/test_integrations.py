"""Connecting, attaching and disconnecting on the pages, with a stand-in for Google."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from clawhaven.integrations import attachments, connected
from clawhaven.workflows import integrations, reading
from tests.fakes.google_server import CALENDAR, GoogleServer
from tests.web.browser import LOOKS, Watcher, check, open_chromium
from tests.web.conftest import Visit

PAGE = "/settings/integrations"


@pytest.fixture
def google(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    with GoogleServer(f"{settings.base_url}/integrations/google/callback") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def ctx(google: GoogleServer, ctx: Context) -> Context:
    """With Google switched on: settings are read when the context is built."""
    return ctx


def to_google(visit: Visit, page: str = PAGE, **fields: str) -> str:
    """Press Connect; the address of the consent page."""
    answer = visit.post(f"{PAGE}/google/connect", page, **fields)
    assert answer.status_code == 303
    return str(answer.headers["location"])


def come_back(visit: Visit, back: dict[str, str]) -> str:
    """What the browser does when Google sends it back; where it ends."""
    answer = visit.get("/integrations/google/callback", params=back)
    assert answer.status_code == 303
    return str(answer.headers["location"])


def connect(visit: Visit, google: GoogleServer) -> None:
    assert come_back(visit, google.allow(to_google(visit))) == f"{PAGE}?done=integration-connected"


def test_connect_attach_detach_disconnect(mine: Visit, live: str, google: GoogleServer, ctx: Context) -> None:
    tab = f"/instances/{live}/integrations"
    assert "Connect Google" in mine.get(tab).text
    back = google.allow(to_google(mine, tab, back_to=tab), CALENDAR)
    assert come_back(mine, back) == f"{tab}?done=integration-connected"
    html = mine.get(PAGE).text
    assert google.address in html
    assert "You did not give permission for Gmail" in html
    assert mine.post(f"{tab}/google/attach", tab).headers["location"] == f"{tab}?done=integration-attached"
    assert "Stop reading" in mine.get(tab).text
    assert f'href="{tab}"' in mine.get(PAGE).text
    assert mine.post(f"{tab}/google/detach", tab).headers["location"] == f"{tab}?done=integration-detached"
    assert mine.post(f"{tab}/google/attach", tab).status_code == 303
    assert mine.post(f"{PAGE}/google/disconnect", PAGE).headers["location"] == f"{PAGE}?done=integration-disconnected"
    html = mine.get(PAGE).text
    assert "has not confirmed yet" in html
    assert google.address not in html
    assert "Let it read" not in mine.get(tab).text
    with ctx.db.read() as db:
        assert attachments.list_of(db, live) == []


def test_no_page_shows_a_token(mine: Visit, live: str, google: GoogleServer) -> None:
    connect(mine, google)
    seen = "".join(mine.get(path).text for path in (PAGE, f"/instances/{live}/integrations", "/settings/export"))
    assert google.address in seen
    assert not [secret for secret in google.secrets_given if secret in seen]


@pytest.mark.parametrize(
    ("back", "told"),
    [
        ({"error": "access_denied"}, "You did not agree there"),
        ({"code": "made-up"}, "came too late"),
        ({"code": "x", "state": "not-ours"}, "came too late"),
        ({}, "You did not agree there"),
    ],
)
def test_whoever_comes_back_without_consent_is_told(
    mine: Visit, google: GoogleServer, back: dict[str, str], told: str
) -> None:
    state = google.allow(to_google(mine))["state"]
    answer = mine.get("/integrations/google/callback", params={"state": state, **back})
    assert answer.status_code == 409
    assert told in answer.text


def test_what_others_began_cannot_be_ended_here(
    mine: Visit, stranger: Visit, visit: Visit, google: GoogleServer, ctx: Context
) -> None:
    theirs = google.allow(to_google(stranger))
    assert mine.get("/integrations/google/callback", params=theirs).status_code == 409
    nobody = visit.get("/integrations/google/callback", params=theirs)
    assert nobody.headers["location"].startswith("/sign-in?next=")
    assert theirs["code"] not in nobody.headers["location"]
    assert come_back(stranger, theirs) == f"{PAGE}?done=integration-connected"
    away = to_google(mine, PAGE, back_to="//evil.example")
    assert come_back(mine, google.allow(away)).startswith(f"{PAGE}?")


def test_a_stranger_reaches_nothing(stranger: Visit, mine: Visit, live: str, google: GoogleServer) -> None:
    connect(stranger, google)
    assert stranger.get(f"/instances/{live}/integrations").status_code == 404
    answer = stranger.post(f"/instances/{live}/integrations/google/attach", PAGE)
    assert answer.status_code == 404
    assert "Does not read it" in mine.get(f"/instances/{live}/integrations").text


def test_a_lapsed_permission_asks_to_be_given_again(
    mine: Visit, live: str, google: GoogleServer, owner: Owner, ctx: Context
) -> None:
    connect(mine, google)
    with ctx.db.tx() as db:
        integrations.attach(db, ctx, live, "google", "user:x")
        row = connected.find(db, owner.account.id, "google")
        assert row is not None
        connected.lapse(db, row, ctx.clock.now())
    assert "Connect again" in mine.get(PAGE).text
    assert "Connect it again" in mine.get(f"/instances/{live}/integrations").text
    connect(mine, google)
    assert "does not accept" not in mine.get(PAGE).text


@pytest.mark.live
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_person_connects_google_in_a_browser(
    served: Context, mine: Visit, live: str, owner: Owner, google: GoogleServer
) -> None:
    google.add_message("18a1", "Lunch", "Shall we eat?")
    ctx, base = served, served.settings.base_url
    with open_chromium() as browser:
        context = browser.new_context(**LOOKS[0][1])
        watcher = Watcher(context)
        cookies = [{"name": one.name, "value": one.value or "", "url": base} for one in mine.http.cookies.jar]
        context.add_cookies(cookies)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{base}/instances/{live}/integrations")
        page.get_by_role("button", name="Connect Google").click()
        page.get_by_role("button", name="Allow").click()
        expect(page.get_by_text("Connected. Now choose which assistant may read it.")).to_be_visible()
        page.get_by_role("button", name="Let it read").click()
        expect(page.get_by_text("Your assistant can read it from your next message on.")).to_be_visible()
        check(page, watcher)
        with ctx.db.read() as db:
            token = attachments.token_of(attachments.list_of(db, live)[0], ctx.keys)
        found = reading.use(ctx, reading.recognise(ctx, "google", token), "mail_search", {"query": "lunch"})
        assert "Subject: Lunch" in found.text
        page.goto(f"{base}{PAGE}")
        page.get_by_role("button", name="Disconnect").click()
        expect(page.get_by_text("Disconnected. No assistant reads it any more")).to_be_visible()
        expect(page.get_by_role("button", name="Connect Google")).to_be_visible()
        context.close()
    google.wait_until_forgotten()
