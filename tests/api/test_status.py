"""Progress for whoever holds the id, more for the owner; health for monitors."""

from __future__ import annotations

import dataclasses

import pytest
from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.api.deps import COOKIE
from clawhaven.core.db import Database, make_engine
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene


def test_a_stranger_sees_progress_and_no_name(http: TestClient, scene: Scene) -> None:
    begun = scene.sign_up("ada@example.com", assistant_name="Hypatia")
    eve = scene.sign_up("eve@example.com")
    scene.connected(begun)
    scene.pay(begun)
    for session in ("", "wrong", eve.session or ""):
        http.cookies.clear()
        if session:
            http.cookies.set(COOKIE, session)
        answer = http.get(f"/api/status/{begun.instance.id}")
        assert answer.status_code == 200
        seen = answer.json()
        assert set(seen) == {"instance_id", "status", "suspended_for", "operation", "steps", "error", "message"}
        assert (seen["status"], seen["operation"]) == ("provisioning", "provision")
        assert [step["state"] for step in seen["steps"]] == ["done"] + ["waiting"] * 6
        for word in ("Hypatia", "ada@", "bot123456789", "start="):
            assert word not in answer.text


def test_the_owner_sees_all_of_it(http: TestClient, scene: Scene) -> None:
    begun = scene.live("ada@example.com")
    scene.connected(begun)
    http.cookies.set(COOKIE, begun.session or "")
    seen = http.get(f"/api/status/{begun.instance.id}").json()
    assert (seen["email"], seen["assistant_name"], seen["subscription_status"]) == ("ada@example.com", "Ada", "active")
    assert seen["telegram_bot_username"] == "@bot123456789_bot"
    assert seen["telegram_url"].startswith("https://t.me/bot123456789_bot?start=")


def test_nobody_knows_an_unknown_id(http: TestClient) -> None:
    assert_error(http.get("/api/status/ins_unknown"), 404, "not_found")


def test_health_and_personas(http: TestClient) -> None:
    for path in ("/api/health", "/api/health/ready", "/api/health/live"):
        answer = http.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert "personal" in http.get("/api/personas").json()["items"]


@pytest.mark.parametrize("url", ["sqlite:////nowhere/x.sqlite3", "postgresql://nobody@127.0.0.1:1/x"])
def test_not_ready_without_a_database(scene: Scene, url: str) -> None:
    ctx = dataclasses.replace(scene.ctx, db=Database(make_engine(url)))
    with TestClient(create_app(ctx), base_url=ctx.settings.base_url) as http:
        answer = http.get("/api/health/ready")
        assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "down"})
        assert http.get("/api/health/live").status_code == 200
        assert_error(http.get("/api/status/ins_x"), 503, "unavailable")
    ctx.db.close()


def test_a_bot_token_can_be_tried_before_anything_is_saved(http: TestClient, scene: Scene) -> None:
    before = scene.counts()
    answer = http.post("/api/config/validate", json={"telegram_bot_token": "123456789:" + "A" * 35})
    assert answer.json() == {
        "valid": True,
        "bot_username": "bot123456789_bot",
        "bot_url": "https://t.me/bot123456789_bot",
    }
    refused = http.post("/api/config/validate", json={"telegram_bot_token": scene.telegram.REFUSED})
    assert_error(refused, 400, "invalid_bot_token", "telegram_bot_token")
    assert_error(http.post("/api/config/validate", json={"telegram_bot_token": "no"}), 400, "invalid_bot_token")
    assert scene.counts() == before
