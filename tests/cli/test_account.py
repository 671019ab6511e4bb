"""`clawhaven account`: what is asked of the API, and what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.contract_server import ContractServer

SESSION = {"id": "ses_1", "device": "Firefox on Linux", "last_used_at": "2026-11-21T03:29:14+00:00"}
KEY = {"id": "key_1", "name": "ci", "prefix": "chk_abcdef", "scopes": ["read"], "last_used_at": None}


@pytest.fixture
def mine(server: ContractServer) -> ContractServer:
    """The server with the account's calls."""
    server.answers |= {
        ("GET", "/api/auth/sessions"): (200, {"items": [SESSION]}),
        ("DELETE", "/api/auth/sessions"): (200, {"ended": 2}),
        ("DELETE", "/api/auth/sessions/ses_1"): (204, None),
        ("GET", "/api/auth/keys"): (200, {"items": [KEY]}),
        ("POST", "/api/auth/keys"): (201, {**KEY, "key": "chk_secret"}),
        ("DELETE", "/api/auth/keys/key_1"): (204, None),
        ("DELETE", "/api/auth/me"): (
            202,
            {"state": "confirmation_mailed", "message": "Open the link.", "left_micros": 0},
        ),
        ("DELETE", "/api/auth/deletion"): (204, None),
        ("GET", "/api/auth/export"): (200, {"format": "clawhaven-account-1"}),
    }
    return server


def test_sessions_and_keys(run: Run, mine: ContractServer) -> None:
    assert "Firefox on Linux" in run("account", "sessions").out
    assert run("account", "end-session", "ses_1").code == 0
    assert run("account", "end-session", "--all").code == 0
    assert (mine.seen[-1].method, mine.seen[-1].path) == ("DELETE", "/api/auth/sessions")
    for wrong in ((), ("ses_1", "--all")):
        assert run("account", "end-session", *wrong).code == 2
    assert "chk_abcdef" in run("account", "keys").out
    made = run("account", "make-key", "ci", "--scope", "read")
    assert made.out.strip() == "chk_secret"
    assert mine.seen[-1].body == {"name": "ci", "scopes": ["read"]}
    assert run("account", "revoke-key", "key_1").code == 0


def test_everything_goes_to_stdout_or_a_file(run: Run, mine: ContractServer, tmp_path: Path) -> None:
    assert run("account", "export").json == {"format": "clawhaven-account-1"}
    target = tmp_path / "all.json"
    assert run("account", "export", "--file", str(target)).code == 0
    assert "clawhaven-account-1" in target.read_text()
    assert run("account", "export", "--file", str(tmp_path)).code == 1


def test_what_needs_a_browser_is_not_here(run: Run, mine: ContractServer) -> None:
    asked = len(mine.seen)
    for command in ("change-email", "confirm-email", "delete"):
        assert run("account", command, "ada@example.com").code == 2
    assert len(mine.seen) == asked
    assert "browser" in run("account", "--help").out


def test_the_end_is_asked_for_and_taken_back(run: Run, mine: ContractServer) -> None:
    assert "Open the link." in run("account", "delete", "--confirm", "ada@example.com").out
    assert mine.seen[-1].body == {"confirm": "ada@example.com"}
    assert "Open the link." in run("account", "delete", stdin="ada@example.com\n").out
    assert mine.seen[-1].body == {"confirm": "ada@example.com"}
    assert run("account", "keep").code == 0
    assert (mine.seen[-1].method, mine.seen[-1].path) == ("DELETE", "/api/auth/deletion")
