"""Who is asking, from where, and how often."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.api.deps import COOKIE, client_address
from tests.api.conftest import FORM, assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


def test_a_revoked_key_ends_at_once(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.sign_up()
    first, second = key_of(ada), key_of(ada, "read", "write", "keys")
    keys = http.get("/api/auth/keys", headers=first).json()["items"]
    assert "key" not in keys[0]
    prefix = first["authorization"].removeprefix("Bearer ")[:10]
    mine = next(key["id"] for key in keys if key["prefix"] == prefix)
    assert http.delete(f"/api/auth/keys/{mine}", headers=second).status_code == 204
    assert_error(http.get("/api/auth/me", headers=first), 401, "unauthorized")
    assert http.delete(f"/api/auth/keys/{mine}", headers=second).status_code == 204
    eve = key_of(scene.sign_up("eve@example.com"), "read", "write", "keys")
    theirs = next(key["id"] for key in http.get("/api/auth/keys", headers=second).json()["items"])
    stranger, missing = (
        http.delete(f"/api/auth/keys/{theirs}", headers=eve),
        http.delete("/api/auth/keys/x", headers=eve),
    )
    assert_error(stranger, 404)
    assert stranger.json() == missing.json()
    assert http.get("/api/auth/me", headers=second).status_code == 200


def test_authorizations_that_are_none(http: TestClient, scene: Scene, key_of: Keys) -> None:
    good = key_of(scene.sign_up())["authorization"].removeprefix("Bearer ")
    words = ["", "Bearer", "Bearer ", f"Basic {good}", good, f"Bearer {good}x", f"Bearer {good[:-1]}", "Bearer \xff"]
    words += [f"Bearer {good.upper()}", f"Bearer {good} {good}", "Bearer ' OR 1=1--", "Bearer " + "x" * 5000]
    for word in words:
        assert_error(http.get("/api/auth/me", headers={b"authorization": word.encode("latin-1")}), 401, "unauthorized")
    assert http.get("/api/auth/me", headers={"authorization": f"bearer   {good} "}).status_code == 200


def test_a_wrong_key_is_not_saved_by_a_good_cookie(http: TestClient, scene: Scene) -> None:
    http.cookies.set(COOKIE, scene.sign_up().session or "")
    assert http.get("/api/auth/me").status_code == 200
    assert_error(http.get("/api/auth/me", headers={"authorization": "Bearer chk_wrong"}), 401)


def test_a_session_ends_with_its_time_and_with_sign_out(http: TestClient, scene: Scene) -> None:
    ada = scene.sign_up()
    http.cookies.set(COOKIE, ada.session or "")
    assert http.get("/api/auth/me").json()["user"]["email"] == "ada@example.com"
    scene.ctx.clock.advance(timedelta(days=7))
    assert_error(http.get("/api/auth/me"), 401, "unauthorized")
    http.cookies.clear()
    http.post("/api/signup", json={**FORM, "email": "bea@example.com"})
    assert http.get("/api/auth/me").status_code == 200
    token = http.cookies[COOKIE]
    assert http.post("/api/auth/sign-out").status_code == 204
    http.cookies.set(COOKIE, token)
    assert_error(http.get("/api/auth/me"), 401)
    assert scene.count("login_session", f"token_hash = '{token}'") == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8080"},
        {"origin": "http://127.0.0.1:8081"},
        {"origin": "http://127.0.0.1:8080.evil.example"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(http: TestClient, scene: Scene, headers: dict[str, str]) -> None:
    ada = scene.live()
    http.cookies.set(COOKIE, ada.session or "")
    path = f"/api/instances/{ada.instance.id}"
    before = scene.counts()
    for method, url, body in [
        ("DELETE", path, None),
        ("POST", f"{path}/stop", None),
        ("PATCH", path, {"assistant_name": "Eve"}),
        ("POST", "/api/auth/keys", {}),
        ("POST", "/api/auth/sign-out", None),
        ("POST", "/api/auth/link/redeem", {"token": "x"}),
        ("POST", "/api/signup", FORM),
    ]:
        assert_error(http.request(method, url, json=body, headers=headers), 403, "forbidden")
    assert scene.counts() == before
    assert http.get("/api/auth/me", headers=headers).status_code == 200


def test_our_own_page_and_programs_may(http: TestClient, scene: Scene) -> None:
    ada = scene.live()
    http.cookies.set(COOKIE, ada.session or "")
    for headers in ({"origin": scene.ctx.settings.base_url}, {"sec-fetch-site": "same-origin"}, {}):
        body = {"assistant_name": "Bea"}
        assert http.patch(f"/api/instances/{ada.instance.id}", json=body, headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("setting", "method", "path", "body", "good"),
    [
        ("sign_up_per_minute", "POST", "/api/waitlist", {"email": "w@example.com"}, 201),
        ("sign_in_per_minute", "POST", "/api/auth/link", {"email": "w@example.com"}, 202),
        ("sign_in_per_minute", "POST", "/api/auth/link/redeem", {"token": "wrong"}, 401),
        ("webhooks_per_minute", "POST", "/api/webhooks/sandbox", {}, 400),
        ("webhooks_per_minute", "POST", "/api/webhooks/nobody", {}, 404),
        ("api_per_minute", "GET", "/api/auth/me", None, 401),
    ],
)
def test_beyond_the_limit_comes_429_with_the_time_to_wait(
    scene: Scene, setting: str, method: str, path: str, body: object, good: int
) -> None:
    setattr(scene.ctx.settings, setting, 3)
    with TestClient(create_app(scene.ctx), base_url=scene.ctx.settings.base_url) as http:
        now = scene.ctx.clock.now()
        scene.ctx.clock.advance(timedelta(seconds=60 - now.timestamp() % 60))  # the beginning of a window
        answers = [http.request(method, path, json=body) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [good] * 3 + [429] * 3
        refused = assert_error(answers[-1], 429, "rate_limited")
        wait = refused["details"]["retry_after"]
        assert answers[-1].headers["retry-after"] == str(wait)
        assert 0 < wait <= 60
        scene.ctx.clock.advance(timedelta(seconds=wait))
        assert http.request(method, path, json=body).status_code == good


def test_sign_up_and_a_key_have_their_own_limits(scene: Scene, key_of: Keys) -> None:
    scene.ctx.settings.sign_up_per_minute = scene.ctx.settings.api_per_minute = 2
    ada, eve = key_of(scene.sign_up("ada@example.com")), key_of(scene.sign_up("eve@example.com"))
    with TestClient(create_app(scene.ctx), base_url=scene.ctx.settings.base_url) as http:
        now = scene.ctx.clock.now()
        scene.ctx.clock.advance(timedelta(seconds=60 - now.timestamp() % 60))
        codes = [http.post("/api/signup", json={**FORM, "email": f"n{n}@example.com"}).status_code for n in range(3)]
        assert codes == [201, 201, 429]
        assert scene.count("user_account") == 4
        http.cookies.clear()
        assert [http.get("/api/auth/me", headers=ada).status_code for _ in range(3)] == [200, 200, 429]
        assert http.get("/api/auth/me", headers=eve).status_code == 200


@pytest.mark.parametrize(
    ("hops", "forwarded", "expected"),
    [
        (0, "1.2.3.4", "9.9.9.9"),
        (1, "1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (2, "6.6.6.6, 1.2.3.4, 5.5.5.5", "1.2.3.4"),
        (2, "1.2.3.4", "9.9.9.9"),
        (1, "", "9.9.9.9"),
        (1, " , ,", "9.9.9.9"),
    ],
)
def test_only_our_own_proxies_are_believed(scene: Scene, hops: int, forwarded: str, expected: str) -> None:
    scene.ctx.settings.trusted_proxy_count = hops
    headers = [(b"x-forwarded-for", forwarded.encode())]
    request = Request({"type": "http", "headers": headers, "client": ("9.9.9.9", 1), "method": "GET", "path": "/"})
    assert client_address(request, scene.ctx) == expected


def test_neighbours_on_one_ipv6_line_share_a_limit_and_every_header_line_counts(scene: Scene) -> None:
    scene.ctx.settings.trusted_proxy_count = 1

    def ask(*lines: str) -> str:
        headers = [(b"x-forwarded-for", line.encode()) for line in lines]
        return client_address(
            Request({"type": "http", "headers": headers, "client": ("9.9.9.9", 1), "method": "GET", "path": "/"}),
            scene.ctx,
        )

    assert ask("2001:db8:1:2::1") == ask("2001:db8:1:2:aaaa::2") != ask("2001:db8:1:3::1")
    assert ask("6.6.6.6", "1.2.3.4") == "1.2.3.4"
