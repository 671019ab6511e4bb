"""`clawhaven admin`: what is asked of the API, and what runs on the server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clawhaven.core.settings import Settings
from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, operation
from tests.fakes.stripe_server import KEY as STRIPE_KEY
from tests.fakes.stripe_server import StripeServer

LINE = {
    "email": "ada@example.com",
    "account_id": "acc_1",
    "revenue_micros": 29_000_000,
    "margin_micros": 20_000_000,
    "uncovered_micros": 1_750_000,
}
LINE["remark"] = "More went out than came in."
COUPON = {"code": "FIVE", "kind": "credit", "amount_micros": 5_000_000, "redeemed": 2, "is_disabled": False}


COMPARED = {"id": "cmp_1", "state": "done", "is_repair": False, "ended_at": "2026-11-21T03:17:00+00:00"}


@pytest.fixture
def admin(server: ContractServer) -> ContractServer:
    """The server with the operator's calls."""
    one = {"id": "acc_1", "email": "ada@example.com", "created_at": "2026-11-21T03:29:14", "is_verified": True}
    wallet = {"balance_micros": 7_500_000, "held_micros": 0, "disputed_micros": 250_000, "level": "ok"}
    found = {**one, "wallet": wallet, "subscriptions": [{"plan": "personal", "state": "active"}], "instances": []}
    found["receipts"] = [{"id": "rcp_1", "amount_micros": 29_000_000, "what": "Personal, May"}]
    gap = {"subject": "sub_1", "problem": "active here and gone there", "repair": "settle it", "is_safe": True}
    server.answers |= {
        ("GET", "/api/admin/overview"): (200, {"accounts": 3, "margin": LINE, "trouble": [], "month": "2026-11"}),
        ("GET", "/api/admin/accounts"): (200, {"items": [one], "next_cursor": "two"}),
        ("GET", "/api/admin/accounts/acc_1"): (200, found),
        ("GET", "/api/admin/accounts/ada%40example.com"): (200, found),
        ("POST", "/api/admin/accounts/acc_1/credits"): (201, {"wallet": wallet}),
        ("POST", "/api/admin/receipts/rcp_1/refund"): (201, {"id": "ref_1", "state": "asked"}),
        ("POST", f"/api/admin/instances/{INSTANCE}/replace-key"): (202, {"operation": operation("replace_key")}),
        ("GET", "/api/admin/reconcile"): (200, {"items": [gap], "next_cursor": None, "comparison": COMPARED}),
        ("POST", "/api/admin/reconcile"): (202, {**COMPARED, "state": "running"}),
        ("GET", "/api/admin/reconcile/cmp_1"): (200, {"items": [], "next_cursor": None, "comparison": COMPARED}),
        ("GET", "/api/admin/margin"): (200, {"items": [LINE], "total": LINE, "month": "2026-11"}),
        ("GET", "/api/admin/events"): (200, {"items": [{"vendor_type": "invoice.paid"}], "next_cursor": "three"}),
        ("GET", "/api/admin/coupons"): (200, {"items": [COUPON], "next_cursor": None}),
        ("POST", "/api/admin/coupons"): (201, COUPON),
        ("DELETE", "/api/admin/coupons/FIVE"): (204, None),
    }
    return server


def test_what_there_is(run: Run, admin: ContractServer) -> None:
    assert "$20.00" in run("admin", "overview").out
    listed = run("admin", "accounts", "--search", "ada")
    assert ("ada@example.com" in listed.out, "--cursor two" in listed.err) == (True, True)
    assert admin.seen[-1].query == {"search": "ada"}
    told = run("admin", "account", "acc_1").out
    for words in ("$7.50", "personal (active)", "rcp_1 $29.00 for Personal, May"):
        assert words in told
    assert run("admin", "account", "ada@example.com").out == told
    margin = run("admin", "margin", "--month", "2026-11")
    assert ("$29.00" in margin.out, "margin $20.00" in margin.err) == (True, True)
    assert "Usage for $1.75 was covered by no balance." in margin.err
    assert "ada@example.com: More went out than came in." in margin.err
    events = run("admin", "events", "--state", "received")
    assert ("invoice.paid" in events.out, "--cursor three" in events.err) == (True, True)
    assert admin.seen[-1].query == {"state": "received"}


def test_an_assistants_key_is_replaced_when_that_is_meant(run: Run, admin: ContractServer) -> None:
    assert run("admin", "replace-key", INSTANCE, stdin="n\n").code != 0
    assert admin.seen == []
    ran = run("admin", "replace-key", INSTANCE, "--yes")
    assert ran.code == 0
    assert "accepted until the assistant runs with it" in ran.out
    assert (admin.seen[-1].method, admin.seen[-1].path) == ("POST", f"/api/admin/instances/{INSTANCE}/replace-key")
    assert run("admin", "replace-key", "ins_x", "--yes", "--format", "json").code == 4


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("admin", "account", "acc_9"), "clawhaven admin accounts"),
        (("admin", "credits", "acc_9", "5", "--reason", "An outage"), "clawhaven admin accounts"),
        (("admin", "refund", "rcp_9", "--reason", "Sorry", "--yes"), "clawhaven admin account ACCOUNT"),
        (("admin", "coupon", "disable", "NONE"), "clawhaven admin coupon list"),
        (("admin", "overview"), "for operators"),
        (("instances", "get", "ins_9"), "clawhaven instances list"),
    ],
)
def test_what_is_not_found_is_looked_for_in_its_own_list(
    run: Run, server: ContractServer, arguments: tuple[str, ...], hint: str
) -> None:
    ran = run(*arguments)
    assert ran.code == 4
    assert hint in ran.err
    assert ("instances list" in ran.err) == (arguments[0] == "instances")


def test_a_key_without_the_scope_is_told_how_to_get_one(run: Run, server: ContractServer) -> None:
    refused = {"error": "forbidden", "message": "No admin scope.", "details": {"scope": "admin"}}
    server.answers["GET", "/api/admin/overview"] = (403, refused)
    ran = run("admin", "overview")
    assert (ran.code, "auth login --admin" in ran.err) == (3, True)


def test_credit_and_correction(run: Run, admin: ContractServer) -> None:
    assert "$7.50" in run("admin", "credits", "acc_1", "7.50", "--reason", "An outage").out
    sent = admin.seen[-1]
    assert sent.body == {"amount_micros": 7_500_000, "reason": "An outage", "is_below_minimum": False}
    assert sent.headers["idempotency-key"]
    assert run("admin", "credits", "acc_1", "-2", "--reason", "Twice", "--below-minimum").code == 0
    assert admin.seen[-1].body == {"amount_micros": -2_000_000, "reason": "Twice", "is_below_minimum": True}
    ends = "2026-12-31T00:00:00Z"
    assert run("admin", "credits", "acc_1", "5", "--reason", "An outage", "--expires", ends).code == 0
    assert admin.seen[-1].body["expires_at"] == ends
    before = len(admin.seen)
    assert run("admin", "credits", "acc_1", "many", "--reason", "An outage").code == 2
    assert len(admin.seen) == before


def test_a_refund_is_asked_about_first(run: Run, admin: ContractServer) -> None:
    assert run("admin", "refund", "rcp_1", "--reason", "Sorry").code == 2
    assert not admin.seen
    assert run("admin", "refund", "rcp_1", "--reason", "Sorry", "--yes").code == 0
    assert admin.seen[-1].body == {"amount_micros": None, "reason": "Sorry"}
    assert run("admin", "refund", "rcp_1", "--reason", "Sorry", "--amount", "9", "-y").code == 0
    assert admin.seen[-1].body["amount_micros"] == 9_000_000


def test_reconcile_explains_and_repairs_when_told(run: Run, admin: ContractServer) -> None:
    assert "active here and gone there" in run("admin", "reconcile").out
    assert admin.seen[-1].method == "GET"
    for option, is_repair in (("--repair", True), ("--now", False)):
        assert "Everything agrees" in run("admin", "reconcile", option).err
        assert (admin.seen[-2].method, admin.seen[-2].body) == ("POST", {"repair": is_repair})
        assert admin.seen[-1].path == "/api/admin/reconcile/cmp_1"
    admin.answers["GET", "/api/admin/reconcile"] = (200, {"items": [], "next_cursor": None, "comparison": None})
    assert "Not compared yet" in run("admin", "reconcile").err
    broken = {"items": [], "next_cursor": None, "comparison": {**COMPARED, "state": "broken"}}
    admin.answers["GET", "/api/admin/reconcile/cmp_1"] = (200, broken)
    assert run("admin", "reconcile", "--now").code != 0


def test_coupons(run: Run, admin: ContractServer) -> None:
    assert "FIVE" in run("admin", "coupon", "list").out
    assert run("admin", "coupon", "create", "five", "--credit", "5", "--limit", "10").code == 0
    assert admin.seen[-1].body == {
        "code": "five",
        "credit_micros": 5_000_000,
        "percent": None,
        "amount_micros": None,
        "months": 0,
        "max_redemptions": 10,
        "expires_at": None,
    }
    assert run("admin", "coupon", "create", "half", "--percent", "50", "--always").code == 0
    assert admin.seen[-1].body["months"] is None
    assert run("admin", "coupon", "disable", "FIVE").code == 0


def test_operators_are_named_on_the_server(
    bare: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in (
        ("DATABASE_URL", settings.database_url),
        ("DATA_DIR", str(tmp_path / "data")),
        ("ADMIN_EMAILS", "named@example.com"),
        ("LOG_LEVEL", "ERROR"),
    ):
        monkeypatch.setenv(name, value)
    added = bare("admin", "operator", "add", "Boss@Example.com")
    assert (added.code, "boss@example.com is an operator" in added.out) == (0, True), added.err
    assert re.search(r"http://\S+/sign-in/[\w-]{20,}", added.out)
    listed = bare("admin", "operator", "list").out
    assert "boss@example.com (has not signed in" in listed
    assert "named@example.com (has no account yet)" in listed
    assert bare("admin", "operator", "remove", "boss@example.com").code == 0
    assert "boss@example.com" not in bare("admin", "operator", "list").out
    unknown = bare("admin", "operator", "remove", "nobody@example.com")
    assert (unknown.code, "Nobody here" in unknown.err) == (1, True)
    assert bare("admin", "operator", "add", "no address").code == 1


def test_stripe_needs_its_key(bare: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("STRIPE_SECRET_KEY", raising=False)
    refused = bare("admin", "stripe", "setup")
    assert refused.code == 1
    assert "STRIPE_SECRET_KEY is missing" in refused.err


def test_stripe_is_set_up_once(bare: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with StripeServer() as vendor:
        monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setenv("BASE_URL", "https://haven.example")
        monkeypatch.setenv("STRIPE_SECRET_KEY", STRIPE_KEY)
        monkeypatch.setenv("STRIPE_API_URL", vendor.url)
        first = bare("admin", "stripe", "setup")
        made = len(vendor.objects)
        second = bare("admin", "stripe", "setup")
        (endpoint,) = vendor.all("webhook_endpoint")
        assert (first.code, second.code, len(vendor.objects)) == (0, 0, made)
    assert "plan personal: price_" in first.out
    assert "STRIPE_WEBHOOK_SECRET=whsec_new" in first.out.splitlines()
    assert "made now" not in second.out
    assert "there already" in second.out
    assert "whsec" not in second.out
    assert endpoint["url"] == "https://haven.example/api/webhooks/stripe"


def test_a_wrong_stripe_key_is_said_and_not_shown(bare: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with StripeServer() as vendor:
        monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_of_another")
        monkeypatch.setenv("STRIPE_API_URL", vendor.url)
        refused = bare("admin", "stripe", "setup")
    assert refused.code == 1
    assert "Stripe refuses STRIPE_SECRET_KEY" in refused.err
    assert "of_another" not in refused.err + refused.out
