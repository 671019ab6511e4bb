"""The benchmark of the model proxy, in small: a real proxy under load, and a look into its books that sees lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.proxy import books, machine, report, run, subjects
from bench.proxy.client import stream
from bench.proxy.questions import LARGE_BYTES, SMALL_BYTES, ask
from clawhaven.core.settings import Settings

pytestmark = pytest.mark.live

STREAMS = 20


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_our_proxy_is_measured_and_its_books_are_true(
    dialect: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "proxy.json"
    asked = ["--subjects", "direct,ours-sqlite", "--scenarios", "latency,streams", "--streams", str(STREAMS)]
    asked += ["--rounds", "1", "--seconds", "1", "--dialect", dialect, "--folder", str(tmp_path)]
    assert run.main([*asked, "--output", str(output)]) == 0, capsys.readouterr().err
    found = json.loads(output.read_text())
    direct, ours = found["turns"]
    assert [direct["subject"], ours["subject"]] == ["direct", "ours-sqlite"]
    assert ours["books"]["lies"] == []
    assert ours["books"]["closed"] >= 100 + STREAMS
    assert ours["books"]["billed_micros"] > 0
    medians = found["medians"]
    assert 0 < medians["direct"]["latency"]["p50_ms"] <= medians["ours-sqlite"]["latency"]["p50_ms"]
    assert medians["direct"]["streams"]["median_s"] == pytest.approx(5, abs=0.5)
    assert "| ours-sqlite |" in capsys.readouterr().out
    assert run.main(["--table", str(output)]) == 0
    assert "ours-sqlite: adds" in capsys.readouterr().out


def test_a_book_that_is_not_true_is_seen(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setattr(books, "SETTLING_SECONDS", 0.5)
    model = books.prepare(2, 8, has_all_limits=False)["models"]["openai"]
    port = machine.free_port()
    with subjects.stub(tmp_path, port):
        vendor = f"http://127.0.0.1:{port}"
        assert books.check(vendor, [], acknowledged=0, cut=0, model=model)["lies"] == []
        times = stream(port, ask("openai", model, is_stream=True), [{}], 1, 1)  # served, and never booked
        assert (len(times.total), times.failures) == (1, [])
        lies = books.check(vendor, [], acknowledged=1, cut=0, model=model)["lies"]
    assert len(lies) == 2
    assert "1 answers were acknowledged" in lies[0]
    assert "the vendor served" in lies[1]


def test_answers_that_are_not_whole_fail(tmp_path: Path) -> None:
    port = machine.free_port()
    with subjects.stub(tmp_path, port):
        question = ask("anthropic", "any", size=LARGE_BYTES)
        assert len(question.body) == LARGE_BYTES
        asked = stream(port, question, [{}], 3, 1)
        assert (len(asked.total), asked.failures) == (3, [])
        wrong = ask("openai", "any", size=SMALL_BYTES)
        wrong = type(wrong)("/v1/messages", wrong.body, wrong.marks)
        assert len(stream(port, wrong, [{}], 2, 1).failures) == 2


def test_the_report_complains() -> None:
    failed = {"scenarios": {"json": {"rps": 10.0, "failures": 2, "example": "500"}}, "books": {"lies": ["one is gone"]}}
    turns = [
        {"subject": "ours-sqlite", "round": 0, **failed},
        {"subject": "ours-sqlite", "round": 1, "scenarios": {"json": {"rps": 30.0}}, "books": None, "error": "it died"},
    ]
    assert report.medians(turns)["ours-sqlite"]["json"]["rps"] == 20
    assert report.complaints(turns) == [
        "ours-sqlite, round 1: one is gone",
        "ours-sqlite, round 1: json: 2 answers failed: 500",
        "ours-sqlite, round 2: it died",
    ]
