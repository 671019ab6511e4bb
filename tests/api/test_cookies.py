"""The session cookie behind https: ours alone, and the same for both doors."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from clawhaven.accounts.sessions import COOKIE, cookie_name
from clawhaven.cli.hosting import Doors
from tests.api.conftest import FORM
from tests.workflows.scene import Scene

SECURE = "__Host-clawhaven_session"
SITE = "https://haven.example"


@pytest.fixture
def site(scene: Scene) -> TestClient:
    """API and web on one address with https."""
    scene.ctx.settings.base_url = SITE
    return TestClient(Doors(scene.ctx), base_url=SITE, follow_redirects=False)


def cookies_of(answer: Response) -> list[str]:
    return [line for line in answer.headers.get_list("set-cookie") if "clawhaven_session" in line]


def test_the_name() -> None:
    assert cookie_name(SITE) == SECURE
    assert cookie_name("http://127.0.0.1:8080") == COOKIE == "clawhaven_session"


def test_both_doors_read_the_one_cookie_that_is_ours(site: TestClient, scene: Scene) -> None:
    (made,) = cookies_of(site.post("/api/signup", json=FORM))
    parts = [part.strip().lower() for part in made.split(";")]
    assert parts[0].startswith(f"{SECURE}=".lower())
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= set(parts)
    assert not [part for part in parts if part.startswith("domain")]
    assert site.get("/api/auth/me").status_code == 200
    assert site.get("/dashboard").status_code == 200
    token = site.cookies[SECURE]
    site.cookies.clear()
    # As an assistant's page on a host name below ours could plant it.
    planted = {"cookie": f"{COOKIE}={token}"}
    assert site.get("/api/auth/me", headers=planted).status_code == 401
    assert site.get("/dashboard", headers=planted).status_code == 303
    own = {"cookie": f"{COOKIE}=planted; {SECURE}={token}"}
    assert site.get("/api/auth/me", headers=own).status_code == 200
    assert site.get("/dashboard", headers=own).status_code == 200
    instance = scene.ctx.settings.base_url + "/api/status/"
    with scene.ctx.db.read() as db:
        row = db.connection().exec_driver_sql("SELECT id FROM instance").scalar_one()
    assert "email" in site.get(f"{instance}{row}", headers=own).json()
    assert "email" not in site.get(f"{instance}{row}", headers=planted).json()


def test_signing_out_takes_it_back(site: TestClient) -> None:
    site.post("/api/signup", json=FORM)
    (gone,) = cookies_of(site.post("/api/auth/sign-out"))
    assert gone.startswith(f'{SECURE}="";')
    assert "Max-Age=0" in gone
    assert "Secure" in gone
    assert SECURE not in site.cookies
    assert site.get("/api/auth/me").status_code == 401
