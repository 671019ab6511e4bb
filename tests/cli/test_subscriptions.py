"""Plans and invoices from a terminal."""

from __future__ import annotations

from typing import Any

from tests.cli.conftest import Run
from tests.cli.contract_server import ContractServer

ONE: dict[str, Any] = {
    "id": "sub_1",
    "plan": "personal",
    "state": "active",
    "amount_micros": 29_000_000,
    "period_end": "2026-12-21T00:00:00+00:00",
    "is_ending": False,
    "new_price_micros": None,
    "pay_url": None,
}


def offer(server: ContractServer, *subscriptions: dict[str, Any]) -> None:
    """What the server says of the account's subscriptions, and of any action on the first."""
    server.answers[("GET", "/api/billing/subscriptions")] = (200, {"items": list(subscriptions), "next_cursor": None})
    for action in ("plan", "cancel", "resume", "accept-price"):
        server.answers[("POST", f"/api/billing/subscriptions/sub_1/{action}")] = (200, {**ONE, "is_ending": True})


def test_the_only_plan_needs_no_name(run: Run, server: ContractServer) -> None:
    offer(server, ONE, {**ONE, "id": "sub_0", "state": "canceled"})
    assert "$29.00" in run("billing", "plan", "show").out
    assert run("billing", "plan", "cancel", "--yes").code == 0
    assert run("billing", "plan", "resume").code == 0
    assert run("billing", "plan", "accept-price", "--yes").code == 0
    assert run("billing", "plan", "change", "metered", "--yes").code == 0
    posted = [(one.path.rpartition("/")[2], one.body) for one in server.seen if one.method == "POST"]
    assert posted == [("cancel", {}), ("resume", {}), ("accept-price", {}), ("plan", {"plan": "metered"})]


def test_a_coupon_and_a_suspension_are_shown(run: Run, server: ContractServer) -> None:
    coupon = {"code": "HALF", "percent": 50, "amount_micros": None, "is_once": False, "until": "2027-02-21T00:00:00Z"}
    offer(server, {**ONE, "coupon": coupon, "trouble": {"state": "suspended", "cause": "dispute"}})
    told = run("billing", "plan", "show").out
    for words in ("HALF: 50 % until 2027-02-21", "SUSPENDED FOR", "dispute"):
        assert words in told
    always = {"code": "FIVE", "percent": None, "amount_micros": 5_000_000, "is_once": False, "until": None}
    offer(server, {**ONE, "coupon": always, "trouble": {"state": "grace", "cause": "payment"}})
    told = run("billing", "plan", "show").out
    assert "FIVE: $5.00" in told
    assert "payment" not in told


def test_what_cannot_be_undone_is_asked_first(run: Run, server: ContractServer) -> None:
    offer(server, ONE)
    ran = run("billing", "plan", "cancel")
    assert (ran.code, "--yes" in ran.err) == (2, True)
    assert [one for one in server.seen if one.method == "POST"] == []


def test_several_plans_have_to_be_named(run: Run, server: ContractServer) -> None:
    offer(server, ONE, {**ONE, "id": "sub_2"})
    ran = run("billing", "plan", "cancel", "--yes")
    assert (ran.code, "sub_2" in ran.err) == (2, True)
    assert run("billing", "plan", "cancel", "--yes", "--subscription", "sub_1").code == 0


def test_without_a_plan_there_is_nothing_to_change(run: Run, server: ContractServer) -> None:
    offer(server)
    assert run("billing", "plan", "cancel", "--yes").code == 4
    assert "no plan" in run("billing", "plan", "show").err


def test_invoices_and_the_vendor_s_page(run: Run, server: ContractServer) -> None:
    invoice = {
        "id": "in_1",
        "number": "A-1",
        "state": "paid",
        "amount_micros": 29_000_000,
        "description": "Personal",
        "url": "https://pay.example/in_1",
        "pdf_url": None,
        "at": "2026-11-21T00:00:00+00:00",
    }
    server.answers[("GET", "/api/billing/invoices")] = (200, {"items": [invoice], "next_cursor": None})
    server.answers[("POST", "/api/billing/portal")] = (200, {"url": "https://pay.example/portal"})
    assert "https://pay.example/in_1" in run("billing", "invoices").out
    assert run("billing", "portal").out.strip() == "https://pay.example/portal"
    assert [one.body for one in server.seen if one.method == "POST"] == [{}]
    assert run("billing", "portal", "--vendor", "creem").code == 0
    assert server.seen[-1].body == {"provider": "creem"}


def test_what_is_charged_while_one_is_away(run: Run, server: ContractServer) -> None:
    card = {"provider": "stripe", "brand": "visa", "last4": "4242", "expires_month": 4, "expires_year": 2030}
    told = {"payment_method": card, "items": [card], "portals": ["stripe", "creem"], "next_cursor": None}
    server.answers[("GET", "/api/billing/payment-method")] = (200, told)
    ran = run("billing", "payment-method")
    for words in ("stripe", "visa", "4242", "2030"):
        assert words in ran.out
    assert "--vendor stripe|creem" in ran.err
    nothing = {"payment_method": None, "items": [], "portals": [], "next_cursor": None}
    server.answers[("GET", "/api/billing/payment-method")] = (200, nothing)
    ran = run("billing", "payment-method")
    assert ("None is saved." in ran.err, "portal" in ran.err) == (True, False)


def test_who_comes_back_gets_the_page_to_pay(run: Run, server: ContractServer) -> None:
    begun = {"instance_id": "ins_abc", "status": "suspended", "checkout_url": "https://haven.example/checkout/chk_1"}
    server.answers[("POST", "/api/instances/ins_abc/reactivate")] = (201, begun)
    assert "https://haven.example/checkout/chk_1" in run("billing", "reactivate", "ins_abc").out
    assert server.seen[-1].body == {"plan": None}
    assert run("billing", "reactivate", "ins_abc", "--plan", "yearly").code == 0
    assert server.seen[-1].body == {"plan": "yearly"}
