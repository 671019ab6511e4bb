"""An account that somebody else opened in a victim's name."""

from __future__ import annotations

from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from tests.api.conftest import FORM, assert_error
from tests.api.test_accounts import last_link
from tests.workflows.scene import Scene


def test_who_signed_up_with_a_victims_address_is_out_once_the_victim_signs_in(scene: Scene) -> None:
    app, url = create_app(scene.ctx), scene.ctx.settings.base_url
    with TestClient(app, base_url=url) as attacker, TestClient(app, base_url=url) as victim:
        assert attacker.post("/api/signup", json={**FORM, "email": "victim@example.com"}).status_code == 201
        refused = assert_error(attacker.post("/api/auth/keys", json={}), 403, "email_not_verified")
        assert "mailed" in refused["message"]
        assert scene.count("api_key") == 0
        victim.post("/api/auth/link", json={"email": "victim@example.com"})
        assert victim.post("/api/auth/link/redeem", json={"token": last_link(scene)}).status_code == 200
        assert_error(attacker.get("/api/instances"), 401, "unauthorized")
        assert [one["name"] for one in victim.get("/api/instances").json()["items"]] == [FORM["assistant_name"]]
        assert victim.post("/api/auth/keys", json={}).status_code == 201
        assert scene.count("audit_log", "action = 'user.verify'") == 1
