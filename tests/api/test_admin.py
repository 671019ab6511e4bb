"""The operator's API: who may, customers, credits, refunds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from clawhaven import ledger
from clawhaven.accounts import apikeys, operators
from clawhaven.api.deps import COOKIE
from clawhaven.billing.models import Receipt
from clawhaven.core.audit import AuditEntry
from clawhaven.instances.states import State
from clawhaven.workflows import access, disputes, topups
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]
NAMED = {"idempotency-key": "5e0f0a52-2d51-4f0e-a8a1-9fbd0f0d4b11"}
READS = ["overview", "accounts", "accounts/x", "reconcile", "margin", "events", "coupons", "coupons/X"]
WRITES = ["accounts/x/credits", "receipts/x/refund", "instances/x/replace-key", "reconcile", "coupons"]


@pytest.fixture
def boss(scene: Scene) -> dict[str, str]:
    """An operator's key with every scope."""
    with scene.ctx.db.tx() as db:
        now = scene.ctx.clock.now()
        owner = operators.appoint(db, "boss@example.com", now)
        owner.user.verified_at = now
        _, secret = apikeys.issue(db, owner, "boss", ["read", "write", "admin"], now, is_operator=True)
    return {"authorization": f"Bearer {secret}"}


def test_a_stranger_sees_nothing(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun = scene.sign_up()
    me = key_of(begun)
    with scene.ctx.db.tx() as db:
        begun.owner.user.verified_at = None
        db.merge(begun.owner.user)
        begun.owner.user.is_operator = True
        db.merge(begun.owner.user)
    before = scene.counts()
    for path in READS:
        assert_error(http.get(f"/api/admin/{path}"), 401)
        assert_error(http.get(f"/api/admin/{path}", headers=me), 404, "not_found")
    for path in WRITES:
        answer = http.post(f"/api/admin/{path}", json={"amount_micros": 5, "reason": "why not"}, headers=me)
        assert_error(answer, 404, "not_found")
    assert_error(http.delete("/api/admin/coupons/X", headers=me), 404, "not_found")
    assert scene.counts() == before


def test_an_operators_key_needs_the_scope_and_a_session_has_it(http: TestClient, scene: Scene) -> None:
    scene.ctx.settings.admin_emails = "Boss@Example.com, other@example.com"
    begun = scene.sign_up("boss@example.com")
    http.cookies.set(COOKIE, begun.session or "")
    assert_error(http.get("/api/admin/accounts"), 404), "an address that was merely typed"
    with scene.ctx.db.tx() as db:
        begun.owner.user.verified_at = scene.ctx.clock.now()
        db.merge(begun.owner.user)
    assert http.get("/api/admin/accounts").status_code == 200
    plain = http.post("/api/auth/keys", json={"scopes": ["read", "write"]}).json()["key"]
    reader = http.post("/api/auth/keys", json={"scopes": ["read", "admin"]}).json()["key"]
    http.cookies.clear()
    plain, reader = ({"authorization": f"Bearer {key}"} for key in (plain, reader))
    assert assert_error(http.get("/api/admin/margin", headers=plain), 403)["details"] == {"scope": "admin"}
    assert_error(http.post("/api/auth/keys", json={"scopes": ["admin"]}, headers=plain), 403)
    assert http.get("/api/admin/margin", headers=reader).status_code == 200
    assert_error(http.post("/api/admin/reconcile", headers=reader), 403)
    scene.ctx.settings.admin_emails = ""
    assert_error(http.get("/api/admin/margin", headers=reader), 404)


def test_customers_by_page_and_by_address(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    ids = [scene.sign_up(f"{name}@example.com").instance.account_id for name in ("ada", "bea", "cleo")]
    first = http.get("/api/admin/accounts?limit=2", headers=boss).json()
    rest = http.get(f"/api/admin/accounts?limit=2&cursor={first['next_cursor']}", headers=boss).json()
    seen = [one["id"] for one in first["items"] + rest["items"]]
    assert (len(seen), set(ids) <= set(seen), rest["next_cursor"]) == (4, True, None)
    found = http.get("/api/admin/accounts?search=BEA", headers=boss).json()["items"]
    assert [one["email"] for one in found] == ["bea@example.com"]
    assert_error(http.get("/api/admin/accounts?cursor=x", headers=boss), 400, field="cursor")
    assert_error(http.get("/api/admin/accounts/acc_nobody", headers=boss), 404)


def test_one_customer_with_all_there_is(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    begun = scene.live()
    path = f"/api/admin/accounts/{begun.instance.account_id}"
    told = http.get(path, headers=boss).json()
    assert told["email"] == "ada@example.com"
    assert [one["state"] for one in told["subscriptions"]] == ["active"]
    (receipt,) = told["receipts"]
    assert (receipt["amount_micros"], receipt["kind"], receipt["refundable_micros"]) == (
        29_000_000,
        "subscription",
        29_000_000,
    )
    assert receipt["what"].startswith("Personal, 20")
    assert receipt["period_start"] < receipt["period_end"]
    assert [one["kind"] for one in told["ledger"]["items"]] == ["plan", "payment"]
    assert [one["state"] for one in told["instances"]] == ["active"]
    assert "receipt" in {one["kind"] for one in told["notices"]}
    assert told["wallet"]["balance_micros"] == 0
    assert http.get("/api/admin/accounts/ADA@example.com", headers=boss).json()["id"] == told["id"]
    assert_error(http.get("/api/admin/accounts/ada@nowhere.example", headers=boss), 404)
    assert_error(http.get(f"{path}?cursor=x", headers=boss), 400, field="cursor")
    business = http.get("/api/admin/overview", headers=boss).json()
    assert (business["accounts"], business["instances"]) == (2, {"active": 1})
    assert business["margin"]["revenue_micros"] == 29_000_000


def test_the_disputed_part_of_what_is_set_aside_is_told_apart(
    http: TestClient, scene: Scene, boss: dict[str, str], key_of: Keys
) -> None:
    begun = scene.live(plan="metered")
    account_id, now = begun.owner.account.id, scene.ctx.clock.now()
    page = topups.open_topup(scene.ctx, begun.owner, 20_000_000)
    topup = dataclasses.replace(begun, checkout=page)
    scene.pay(topup)
    with scene.ctx.db.tx() as db:
        wallet_id = access.wallet_of(db, scene.ctx, account_id)
        ledger.hold(db, "call:one", wallet_id, 5_000_000, now + timedelta(hours=1), now=now)
    (payment,) = scene.vendor.fetch(scene.reference(topup)).payments
    scene.vendor.dispute(payment.reference, "open")
    scene.settle(topup)
    with scene.ctx.db.tx() as db:
        disputes.set_aside(db, scene.ctx, account_id)
    mine = http.get("/api/billing/balance", headers=key_of(begun)).json()
    theirs = http.get(f"/api/admin/accounts/{account_id}", headers=boss).json()["wallet"]
    for told in (mine, theirs):  # 20 of 30 are above the minimum, and 5 of them in use
        assert (told["balance_micros"], told["held_micros"], told["disputed_micros"]) == (
            30_000_000,
            20_000_000,
            15_000_000,
        )


def test_credit_is_given_once_and_taken_back(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    account_id = scene.sign_up().instance.account_id
    path = f"/api/admin/accounts/{account_id}/credits"
    body = {"amount_micros": 25_000_000, "reason": "An outage of ours"}
    first = http.post(path, json=body, headers=boss | NAMED)
    assert (first.status_code, first.json()["wallet"]["balance_micros"]) == (201, 25_000_000)
    again = http.post(path, json=body, headers=boss | NAMED)
    assert (again.status_code, again.json()) == (201, first.json())
    assert_error(http.post(path, json={**body, "amount_micros": 1}, headers=boss | NAMED), 409, "key_of_another")
    too_much = {"amount_micros": -20_000_000, "reason": "Booked twice"}
    refused = http.post(path, json=too_much, headers=boss)
    assert_error(refused, 402, "payment_required")
    taken = http.post(path, json={**too_much, "is_below_minimum": True}, headers=boss).json()
    assert taken["wallet"]["balance_micros"] == 5_000_000
    with scene.ctx.db.read() as db:
        written = db.scalars(sa.select(AuditEntry).where(AuditEntry.action.startswith("wallet."))).all()
    assert [(entry.action, entry.actor.partition(":")[0]) for entry in written] == [
        ("wallet.credit", "key"),
        ("wallet.correction", "key"),
    ]
    for wrong, field in (
        ({**body, "amount_micros": 0}, "amount_micros"),
        ({**body, "amount_micros": 10**12}, "amount_micros"),
        ({**body, "amount_micros": 1.5}, "amount_micros"),
        ({**body, "reason": "  "}, "reason"),
        ({**body, "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({**body, "expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({**body, "other": 1}, "other"),
    ):
        assert_error(http.post(path, json=wrong, headers=boss), 400, field=field)
    assert_error(http.post("/api/admin/accounts/acc_nobody/credits", json=body, headers=boss), 404)
    by_address = http.post("/api/admin/accounts/ada@example.com/credits", json=body, headers=boss).json()
    assert (by_address["account_id"], by_address["wallet"]["balance_micros"]) == (account_id, 30_000_000)


def test_a_refund_is_asked_for_once_and_never_beyond_the_payment(
    http: TestClient, scene: Scene, boss: dict[str, str]
) -> None:
    scene.live()
    with scene.ctx.db.read() as db:
        receipt_id = db.scalars(sa.select(Receipt)).one().id
    path = f"/api/admin/receipts/{receipt_id}/refund"
    part = {"amount_micros": 9_000_000, "reason": "Half a month down"}
    first = http.post(path, json=part, headers=boss | NAMED)
    assert (first.status_code, first.json()["state"]) == (201, "asked")
    assert http.post(path, json=part, headers=boss | NAMED).json() == first.json()
    assert_error(http.post(path, json={**part, "amount_micros": 21_000_000}, headers=boss), 400, field="amount_micros")
    rest = http.post(path, json={"reason": "All of it"}, headers=boss).json()
    assert rest["amount_micros"] == 20_000_000
    assert_error(http.post(path, json={"reason": "All of it"}, headers=boss), 400, field="amount_micros")
    assert_error(http.post("/api/admin/receipts/rcp_x/refund", json=part, headers=boss), 404)
    assert scene.count("refund") == 2


def test_an_operator_replaces_an_assistants_key(http: TestClient, scene: Scene, boss: dict[str, str]) -> None:
    live, waiting = scene.live(), scene.put_in(State.PENDING)
    path = f"/api/admin/instances/{live.instance.id}/replace-key"
    told = http.post(path, headers=boss)
    assert (told.status_code, told.json()["operation"]["kind"]) == (202, "replace_key")
    assert http.post(path, headers=boss).json() == told.json()
    assert_error(http.post("/api/admin/instances/ins_x/replace-key", headers=boss), 404, "not_found")
    refused = http.post(f"/api/admin/instances/{waiting.instance.id}/replace-key", headers=boss)
    assert "waiting for its payment" in assert_error(refused, 409, "illegal_move")["message"]
    with scene.ctx.db.read() as db:
        found = db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "instance.replace_key")).one()
    assert (found.subject, found.account_id) == (live.instance.id, live.instance.account_id)
    assert found.actor.startswith("key:")
