"""The operator's watch by program."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from fastapi.testclient import TestClient

from clawhaven.instances.states import State
from clawhaven.notices import kinds
from clawhaven.workflows import letters
from tests.api.conftest import assert_error
from tests.api.test_admin import boss
from tests.workflows.scene import Scene

__all__ = ["boss"]

PATHS = ("instances", "workflows", "audit", "check", "alerts")


def test_only_operators(
    http: TestClient, scene: Scene, boss: dict[str, str], key_of: Callable[..., dict[str, str]]
) -> None:
    me = key_of(scene.sign_up())
    for path in PATHS:
        assert_error(http.get(f"/api/admin/{path}"), 401)
        assert_error(http.get(f"/api/admin/{path}", headers=me), 404)
        assert http.get(f"/api/admin/{path}", headers=boss).status_code == 200
    for path in ("workflows/x/retry", "alerts/x/close"):
        assert_error(http.post(f"/api/admin/{path}", headers=me), 404)
        assert_error(http.post(f"/api/admin/{path}", headers=boss), 404, "not_found")


def test_the_fleet(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    begun = scene.put_in(State.FAILED, "ada@example.com")
    scene.live("eve@example.com")
    told = http.get("/api/admin/instances?limit=1", headers=boss).json()
    rest = http.get(f"/api/admin/instances?cursor={told['next_cursor']}", headers=boss).json()
    assert {one["email"] for one in told["items"] + rest["items"]} == {"ada@example.com", "eve@example.com"}
    assert told["counts"] == {"failed": 1, "active": 1}
    (failed,) = http.get("/api/admin/instances?state=trouble", headers=boss).json()["items"]
    assert (failed["id"], failed["failure"]) == (begun.instance.id, "The server's disk is full.")
    for wrong in ("state=x", "cursor=x", "limit=0"):
        assert_error(http.get(f"/api/admin/instances?{wrong}", headers=boss), 400)


def test_durable_work_the_log_and_alerts(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    begun = scene.sign_up("ada@example.com")
    waiting = http.get("/api/admin/workflows?state=waiting", headers=boss).json()
    assert {one["name"] for one in waiting["items"]} == {"deliver"}
    assert waiting["counts"]["failed"] == 0
    run_id = waiting["items"][0]["id"]
    assert_error(http.post(f"/api/admin/workflows/{run_id}/retry", headers=boss), 409, "illegal_move")
    table = "workflow_status" if scene.ctx.db.is_sqlite else "dbos.workflow_status"
    with scene.ctx.db.tx() as db:
        db.execute(sa.text(f"UPDATE {table} SET status = 'ERROR' WHERE workflow_uuid = :id"), {"id": run_id})
        letters.post_to(db, scene.ctx, "a", kinds.alert("A disk is full", "…"), "ops@example.com")
    assert http.post(f"/api/admin/workflows/{run_id}/retry", headers=boss).status_code == 202
    assert http.get("/api/admin/workflows", headers=boss).json()["items"] == []
    (line,) = http.get("/api/admin/audit?action=workflow.", headers=boss).json()["items"]
    assert (line["action"], line["subject"]) == ("workflow.retry", run_id)
    (signed_up,) = http.get("/api/admin/audit?account=ada@example.com&action=account", headers=boss).json()["items"]
    assert (signed_up["email"], signed_up["account_id"]) == ("ada@example.com", begun.owner.account.id)
    for wrong in ("since=2026-01-01T00:00:00", "cursor=x"):
        assert_error(http.get(f"/api/admin/audit?{wrong}", headers=boss), 400)
    assert_error(http.get("/api/admin/audit?who=no@body.example", headers=boss), 404)
    (alert,) = http.get("/api/admin/alerts", headers=boss).json()["items"]
    assert alert["subject"] == "A disk is full"
    for _ in range(2):
        assert http.post(f"/api/admin/alerts/{alert['id']}/close", headers=boss).json()["is_open"] is False
    assert http.get("/api/admin/alerts", headers=boss).json()["items"] == []
    assert http.get("/api/admin/alerts?closed=true", headers=boss).json()["items"][0]["closed_at"]


def test_the_check(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    told = http.get("/api/admin/check", headers=boss).json()
    assert {"database", "runtime folder"} <= {one["what"] for one in told["items"]}
    assert told["problems"] == []
