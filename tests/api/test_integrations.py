"""Connected accounts over the API: begun, ended, attached, revoked; never a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from clawhaven.workflows import integrations
from tests.api.conftest import assert_error
from tests.fakes.google_server import CALENDAR, GoogleServer
from tests.workflows.scene import Begun, Scene, set_up

Keys = Callable[..., dict[str, str]]


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    with GoogleServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def scene(google: GoogleServer, settings: Settings, clock: Clock) -> Iterator[Scene]:
    with set_up(settings, clock) as made:
        google.return_url = integrations.return_url(made.ctx, "google")
        yield made


def idle(scene: Scene, begun: Begun) -> None:
    """No worker runs here: what is waiting counts as done."""
    with scene.ctx.db.tx() as db:
        db.connection().exec_driver_sql("UPDATE operation SET state = 'done'")


def test_connect_attach_detach_revoke(http: TestClient, scene: Scene, key_of: Keys, google: GoogleServer) -> None:
    ada = scene.live()
    me, mine = key_of(ada), f"/api/instances/{ada.instance.id}/integrations"
    [before] = http.get("/api/integrations", headers=me).json()["items"]
    assert (before["vendor"], before["is_available"], before["integration_id"]) == ("google", True, None)
    url = http.post("/api/integrations/google/connect", headers=me).json()["authorize_url"]
    made = http.post("/api/integrations/google/callback", json=google.allow(url, CALENDAR), headers=me).json()
    assert (made["address"], made["lapsed_at"]) == (google.address, None)
    assert [part["is_granted"] for part in made["parts"]] == [False, True]
    assert_error(http.post(f"{mine}/attach", json={}, headers=me), 400, "validation_failed", "integration_id")
    by_id = http.post(f"{mine}/attach", json={"integration_id": made["integration_id"]}, headers=me)
    assert [one["vendor"] for one in by_id.json()["items"]] == ["google"]
    idle(scene, ada)
    again = http.post(f"{mine}/attach", json={"vendor": "google"}, headers=me)
    assert again.json() == by_id.json() == http.get(mine, headers=me).json()
    [now] = http.get("/api/integrations", headers=me).json()["items"]
    assert now["instance_ids"] == [ada.instance.id]
    assert http.post(f"{mine}/detach", json={"vendor": "google"}, headers=me).json() == {"items": []}
    assert http.delete("/api/integrations/google", headers=me).status_code == 204
    assert_error(http.delete("/api/integrations/google", headers=me), 404, "not_found")
    assert scene.count("integration_revocation") == 1
    seen = made, now, by_id.text, url
    assert not [secret for secret in google.secrets_given if secret in repr(seen)]


def test_what_is_wrong_is_named(http: TestClient, scene: Scene, key_of: Keys, google: GoogleServer) -> None:
    ada, bob = scene.live(), scene.live("bob@example.com")
    me, mine = key_of(ada), f"/api/instances/{ada.instance.id}/integrations"
    assert_error(http.post("/api/integrations/dropbox/connect", headers=me), 404, "not_found")
    assert_error(http.post(f"{mine}/attach", json={"vendor": "google"}, headers=me), 409, "not_connected")
    url = http.post("/api/integrations/google/connect", headers=me).json()["authorize_url"]
    back = google.allow(url)
    theirs = http.post("/api/integrations/google/callback", json=back, headers=key_of(bob))
    assert_error(theirs, 409, "stale_consent")
    denied = http.post("/api/integrations/google/callback", json={"state": back["state"]}, headers=me)
    assert_error(denied, 409, "consent_denied")
    bad = http.post("/api/integrations/google/callback", json={"state": "x" * 301}, headers=me)
    assert_error(bad, 400, "validation_failed", "state")
    url = http.post("/api/integrations/google/connect", headers=me).json()["authorize_url"]
    empty = http.post("/api/integrations/google/callback", json=google.allow(url, "openid"), headers=me)
    assert_error(empty, 400, "no_permission", "scopes")
    url = http.post("/api/integrations/google/connect", headers=me).json()["authorize_url"]
    back, google.is_down = google.allow(url), True
    early = http.post("/api/integrations/google/callback", json=back, headers=me)
    assert_error(early, 409, "being_disconnected")  # what was empty is given back first
    scene.ctx.clock.advance(timedelta(seconds=30))
    assert_error(http.post("/api/integrations/google/callback", json=back, headers=me), 503, "unavailable")
    for path in (mine, f"{mine}/attach"):
        answer = http.request("GET" if path == mine else "POST", path, headers=key_of(bob), json={"vendor": "google"})
        assert_error(answer, 404, "not_found")
