"""`clawhaven admin prices`: shown, compared with an exit code for scripts, and taken over by developers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clawhaven.metering import pricefile
from tests.cli.conftest import Run
from tests.cli.contract_server import ContractServer

SHIPPED = Path(pricefile.__file__).with_name("prices.toml")
PRICE = {"model": "gpt-6-sol", "vendor": "openai", "input_micros": 2_000_000, "output_micros": 10_000_000}
PRICE |= {"is_own": False, "is_offered": True, "effective_from": "2026-01-01T00:00:00+00:00"}
PRICE |= {"long_prompt": {"over_tokens": 272_000, "input_micros": 4_000_000}}
CHANGE = {"name": "input", "ours": 2_000_000, "theirs": 3_000_000, "is_money": True}
BOUND = {"name": "long_prompt.over_tokens", "ours": None, "theirs": 272_000, "is_money": False}
DIFFERS = {"model": "gpt-6-sol", "kind": "price", "changes": [CHANGE, BOUND], "is_open": True, "row": "[[price]]\n"}


def answer(server: ContractServer, *items: object) -> None:
    server.answers |= {
        ("GET", "/api/admin/prices"): (200, {"items": [PRICE], "next_cursor": None}),
        ("GET", "/api/admin/prices/check"): (200, {"source": "genai-prices 0.2.3", "items": list(items)}),
    }


def test_the_list(run: Run, server: ContractServer) -> None:
    answer(server)
    told = run("admin", "prices", "list", "--model", "gpt-6-sol", "--all").out
    for words in ("gpt-6-sol", "$2.00", "$10.00", "$4.00 over 272,000", "2026-01-01", "us"):
        assert words in told
    assert server.seen[-1].query == {"model": "gpt-6-sol", "every": "true"}


def test_a_difference_ends_with_one_and_agreement_with_zero(run: Run, server: ContractServer) -> None:
    answer(server, DIFFERS)
    told = run("admin", "prices", "check", "--latest")
    assert told.code == 1
    assert "input $2.00 → $3.00; long_prompt.over_tokens none → 272,000" in told.out
    assert "Compared with genai-prices 0.2.3. Something differs." in told.err
    assert server.seen[-1].query == {"latest": "true"}
    answer(server, {**DIFFERS, "is_open": False})
    on_purpose = run("admin", "prices", "check")
    assert (on_purpose.code, "Nothing is to be done." in on_purpose.err) == (0, True)
    assert server.seen[-1].query == {}
    answer(server)
    assert run("admin", "prices", "check").code == 0


def test_rows_for_the_operators_file(run: Run, server: ContractServer) -> None:
    answer(server, DIFFERS, {**DIFFERS, "is_open": False, "row": "not this one"})
    told = run("admin", "prices", "check", "--rows")
    assert (told.code, told.out.strip()) == (1, "[[price]]")
    plain = run("--format", "json", "admin", "prices", "check", "--rows")
    assert plain.json["items"][0]["row"] == "[[price]]\n"


def test_a_developer_takes_the_installed_list_over(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ContractServer
) -> None:
    file = tmp_path / "prices.toml"
    shutil.copy(SHIPPED, file)
    told = run("admin", "prices", "import", "--file", str(file))
    assert told.code == 0
    assert "added" not in told.out, "ours is up to date with what is installed"
    assert file.read_text() == SHIPPED.read_text()
    cut = SHIPPED.read_text().split("\n[[price]]\n")
    without = [row for row in cut if not row.startswith(('model = "o3"', 'model = "text-embedding-3-large"'))]
    file.write_text("\n[[price]]\n".join(without))
    told = run("admin", "prices", "import", "--file", str(file))
    assert "added text-embedding-3-large@2026-01-01" in told.out
    assert "left out o3: say how long its answers get with --bound o3=TOKENS" in told.out
    told = run("admin", "prices", "import", "--file", str(file), "--bound", "o3=100_000")
    assert "added o3@2026-01-01" in told.out
    assert {price.id for price in pricefile.read_prices(file)} == {price.id for price in pricefile.read_prices(SHIPPED)}
    assert run("admin", "prices", "import", "--file", str(file), "--bound", "o3").code == 2
    assert run("admin", "prices", "import", "--file", str(tmp_path / "none.toml")).code == 1
    monkeypatch.setenv("GENAI_PRICES_URL", "http://127.0.0.1:1/data.json")
    away = run("admin", "prices", "import", "--latest", "--file", str(file))
    assert (away.code, "cannot be reached" in away.err) == (1, True)
