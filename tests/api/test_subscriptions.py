"""Agreements over the API: look, change, end, take back, return; the vendor's documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from clawhaven.billing import coupons, subscriptions
from clawhaven.providers.payments.sandbox import Sandbox
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


def test_an_agreement_is_changed_ended_and_kept(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun = scene.live()
    me = key_of(begun)
    (one,) = http.get("/api/billing/subscriptions", headers=me).json()["items"]
    assert (one["plan"], one["state"], one["amount_micros"]) == ("personal", "active", 29_000_000)
    assert (one["instances"], one["new_price_micros"], one["trouble"]) == ([begun.instance.id], None, None)
    base = f"/api/billing/subscriptions/{one['id']}"
    assert http.post(f"{base}/cancel", headers=me).json()["is_ending"] is True
    assert http.post(f"{base}/resume", headers=me).json()["is_ending"] is False
    changed = http.post(f"{base}/plan", json={"plan": "metered"}, headers=me).json()
    assert (changed["plan"], changed["amount_micros"]) == ("metered", 20_000_000)
    assert http.post(f"{base}/accept-price", headers=me).json()["amount_micros"] == 20_000_000
    assert scene.instance(begun.instance.id).plan == "metered"


def test_a_new_price_is_taken_when_it_is_paid_and_not_before(
    http: TestClient, scene: Scene, key_of: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = scene.live()
    me = key_of(begun)
    now = dataclasses.replace(scene.ctx.plans.get("personal"), price_micros=39_000_000)
    monkeypatch.setitem(scene.ctx.plans._plans, "personal", now)
    (one,) = http.get("/api/billing/subscriptions", headers=me).json()["items"]
    assert one["new_price_micros"] == 39_000_000
    path = f"/api/billing/subscriptions/{one['id']}/accept-price"
    with monkeypatch.context() as patched:
        patched.setattr(Sandbox, "change_plan", lambda *_: None)  # it waits for its payment
        body = assert_error(http.post(path, headers=me), 402, "payment_required")
    assert body["details"]["pay_url"].startswith("http")
    customer = str(scene.vendor.fetch(scene.reference(begun)).customer_reference)
    scene.vendor.use_card(customer, "declined")
    assert_error(http.post(path, headers=me), 402, "payment_required")
    scene.vendor.use_card(customer, "works")
    taken = http.post(path, headers=me).json()
    assert (taken["amount_micros"], taken["new_price_micros"]) == (39_000_000, None)


def test_a_running_coupon_is_told(http: TestClient, scene: Scene, key_of: Keys) -> None:
    with scene.ctx.db.tx() as db:
        coupons.create(db, "FIVE", "amount", 5_000_000, now=scene.ctx.clock.now(), months=None)
    begun = scene.live(coupon="five")
    (one,) = http.get("/api/billing/subscriptions", headers=key_of(begun)).json()["items"]
    told = {"code": "FIVE", "percent": None, "amount_micros": 5_000_000, "is_once": False, "until": None}
    assert one["coupon"] == told


def test_what_cannot_be_is_said(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun, other = scene.live(), scene.live("eve@example.com")
    me, reader = key_of(begun), key_of(begun, "read")
    (one,) = http.get("/api/billing/subscriptions", headers=me).json()["items"]
    (theirs,) = http.get("/api/billing/subscriptions", headers=key_of(other)).json()["items"]
    base = f"/api/billing/subscriptions/{one['id']}"
    assert_error(http.post(f"{base}/plan", json={"plan": "nope"}, headers=me), 400, "validation_failed", "plan")
    assert_error(http.post(f"{base}/plan", json={}, headers=me), 400, "validation_failed", "plan")
    for action in ("cancel", "resume", "accept-price"):
        assert_error(http.post(f"/api/billing/subscriptions/{theirs['id']}/{action}", headers=me), 404, "not_found")
        assert_error(http.post(f"{base}/{action}", headers=reader), 403, "forbidden")
        assert_error(http.post(f"{base}/{action}"), 401, "unauthorized")
    again = f"/api/instances/{begun.instance.id}/reactivate"
    assert_error(http.post(again, json={}, headers=me), 409)
    assert_error(http.post(again, json={}, headers=key_of(other)), 404, "not_found")


def test_who_comes_back_gets_a_payment_page(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun = scene.live()
    with scene.ctx.db.read() as db:
        subscription = subscriptions.of_instance(db, begun.instance.id)
    assert subscription
    scene.vendor.end(subscription.reference)
    scene.settle(begun)
    answer = http.post(f"/api/instances/{begun.instance.id}/reactivate", json={}, headers=key_of(begun))
    assert answer.status_code == 201
    assert "/sandbox/checkout/" in answer.json()["checkout_url"]


def test_the_vendor_s_documents(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me = key_of(scene.live())
    (invoice,) = http.get("/api/billing/invoices", headers=me).json()["items"]
    assert (invoice["amount_micros"], invoice["state"]) == (29_000_000, "paid")
    assert invoice["url"]
    told = http.get("/api/billing/payment-method", headers=me).json()
    assert (told["payment_method"]["provider"], told["portals"]) == ("sandbox", ["sandbox"])
    assert told["payment_method"]["last4"]
    assert told["items"] == [told["payment_method"]]
    for body in (None, {}, {"provider": "sandbox"}):
        assert http.post("/api/billing/portal", headers=me, json=body).json()["url"].startswith("http")
    assert_error(http.post("/api/billing/portal", headers=me, json={"provider": "stripe"}), 400, "validation_failed")
    new = key_of(scene.sign_up("new@example.com"))
    assert http.get("/api/billing/invoices", headers=new).json()["items"] == []
    told = http.get("/api/billing/payment-method", headers=new).json()
    assert (told["payment_method"], told["items"], told["portals"]) == (None, [], [])
    assert_error(http.post("/api/billing/portal", headers=new), 404, "not_found")
