"""Vendors' exports through the operator's door."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient

from clawhaven.accounts import apikeys, signup
from clawhaven.api.app import MAX_BODY_BYTES
from tests.api.conftest import assert_error
from tests.providers.upstreams.test_exporting import ANTHROPIC_TOKENS
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


def test_an_export_is_read_and_compared(http: TestClient, scene: Scene, key_of: Keys) -> None:
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        boss = signup.register(db, "op@example.com", now, is_operator=True, verified_at=now)
        _, secret = apikeys.issue(db, boss, "op", ["read", "write", "admin"], now, is_operator=True)
    me = {"authorization": f"Bearer {secret}"}
    large = ANTHROPIC_TOKENS + "\n" * MAX_BODY_BYTES
    answer = http.post("/api/admin/usage/anthropic", headers=me, json={"name": "u.csv", "content": large})
    assert answer.status_code == 200, answer.text[:300]
    assert (answer.json()["lines"], answer.json()["since"]) == (2, "2026-11-20")
    (line,) = http.get("/api/admin/usage?since=2026-11-21", headers=me).json()["items"]
    assert (line["model"], line["theirs"]["tokens"], line["ours"]["tokens"], line["is_off"]) == (
        "claude-haiku-4-5",
        52_000,
        0,
        True,
    )
    wrong = {"content": "hello"}
    assert_error(http.post("/api/admin/usage/anthropic", headers=me, json=wrong), 400, "validation_failed", "content")
    assert_error(http.get("/api/admin/usage?since=yesterday", headers=me), 400, "validation_failed")
    customer = key_of(scene.sign_up("ada@example.com"))
    assert_error(http.post("/api/admin/usage/anthropic", headers=customer, json=wrong), 404)
