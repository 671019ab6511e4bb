"""Balance, usage, ledger and plans."""

from __future__ import annotations

import re

from tests.cli.conftest import Run
from tests.cli.contract_server import ContractServer


def test_balance_in_dollars(run: Run) -> None:
    told = run("billing", "balance").out
    assert ("$12.34" in told, "$3.00" in told, "$1.25" in told) == (True, True, True)
    assert run("billing", "balance", "--format", "json").json["balance_micros"] == 12_340_000


def test_usage(run: Run) -> None:
    assert "$0.0042" in run("billing", "usage").out


def test_ledger_by_page(run: Run) -> None:
    first = run("billing", "ledger")
    assert "Payment for Personal" in first.out
    assert "Second page" not in first.out
    assert "--cursor two" in first.err
    assert "Second page" in run("billing", "ledger", "--cursor", "two").out


def test_whole_ledger(run: Run, server: ContractServer) -> None:
    whole = run("billing", "ledger", "--all", "--format", "json").json
    assert [line["id"] for line in whole["items"]] == [1, 2]
    assert whole["next_cursor"] is None


def test_plans_need_no_sign_in(bare: Run) -> None:
    heading, row = bare("billing", "plans").out.splitlines()
    assert re.split(r"\s{2,}", row.strip()) == [
        *("yearly", "Own key, yearly", "$299.00", "year", "own key", "14 %", "1", "-", "1,000,000", "-", "-"),
        "Paid per year.",
    ]
    assert "SAVES" in heading
