"""Filling the wallet and reading its statement from a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawhaven.cli.failures import Failure
from clawhaven.cli.topup import micros
from tests.cli.conftest import Run
from tests.cli.contract_server import ContractServer, Raw

AUTO = {"enabled": True, "threshold_micros": 15_000_000, "amount_micros": 25_000_000, "state": "armed", "problem": None}


def test_a_topup_shows_where_to_pay(run: Run, server: ContractServer) -> None:
    made = {"id": "cho_1", "state": "open", "amount_micros": 12_500_000, "checkout_url": "https://pay.example/1"}
    server.answers[("POST", "/api/billing/topup")] = (201, made)
    assert "https://pay.example/1" in run("billing", "topup", "12.50").out
    (sent,) = [one for one in server.seen if one.path == "/api/billing/topup"]
    assert sent.body == {"amount_micros": 12_500_000}
    assert sent.headers.get("idempotency-key")


def test_a_wrong_amount_is_refused_before_anything_is_sent(run: Run, server: ContractServer) -> None:
    for wrong in ("ten", "-5", "1.0000001", "nan", "inf", ""):
        ran = run("billing", "topup", "--", wrong)
        assert (ran.code, "not an amount" in ran.err) == (2, True), wrong
    assert server.seen == []


def test_the_automatic_topup_is_shown_set_and_switched_off(run: Run, server: ContractServer) -> None:
    server.answers[("GET", "/api/billing/auto-topup")] = (200, AUTO)
    server.answers[("PUT", "/api/billing/auto-topup")] = (200, AUTO)
    assert "$15.00" in run("billing", "auto-topup").out
    run("billing", "auto-topup", "--below", "20")
    run("billing", "auto-topup", "--off")
    sent = [one.body for one in server.seen if one.method == "PUT"]
    assert sent == [
        {"enabled": True, "threshold_micros": 20_000_000, "amount_micros": 25_000_000},
        {"enabled": False, "threshold_micros": 15_000_000, "amount_micros": 25_000_000},
    ]


def test_a_coupon_is_redeemed(run: Run, server: ContractServer) -> None:
    server.answers[("POST", "/api/billing/coupons")] = (200, {"amount_micros": 5_000_000, "amount": "$5.00"})
    assert "$5.00" in run("billing", "redeem", "WELCOME").out


def test_the_statement_says_where_it_began_and_ended(run: Run, server: ContractServer) -> None:
    line = {
        "at": "2026-11-21T03:29:14+00:00",
        "kind": "topup",
        "amount_micros": 10_000_000,
        "balance_after_micros": 12_000_000,
        "note": "Top-up",
    }
    month = {"month": "2026-11", "opening_micros": 2_000_000, "closing_micros": 12_000_000, "items": [line]}
    server.answers[("GET", "/api/billing/statement")] = (200, month)
    ran = run("billing", "statement", "--month", "2026-11")
    assert "Top-up" in ran.out
    assert "from $2.00 to $12.00" in ran.err


def test_the_ledger_is_written_to_a_file(run: Run, server: ContractServer, tmp_path: Path) -> None:
    text = "at,kind\r\n2026-11-21,topup\r\n"
    server.answers[("GET", "/api/billing/ledger.csv")] = (200, Raw(text.encode(), "text/csv"))
    ran = run("billing", "export", str(tmp_path / "ledger.csv"))
    assert (ran.code, "1 movements" in ran.out) == (0, True)
    assert (tmp_path / "ledger.csv").read_bytes().decode() == text
    assert run("billing", "export", str(tmp_path / "no" / "such" / "place.csv")).code == 2


def test_dollars_are_exact() -> None:
    assert [micros(text) for text in ("25", "$12.50", "0.000001", "1e2")] == [25_000_000, 12_500_000, 1, 100_000_000]
    with pytest.raises(Failure):
        micros("1,5")
