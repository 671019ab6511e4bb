"""The wallet over the API: top-ups, automatic ones, coupons, statements."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from fastapi.testclient import TestClient

from clawhaven.billing import checkouts, coupons
from clawhaven.workflows import settlement
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]
TEN = 10_000_000


def paid(scene: Scene, checkout_id: str) -> None:
    """The customer pays this top-up, and we read it at the vendor."""
    with scene.ctx.db.read() as db:
        reference = checkouts.get(db, checkout_id).reference
    assert reference
    scene.vendor.complete(reference, "paid")
    seen = scene.ctx.payments["sandbox"].fetch(reference)
    with scene.ctx.db.tx() as db:
        settlement.equalise(db, scene.ctx, checkouts.get(db, checkout_id), seen)


def test_a_topup_fills_the_wallet_once(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me = key_of(scene.live(plan="metered"))
    made = http.post("/api/billing/topup", json={"amount_micros": 2 * TEN}, headers=me)
    assert made.status_code == 201
    one = made.json()
    assert (one["state"], one["amount_micros"]) == ("open", 2 * TEN)
    assert "/sandbox/checkout/" in one["checkout_url"]
    for _ in range(2):
        paid(scene, one["id"])
    told = http.get(f"/api/billing/topup/{one['id']}", headers=me).json()
    assert (told["state"], told["checkout_url"]) == ("completed", None)
    balance = http.get("/api/billing/balance", headers=me).json()
    assert (balance["balance_micros"], balance["available_micros"]) == (3 * TEN, 2 * TEN)
    assert (balance["minimum_micros"], balance["level"]) == (TEN, "ok")


def test_amounts_and_strangers_are_refused(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me, other = key_of(scene.live()), key_of(scene.live("eve@example.com"))
    for wrong in (0, 1, 9_990_000, 10_000_001, 1_000_010_000, -TEN, "10", None, 10.5):
        answer = http.post("/api/billing/topup", json={"amount_micros": wrong}, headers=me)
        assert_error(answer, 400, "validation_failed")
    one = http.post("/api/billing/topup", json={"amount_micros": TEN}, headers=me).json()
    assert_error(http.get(f"/api/billing/topup/{one['id']}", headers=other), 404, "not_found")
    assert_error(
        http.post("/api/billing/topup", json={"amount_micros": TEN}, headers=key_of(scene.live("r@x.co"), "read")), 403
    )


def test_the_same_request_again_is_the_same_topup(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me = key_of(scene.live()) | {"idempotency-key": "one"}
    first, second = (http.post("/api/billing/topup", json={"amount_micros": TEN}, headers=me) for _ in range(2))
    assert first.json() == second.json()
    assert_error(http.post("/api/billing/topup", json={"amount_micros": 2 * TEN}, headers=me), 409)


def test_the_automatic_topup_is_kept_and_checked(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me = key_of(scene.live(plan="metered"))
    assert http.get("/api/billing/auto-topup", headers=me).json()["enabled"] is False
    wanted = {"enabled": True, "threshold_micros": 5_000_000, "amount_micros": 2 * TEN}
    saved = http.put("/api/billing/auto-topup", json=wanted, headers=me).json()
    assert {name: saved[name] for name in wanted} == wanted
    for field, wrong in (("amount_micros", 1), ("threshold_micros", 5), ("amount_micros", -1), ("enabled", "yes")):
        assert_error(http.put("/api/billing/auto-topup", json={**wanted, field: wrong}, headers=me), 400)
    assert http.get("/api/billing/auto-topup", headers=me).json() == saved


def test_a_coupon_counts_once(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me = key_of(scene.live())
    with scene.ctx.db.tx() as db:
        coupons.create(db, "WELCOME", kind="credit", value=5_000_000, now=scene.ctx.clock.now())
    assert http.post("/api/billing/coupons", json={"code": "welcome"}, headers=me).json()["amount"] == "$5.00"
    assert_error(http.post("/api/billing/coupons", json={"code": "WELCOME"}, headers=me), 400, field="coupon")
    assert_error(http.post("/api/billing/coupons", json={"code": "NOPE"}, headers=me), 400, field="coupon")
    assert http.get("/api/billing/balance", headers=me).json()["balance_micros"] == 5_000_000


def test_the_statement_adds_up_and_can_be_taken_along(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me = key_of(scene.live(plan="metered"))
    month = http.get("/api/billing/statement", headers=me).json()
    assert month["opening_micros"] + sum(line["amount_micros"] for line in month["items"]) == month["closing_micros"]
    assert month["closing_micros"] == TEN
    assert_error(http.get("/api/billing/statement?month=2026-13", headers=me), 400, field="month")
    answer = http.get("/api/billing/ledger.csv", headers=me)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(month["items"])
    empty = http.get("/api/billing/ledger.csv", headers=key_of(scene.sign_up("new@example.com")))
    assert len(empty.text.splitlines()) == 1
