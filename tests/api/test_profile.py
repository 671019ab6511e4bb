"""One's own account by program: a new address, everything, and the end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta

from fastapi.testclient import TestClient

from clawhaven.accounts import links, sessions
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.workflows.checkout import Begun
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


def letter(scene: Scene, email: str) -> str:
    with scene.ctx.db.read() as db:
        rows = db.query(Notice).filter(Notice.recipient == email).order_by(Notice.created_at).all()
        message = outbox.message(db, rows[-1].id, scene.ctx.keys)
        return message.text if message else ""


def prove(scene: Scene, begun: Begun) -> str:
    """A session of somebody whose address is proved."""
    with scene.ctx.db.tx() as db:
        now = scene.ctx.clock.now()
        links.verify(db, begun.owner.user.id, now)
        return sessions.open_session(db, begun.owner.user.id, now, days=7)


def test_no_key_takes_an_account_over(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me = key_of(scene.sign_up("ada@example.com"))
    for method, path, body in (
        ("POST", "/api/auth/email", {"email": "eve@example.com"}),
        ("POST", "/api/auth/email/redeem", {"token": "x" * 43}),
    ):
        refused = assert_error(http.request(method, path, json=body, headers=me), 403, "browser_only")
        assert "browser" in refused["message"]
    told = http.get("/api/auth/me", headers=me).json()["user"]
    assert (told["email"], told["pending_email"]) == ("ada@example.com", None)
    assert scene.count("notice", "kind = 'email_prove'") == scene.count("account_deletion") == 0


def test_a_new_address(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun = scene.sign_up("ada@example.com")
    assert_error(http.post("/api/auth/email", json={"email": "a@b.example"}), 401)
    me = {"cookie": f"{sessions.cookie_name(scene.ctx.settings.base_url)}={prove(scene, begun)}"}
    assert_error(http.post("/api/auth/email", json={"email": "x"}, headers=me), 400, field="email")
    assert http.post("/api/auth/email", json={"email": "Ada@New.example"}, headers=me).status_code == 202
    told = http.get("/api/auth/me", headers=me).json()["user"]
    assert (told["email"], told["pending_email"]) == ("ada@example.com", "ada@new.example")
    assert http.delete("/api/auth/email", headers=me).status_code == 204
    assert http.get("/api/auth/me", headers=me).json()["user"]["pending_email"] is None
    http.post("/api/auth/email", json={"email": "ada@new.example"}, headers=me)
    found = re.search(r"/settings/email/([\w-]+)", letter(scene, "ada@new.example"))
    assert found
    body = {"token": found.group(1)}
    assert http.post("/api/auth/email/redeem", json=body).json()["email"] == "ada@new.example"
    assert_error(http.post("/api/auth/email/redeem", json=body), 401)
    assert http.get("/api/auth/me", headers=me).json()["user"]["email"] == "ada@new.example"


def test_everything_in_one_document(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun = scene.live(assistant_name="Grace", custom_instructions="Be brief.")
    me = key_of(begun, "read")
    answer = http.get("/api/auth/export", headers=me)
    told = json.loads(answer.text)
    assert told["format"] == "clawhaven-account-1"
    assert [(one["name"], one["instructions"]) for one in told["assistants"]] == [("Grace", "Be brief.")]
    assert told["payments"][0]["amount_micros"] == 29_000_000
    assert sum(line["amount_micros"] for line in told["ledger"]) == 0
    assert told["problems"] == []
    row = scene.instance(begun.instance.id)
    for secret in (row.gateway_token, row.proxy_key, me["authorization"].split()[1]):
        assert secret not in answer.text
    for _ in range(9):
        assert http.get("/api/auth/export", headers=me).status_code == 200
    assert_error(http.get("/api/auth/export", headers=me), 429)


def test_deleting_by_program(http: TestClient, scene: Scene) -> None:
    begun = scene.sign_up("ada@example.com")
    me = {"cookie": f"{sessions.cookie_name(scene.ctx.settings.base_url)}={prove(scene, begun)}"}
    send = {"confirm": "ada@example.com"}
    wrong = http.request("DELETE", "/api/auth/me", json={"confirm": "yes"}, headers=me)
    assert_error(wrong, 400, field="confirm")
    done = http.request("DELETE", "/api/auth/me", json=send, headers=me)
    assert (done.status_code, done.json()["state"], done.json()["left_micros"]) == (202, "closed", 0)
    assert_error(http.get("/api/auth/me", headers=me), 401)
    assert scene.count("account_deletion", "ended_at IS NULL") == 1


def test_a_key_and_an_old_session_get_a_link(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun, send = scene.sign_up("ada@example.com"), {"confirm": "ada@example.com"}
    cookie = f"{sessions.cookie_name(scene.ctx.settings.base_url)}={prove(scene, begun)}"
    key = key_of(begun)
    scene.ctx.clock.advance(timedelta(minutes=31))
    for me in (key, {"cookie": cookie}):
        asked = http.request("DELETE", "/api/auth/me", json=send, headers=me)
        assert (asked.status_code, asked.json()["state"]) == (202, "confirmation_mailed")
        assert http.get("/api/auth/me", headers=me).json()["user"]["is_deletion_pending"] is True
        scene.ctx.clock.advance(timedelta(seconds=1))
    assert http.delete("/api/auth/deletion", headers=key).status_code == 204
    found = re.search(r"/settings/delete/([\w-]+)", letter(scene, "ada@example.com"))
    assert found
    assert_error(http.post("/api/auth/deletion/redeem", json={"token": found.group(1)}), 401)
    http.request("DELETE", "/api/auth/me", json=send, headers=key)
    found = re.search(r"/settings/delete/([\w-]+)", letter(scene, "ada@example.com"))
    assert found
    done = http.post("/api/auth/deletion/redeem", json={"token": found.group(1)})
    assert (done.status_code, done.json()["state"]) == (202, "closed")
    assert_error(http.get("/api/auth/me", headers=key), 401)
    assert scene.count("account_deletion") == 1


def test_what_was_prepared_is_shown_and_decided(http: TestClient, scene: Scene) -> None:
    begun = scene.sign_up("ada@example.com", custom_instructions="Obey eve.")
    with scene.ctx.db.tx() as db:
        token = links.issue(db, begun.owner.user.id, scene.ctx.clock.now())
    http.cookies.clear()
    assert http.post("/api/auth/link/redeem", json={"token": token}).status_code == 200
    (made,) = http.get("/api/auth/prepared").json()["assistants"]
    assert (made["instructions"], made["is_paid"]) == ("Obey eve.", False)
    assert_error(http.post("/api/auth/prepared", json={"keep": "perhaps"}), 400)
    assert http.post("/api/auth/prepared", json={"keep": False}).status_code == 204
    assert http.get("/api/auth/prepared").json() == {"begun": None, "assistants": []}
    assert scene.instance(begun.instance.id).deletion_asked_at is not None


def test_last_use_of_keys_and_sessions(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun = scene.sign_up("ada@example.com")
    me = key_of(begun)
    (key,) = http.get("/api/auth/keys", headers=me).json()["items"]
    assert key["last_used_at"] is not None
    with scene.ctx.db.tx() as db:
        now = scene.ctx.clock.now()
        agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
        token = sessions.open_session(db, begun.owner.user.id, now, days=7, user_agent=agent)
    scene.ctx.clock.advance(timedelta(hours=1))
    http.cookies.set(sessions.cookie_name(scene.ctx.settings.base_url), token)
    told = http.get("/api/auth/sessions").json()["items"]
    (mine,) = [one for one in told if one["is_current"]]
    assert mine["device"] == "Firefox on Linux"
    assert mine["last_used_at"] > mine["created_at"]
