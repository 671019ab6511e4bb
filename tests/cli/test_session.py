"""Which server, which key; what is asked of a person."""

from __future__ import annotations

import io

import pytest

from clawhaven.cli.failures import Failure
from clawhaven.cli.session import confirm, is_exposed, read_secret
from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("http://example.com", True),
        ("http://10.0.0.1:8080", True),
        ("https://example.com", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost", False),
    ],
)
def test_plain_http_is_fine_on_this_machine_only(url: str, exposed: bool) -> None:
    assert is_exposed(url) is exposed


def test_a_key_on_an_open_wire_is_warned_of(run: Run) -> None:
    ran = run("--api-url", "http://clawhaven.invalid", "instances", "list", "--quiet")
    assert "not encrypted" in ran.err


class Terminal(io.StringIO):
    """A stdin at which a person sits."""

    def isatty(self) -> bool:
        return True


def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def prompt(label: str, *, hide_input: bool, err: bool) -> str:
        asked.append((label, hide_input))
        return " s3cret "

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("typer.prompt", prompt)
    assert read_secret("Token", None) == "s3cret"
    assert asked == [("Token", True)]


@pytest.mark.parametrize("answer", [True, False])
def test_a_no_is_a_no(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("typer.confirm", lambda question, err: answer)
    if answer:
        confirm("Sure?", False)
    else:
        with pytest.raises(Failure, match="Nothing was done"):
            confirm("Sure?", False)
