"""The operator's API: differences, margin, coupons, payment events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from fastapi.testclient import TestClient

from clawhaven.core.audit import AuditEntry
from clawhaven.workflows import engine, money, payments
from tests.api.conftest import assert_error
from tests.api.test_admin import NAMED, boss
from tests.workflows.scene import Scene

__all__ = ["boss"]


def test_differences_are_explained_by_get_and_repaired_by_post(
    http: TestClient, scene: Scene, boss: dict[str, str]
) -> None:
    nothing = {"items": [], "next_cursor": None, "comparison": None, "under_way": None}
    assert http.get("/api/admin/reconcile", headers=boss).json() == nothing
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    scene.ctx.clock.advance(timedelta(hours=1))
    told = compare(http, scene, boss, {})["items"]
    assert http.get("/api/admin/reconcile", headers=boss).json()["items"] == told
    assert {one["is_safe"] for one in told} == {True}
    assert {one["account_id"] for one in told} == {begun.instance.account_id}
    assert scene.count("workflow_status", "workflow_uuid LIKE 'settle:%'") == 0
    done = compare(http, scene, boss, {"repair": True})["items"]
    assert all("settled" in one["repair"] for one in done)
    assert scene.count("workflow_status", "workflow_uuid LIKE 'settle:%'") == 1
    with scene.ctx.db.read() as db:
        (actor,) = set(db.scalars(sa.select(AuditEntry.actor).where(AuditEntry.action == "money.settle")))
    assert actor.startswith("key:")
    assert_error(http.get("/api/admin/reconcile/cmp_x", headers=boss), 404)


def compare(http: TestClient, scene: Scene, boss: dict[str, str], body: dict[str, bool]) -> dict[str, Any]:
    """Ask for a comparison, let it be done; its result."""
    asked = http.post("/api/admin/reconcile", headers=boss, json=body)
    assert (asked.status_code, asked.json()["state"]) == (202, "running")
    again = http.post("/api/admin/reconcile", headers=boss)
    assert again.json()["id"] == asked.json()["id"]
    assert_error(http.post("/api/admin/reconcile", headers=boss, json={"repair": True}), 409, "busy")
    path = f"/api/admin/reconcile/{asked.json()['id']}"
    with engine.running(scene.ctx):
        scene.wait(lambda: http.get(path, headers=boss).json()["comparison"]["state"] == "done")
        scene.wait(lambda: scene.count("workflow_status", "status IN ('PENDING', 'ENQUEUED')") == 0)
    result: dict[str, Any] = http.get(path, headers=boss).json()
    return result


def test_the_margin_of_a_month(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    scene.live()
    told = http.get("/api/admin/margin", headers=boss).json()
    assert told["total"]["subscription_micros"] == 29_000_000
    assert [one["email"] for one in told["items"]] == ["ada@example.com"]
    assert told["items"][0]["margin_micros"] == told["total"]["margin_micros"]
    assert http.get("/api/admin/margin?month=2020-02", headers=boss).json()["items"] == []
    for word in ("2020-2", "x", "2020-13", "0000-01"):
        assert_error(http.get(f"/api/admin/margin?month={word}", headers=boss), 400, field="month")


def test_coupons_are_made_shown_and_disabled(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    body = {"code": "welcome-5", "credit_micros": 5_000_000, "max_redemptions": 3}
    made = http.post("/api/admin/coupons", json=body, headers=boss | NAMED)
    assert (made.status_code, made.json()["code"], made.json()["amount_micros"]) == (201, "WELCOME-5", 5_000_000)
    assert http.post("/api/admin/coupons", json=body, headers=boss | NAMED).json() == made.json()
    assert_error(http.post("/api/admin/coupons", json=body, headers=boss), 409, "already_exists")
    percent = {"code": "HALF", "percent": 50, "months": None, "expires_at": "2099-01-01T00:00:00Z"}
    assert http.post("/api/admin/coupons", json=percent, headers=boss).json()["months"] is None
    for wrong in ({"code": "XYZ"}, {**percent, "amount_micros": 5}, {**percent, "percent": 101}, {**percent, "x": 1}):
        assert_error(http.post("/api/admin/coupons", json=wrong, headers=boss), 400, "validation_failed")
    assert [one["code"] for one in http.get("/api/admin/coupons", headers=boss).json()["items"]] == [
        "HALF",
        "WELCOME-5",
    ]
    first = http.get("/api/admin/coupons?limit=1", headers=boss).json()
    rest = http.get(f"/api/admin/coupons?limit=1&cursor={first['next_cursor']}", headers=boss).json()
    assert [one["code"] for one in first["items"] + rest["items"]] == ["HALF", "WELCOME-5"]
    assert rest["next_cursor"] is None
    for _ in range(2):
        assert http.delete("/api/admin/coupons/half", headers=boss).status_code == 204
    assert http.get("/api/admin/coupons/HALF", headers=boss).json()["is_disabled"] is True
    assert_error(http.get("/api/admin/coupons/NONE", headers=boss), 404)
    assert_error(http.delete("/api/admin/coupons/NONE", headers=boss), 404)
    assert scene.count("audit_log", "action = 'coupon.disable'") == 1


def test_events_as_they_came_by_page(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    for name in "ab":
        scene.vendor.complete(scene.reference(scene.sign_up(f"{name}@example.com")), "paid")
    payments.sync(scene.ctx)
    total = scene.count("payment_event")
    seen, cursor = [], ""
    while True:
        page = http.get(f"/api/admin/events?limit=1{cursor}", headers=boss).json()
        seen += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == total > 1
    scene.ctx.clock.advance(money.STUCK + timedelta(minutes=1))
    waiting = http.get("/api/admin/events?state=received", headers=boss).json()["items"]
    assert [one["is_stuck"] for one in waiting] == [True] * total
    assert http.get("/api/admin/events?state=handled", headers=boss).json()["items"] == []
    assert_error(http.get("/api/admin/events?state=x", headers=boss), 400, field="state")
    assert_error(http.get("/api/admin/events?cursor=x", headers=boss), 400, field="cursor")


def test_refused_deliveries_reach_the_operator(http: TestClient, scene: Scene) -> None:
    clock = scene.ctx.clock
    clock.advance(timedelta(seconds=3600 - clock.now().timestamp() % 3600))
    for _ in range(money.REFUSALS_AN_HOUR + 2):
        assert_error(http.post("/api/webhooks/sandbox", content=b"{}"), 400, "bad_signature")
    assert scene.count("notice", "kind = 'alert'") == 1
