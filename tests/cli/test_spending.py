"""Usage in any combination, limits a day, automatic calls that go on, vendors' exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer

DAY: dict[str, Any] = {
    "instance_id": INSTANCE,
    "spent_today_micros": 1_250_000,
    "spend_per_day_micros": None,
    "automatic_today_micros": 510_000,
    "automatic_allowance_micros": 500_000,
    "automatic_extra_micros": 0,
    "is_automatic_paused": True,
    "resets_at": "2026-11-22T00:00:00+00:00",
}
LINE = {"day": "2026-11-20", "source": "cron", "calls": 2, "input_tokens": 1_234, "price_micros": 4_200}
COMPARED = {
    "day": "2026-11-20",
    "upstream": "anthropic",
    "model": "claude-opus-5-5",
    "theirs": {"tokens": 1_200_000, "cost_micros": 2_000_000},
    "ours": {"tokens": 1_000_000, "cost_micros": 1_500_000},
    "is_off": True,
}


def test_usage_by_any_combination(run: Run, server: ContractServer) -> None:
    server.answers["GET", "/api/billing/usage/by"] = (200, {"items": [LINE], "next_cursor": None})
    ran = run("billing", "usage", "--by", "day,source", "--since", "2026-11-01", "--instance", INSTANCE)
    heading, row = ran.out.splitlines()
    assert heading.split()[:2] == ["DAY", "SOURCE"]
    assert row.split()[:4] == ["2026-11-20", "cron", "2", "1,234"]
    query = server.seen[-1].query
    assert (query["by"], query["since"], query["instance_id"]) == (
        "day,source",
        "2026-11-01T00:00:00Z",
        INSTANCE,
    )


def test_usage_as_csv(run: Run, server: ContractServer) -> None:
    server.answers["GET", "/api/billing/usage.csv"] = (200, "day,calls\n2026-11-20,2\n")
    assert "2026-11-20,2" in run("billing", "usage", "--csv", "--until", "2026-11-21").out
    assert server.seen[-1].query["until"] == "2026-11-21T00:00:00Z"


def test_a_day_and_a_tap(run: Run, server: ContractServer) -> None:
    server.answers["GET", f"/api/instances/{INSTANCE}/spending"] = (200, DAY)
    shown = run("instances", "spending", INSTANCE).out
    for words in ("$1.25", "$0.51", "Paused until", "2026-11-22 00:00:00"):
        assert words in shown
    server.answers["POST", f"/api/instances/{INSTANCE}/continue"] = (
        200,
        DAY | {"automatic_allowance_micros": 1_000_000},
    )
    assert "$1.00" in run("instances", "continue", INSTANCE).out
    assert server.seen[-1].body == {"seen_extra_micros": 0}


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (("billing", "limit"), "/api/billing/spend-limit"),
        (("instances", "limit", INSTANCE), f"/api/instances/{INSTANCE}/spend-limit"),
    ],
)
def test_limits(run: Run, server: ContractServer, command: tuple[str, ...], path: str) -> None:
    server.answers["PUT", path] = (200, DAY)
    assert "$2.50 a day" in run(*command, "2.50").out
    assert server.seen[-1].body == {"spend_per_day_micros": 2_500_000}
    assert "no limit" in run(*command, "--none").out
    assert server.seen[-1].body == {"spend_per_day_micros": None}
    assert run(*command).code == 2
    assert run(*command, "2", "--none").code == 2
    assert run(*command, "much").code == 2


def test_exports_are_read_and_compared(run: Run, server: ContractServer, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    file.write_text("a,b\n")
    answer = {"lines": 3, "since": "2026-11-20", "until": "2026-11-21", "items": [COMPARED], "next_cursor": None}
    server.answers["POST", "/api/admin/usage/anthropic"] = (200, answer)
    ran = run("admin", "usage", "import", "anthropic", str(file))
    assert "3 lines, 2026-11-20 to 2026-11-21" in ran.err
    assert "1,200,000" in ran.out
    assert server.seen[-1].body == {"name": "usage.csv", "content": "a,b\n"}
    assert run("admin", "usage", "import", "anthropic", str(tmp_path / "none.csv")).code == 2
    server.answers["GET", "/api/admin/usage"] = (200, {"items": [COMPARED], "next_cursor": None})
    ran = run("admin", "usage", "compare", "--since", "2026-11-01")
    assert ran.code == 1
    assert "$2.00" in ran.out
    server.answers["GET", "/api/admin/usage"] = (200, {"items": [COMPARED | {"is_off": False}], "next_cursor": None})
    ran = run("admin", "usage", "compare", "--differences")
    assert (ran.code, "Nothing differs" in ran.err) == (0, True)
    assert run("admin", "usage", "compare", "--since", "yesterday").code == 2
