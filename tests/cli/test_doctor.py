"""`clawhaven doctor`: what is there, what is missing, and what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawhaven import wiring
from clawhaven.cli import main
from clawhaven.core.settings import Settings
from tests.workflows.scene import set_up


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What it prints, without the table's frame and line breaks."""
    capsys.readouterr()
    main.run(("doctor",))
    lines = capsys.readouterr().out.splitlines()
    return " ".join(" ".join(line.strip("│┃ ").split()) for line in lines)


def test_the_catalogue_is_shown_plan_by_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "300")
    shown = told(capsys)
    for words in ("plan personal │ ok │ offered; $29.00 / month; model included; 1 assistant", "plan yearly │ ok │"):
        assert words in shown
    assert "$10.00 of usage included" in shown


def test_a_plan_that_assistants_have_must_stay_in_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    wiring.migrate(settings)
    with set_up(settings) as scene:
        scene.sign_up("ada@example.com")
    own = tmp_path / "plans.toml"
    own.write_text(
        '[other]\nname = "Other"\nprice = "5"\ninterval = "month"\naccess = "included"\nsummary = "x"\ninstances = 1\n'
        "messages_per_hour = 0\ntokens_per_day = 0\nmax_in_flight = 8\nis_offered = false\n"
    )
    for name, value in {"DATA_DIR": settings.data_dir, "PLANS_FILE": own, "COLUMNS": 300}.items():
        monkeypatch.setenv(name, str(value))
    shown = told(capsys)
    assert "plan personal │ missing │ 1 assistant(s) have it: put it back with is_offered = false" in shown
    assert "plans │ none offered │ nobody can sign up" in shown


def test_the_operators_prices_are_shown_and_models_that_are_not_sold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    wiring.migrate(settings)
    with set_up(settings) as scene:
        scene.sign_up("ada@example.com")
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("COLUMNS", "300")
    assert "models, all of them ours" in told(capsys)
    own = tmp_path / "prices.toml"
    monkeypatch.setenv("MODEL_PRICES_FILE", str(own))
    own.write_text(
        '[[price]]\nmodel = "sandbox-1"\neffective_from = 2026-02-01\nis_offered = false\n'
        '[[price]]\nmodel = "gpt-4.1"\neffective_from = 2026-02-01\ninput = "1.90"\noutput = "7.60"\n'
        'cache_read = "0.40"\ncache_write_5m = "1.90"\ncache_write_1h = "1.90"\n'
    )
    shown = told(capsys)
    assert "price sandbox-1 │ ok │ not sold from 2026-02-01" in shown
    assert "price gpt-4.1 │ ok │ $1.90 in, $7.60 out, $0.40 from the cache" in shown
    assert "model sandbox-1 │ not sold │ 1 assistant(s) have it, and their calls are refused" in shown
    own.write_text("[[price]]\nmodel = 5\n")
    assert "settings │ wrong │ MODEL_PRICES_FILE=" in told(capsys)
