"""Sign-up, one-time links, keys."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import sqlalchemy as sa
from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.api.deps import COOKIE
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability
from tests.api.conftest import FORM, assert_error
from tests.workflows.scene import TOKEN, Scene


def last_link(scene: Scene) -> str:
    """The token in the newest sign-in mail."""
    with scene.ctx.db.read() as db:
        found = db.scalars(sa.select(Notice).where(Notice.kind == "sign_in").order_by(Notice.created_at.desc())).first()
        assert found is not None
        message = outbox.message(db, found.id, scene.ctx.keys)
    assert message is not None
    matched = re.search(r"/sign-in/(\S+)", message.text)
    assert matched
    return matched[1]


def test_a_sign_up_makes_everything_and_signs_in(http: TestClient, scene: Scene) -> None:
    answer = http.post("/api/signup", json={**FORM, "email": " New@EXAMPLE.com ", "telegram_bot_token": TOKEN})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["email"], body["status"]) == ("new@example.com", "pending")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert TOKEN not in answer.text
    me = http.get("/api/auth/me").json()
    assert (me["account"]["id"], me["account"]["slug"]) == (body["customer_id"], "new-example-com")
    shown = http.get(f"/api/instances/{body['instance_id']}").json()
    assert shown["channels"][0]["status"] == "waiting_for_owner"
    assert http.get(body["status_url"]).json()["telegram_url"].startswith("https://t.me/bot123456789_bot?start=")
    counts = scene.counts()
    again = assert_error(http.post("/api/signup", json={**FORM, "email": "NEW@example.com"}), 409, "already_exists")
    assert again["details"]["sign_in_url"] == "/sign-in"
    other = {**FORM, "email": "other@example.com", "telegram_bot_token": TOKEN}
    assert_error(http.post("/api/signup", json=other), 409, "bot_in_use", "telegram_bot_token")
    assert scene.counts() == counts


def test_behind_https_the_cookie_is_secure(http: TestClient, scene: Scene) -> None:
    scene.ctx.settings.base_url = "https://haven.example"
    assert "Secure" in http.post("/api/signup", json=FORM).headers["set-cookie"]


def test_ten_sign_ups_at_once_with_one_address(http: TestClient, scene: Scene) -> None:
    with ThreadPoolExecutor(10) as pool:
        bodies = [{**FORM, "email": email} for email in ["one@example.com", "ONE@example.com"] * 5]
        answers = list(pool.map(lambda body: http.post("/api/signup", json=body), bodies))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert scene.count("user_account") == scene.count("instance") == scene.count("checkout") == 1


def test_the_last_place_is_taken_once(http: TestClient, scene: Scene) -> None:
    scene.ctx.settings.max_customers = 1
    assert http.post("/api/signup", json=FORM).status_code == 201
    full = assert_error(http.post("/api/signup", json={**FORM, "email": "b@example.com"}), 503, "at_capacity")
    assert full["details"]["waitlist_url"].endswith("/waitlist")
    assert scene.count("user_account") == 1


def test_a_payment_vendor_that_is_down_does_not_lose_the_sign_up(scene: Scene) -> None:
    class AwayPayments:
        name = "sandbox"
        capabilities = frozenset({Capability.SUBSCRIPTIONS})

        def create_checkout(self, request: object) -> None:
            raise ProviderError("no answer", code="payments_down")

    ctx = dataclasses.replace(scene.ctx, payments={"sandbox": AwayPayments()})  # type: ignore[dict-item]
    with TestClient(create_app(ctx), base_url=ctx.settings.base_url) as http:
        answer = http.post("/api/signup", json=FORM)
        assert answer.status_code == 201
        page = answer.json()["checkout_url"]
        checkout_id = page.rsplit("/", 1)[1]
        assert page == f"{ctx.settings.base_url}/checkout/{checkout_id}"
        assert_error(http.get(f"/api/checkout/{checkout_id}"), 503, "unavailable")
        cookies = dict(http.cookies)
    with TestClient(create_app(scene.ctx), base_url=ctx.settings.base_url, cookies=cookies) as http:
        first, second = (http.get(f"/api/checkout/{checkout_id}").json() for _ in range(2))
    assert first == second
    assert "/sandbox/checkout/" in first["checkout_url"]
    assert (first["state"], first["amount_micros"]) == ("open", 29_000_000)


def test_the_waitlist_tells_the_place(http: TestClient) -> None:
    places = []
    for email in ("a@example.com", "b@example.com", "A@example.com", "c@example.com"):
        answer = http.post("/api/waitlist", json={"email": email})
        assert answer.status_code == 201
        places.append(answer.json()["position"])
    assert places == [1, 2, 1, 3]


def test_a_link_signs_in_once(http: TestClient, scene: Scene) -> None:
    scene.sign_up()
    known = http.post("/api/auth/link", json={"email": "ADA@example.com"})
    unknown = http.post("/api/auth/link", json={"email": "nobody@example.com"})
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (202, known.content)
    assert scene.count("sign_in_link") == scene.count("notice", "kind = 'sign_in'") == 1
    token = last_link(scene)
    assert scene.count("sign_in_link", f"token_hash = '{token}'") == 0
    for wrong in (token[:-1], token + "x", token.swapcase(), "", "' OR 1=1--"):
        assert_error(http.post("/api/auth/link/redeem", json={"token": wrong}), 401, "unauthorized")
    assert COOKIE not in http.cookies
    assert http.post("/api/auth/link/redeem", json={"token": token}).status_code == 200
    assert http.get("/api/auth/me").json()["user"]["email"] == "ada@example.com"
    assert_error(http.post("/api/auth/link/redeem", json={"token": token}), 401, "unauthorized")


def test_of_many_who_open_one_link_one_is_signed_in(http: TestClient, scene: Scene) -> None:
    scene.sign_up()
    http.post("/api/auth/link", json={"email": "ada@example.com"})
    token = last_link(scene)
    with ThreadPoolExecutor(8) as pool:
        codes = list(
            pool.map(lambda _: http.post("/api/auth/link/redeem", json={"token": token}).status_code, range(8))
        )
    assert sorted(codes) == [200] + [401] * 7
    assert scene.count("login_session") == 1  # the one of the sign-up, without proof of the address, has ended


def test_a_link_lives_for_fifteen_minutes(http: TestClient, scene: Scene) -> None:
    scene.sign_up()
    for wait, status in ((timedelta(minutes=14, seconds=50), 200), (timedelta(minutes=15), 401)):
        http.post("/api/auth/link", json={"email": "ada@example.com"})
        token = last_link(scene)
        scene.ctx.clock.advance(wait)
        assert http.post("/api/auth/link/redeem", json={"token": token}).status_code == status


def test_a_key_is_shown_once(http: TestClient, scene: Scene, key_of: Callable[..., dict[str, str]]) -> None:
    me = key_of(scene.sign_up(), "read", "write", "keys")
    made = http.post("/api/auth/keys", json={"name": "ci", "scopes": ["write"]}, headers=me)
    assert made.status_code == 201
    assert made.json()["key"] not in http.get("/api/auth/keys", headers=me).text
    assert scene.count("api_key", "made_by IS NOT NULL") == 1


def test_a_key_makes_keys_only_with_the_scope_for_it_and_none_that_may_do_more(
    http: TestClient, scene: Scene, key_of: Callable[..., dict[str, str]]
) -> None:
    ada = scene.sign_up()
    for scopes in (("read", "write"), ("write",)):
        refused = assert_error(http.post("/api/auth/keys", json={}, headers=key_of(ada, *scopes)), 403, "forbidden")
        assert refused["details"]["scope"] == "keys"
    maker = key_of(ada, "write", "keys")
    for wanted in (["read"], ["read", "write"], ["keys"], ["write", "keys"]):
        answer = http.post("/api/auth/keys", json={"scopes": wanted}, headers=maker)
        assert_error(answer, 403, "forbidden")
    assert http.post("/api/auth/keys", json={"scopes": ["write"]}, headers=maker).status_code == 201
    assert scene.count("api_key") == 4


def test_what_a_key_made_ends_with_it(http: TestClient, scene: Scene, key_of: Callable[..., dict[str, str]]) -> None:
    ada = scene.live()
    maker, other = key_of(ada, "read", "write", "keys"), key_of(ada, "read", "write", "keys")
    child = {"authorization": f"Bearer {http.post('/api/auth/keys', json={}, headers=maker).json()['key']}"}
    path = f"/api/instances/{ada.instance.id}/program-keys"
    assert http.post(path, json={"name": "leaked"}, headers=maker).status_code == 201
    assert http.post(path, json={"name": "kept"}, headers=other).status_code == 201
    maker_id = http.get("/api/auth/keys", headers=maker).json()["items"][0]["id"]
    assert_error(http.delete(f"/api/auth/keys/{maker_id}", headers=key_of(ada)), 403, "forbidden")
    assert http.delete(f"/api/auth/keys/{maker_id}", headers=other).status_code == 204
    for gone in (maker, child):
        assert_error(http.get("/api/auth/keys", headers=gone), 401, "unauthorized")
    assert [one["name"] for one in http.get(path, headers=other).json()["items"]] == ["kept"]
    assert scene.count("audit_log", "action = 'program_key.revoke'") == 1


def test_a_key_ends_itself_without_any_scope_for_it(
    http: TestClient, scene: Scene, key_of: Callable[..., dict[str, str]]
) -> None:
    me = key_of(scene.sign_up())
    mine = http.get("/api/auth/keys", headers=me).json()["items"][0]["id"]
    assert http.delete(f"/api/auth/keys/{mine}", headers=me).status_code == 204
    assert_error(http.get("/api/auth/keys", headers=me), 401, "unauthorized")


def test_letters_are_written_in_the_language_that_is_asked_for(http: TestClient, scene: Scene) -> None:
    german = {"accept-language": "de-DE,de;q=0.9"}
    http.post("/api/signup", json={**FORM, "email": "ada@example.com"}, headers=german)
    http.post("/api/waitlist", json={"email": "bob@example.com"}, headers=german)
    http.post("/api/waitlist", json={"email": "eve@example.com"})
    with scene.ctx.db.read() as db:
        assert db.scalar(sa.text("SELECT language FROM user_account")) == "de"
        waiting = db.execute(sa.text("SELECT email, language FROM waitlist ORDER BY email")).all()
    assert [tuple(row) for row in waiting] == [("bob@example.com", "de"), ("eve@example.com", "en")]
