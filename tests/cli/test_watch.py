"""The operator's watch from a terminal."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.cli.contract_server import ContractServer

SHIP = {"id": "ins_1", "name": "Ada", "state": "failed", "email": "ada@example.com", "failure": "The disk is full."}
RUN = {"id": "provision:op_1", "name": "provision", "state": "failed", "reason": "disk_full", "attempts": 2}
LINE = {"at": "2026-11-21T03:29:14+00:00", "actor": "user:u", "action": "instance.stop", "details": {"why": "tired"}}
ALERT = {"id": "not_1", "subject": "A disk is full", "state": "sent"}
CHECK = {"what": "disk", "state": "low", "advice": "1 GB free; 2 GB at least"}


@pytest.fixture
def admin(server: ContractServer) -> ContractServer:
    """The server with the watch's calls."""
    server.answers |= {
        ("GET", "/api/admin/instances"): (200, {"items": [SHIP], "next_cursor": "two"}),
        ("GET", "/api/admin/workflows"): (200, {"items": [RUN], "next_cursor": None}),
        ("POST", "/api/admin/workflows/provision%3Aop_1/retry"): (202, {"id": RUN["id"]}),
        ("GET", "/api/admin/audit"): (200, {"items": [LINE], "next_cursor": None}),
        ("GET", "/api/admin/check"): (200, {"is_ok": False, "problems": [], "items": [CHECK]}),
        ("GET", "/api/admin/alerts"): (200, {"items": [ALERT], "next_cursor": None}),
        ("POST", "/api/admin/alerts/not_1/close"): (200, {"id": "not_1", "is_open": False}),
    }
    return server


def test_what_there_is(run: Run, admin: ContractServer) -> None:
    fleet = run("admin", "instances", "--state", "trouble", "--search", "ada")
    assert ("The disk is full." in fleet.out, "--cursor two" in fleet.err) == (True, True)
    assert admin.seen[-1].query == {"state": "trouble", "search": "ada"}
    assert "disk_full" in run("admin", "workflows").out
    assert admin.seen[-1].query == {"state": "failed"}
    assert run("admin", "retry", "provision:op_1").code == 0
    audit = run("admin", "audit", "--who", "workflow:", "--action", "instance.")
    assert "why: tired" in audit.out
    assert admin.seen[-1].query == {"who": "workflow:", "action": "instance."}
    assert "A disk is full" in run("admin", "alerts", "--closed").out
    assert admin.seen[-1].query == {"closed": "true"}
    assert run("admin", "close-alert", "not_1").code == 0


def test_the_check_fails_when_something_is_missing(run: Run, admin: ContractServer) -> None:
    ran = run("admin", "check")
    assert ran.code == 1
    assert "2 GB at least" in ran.out
    assert "disk" in ran.err
    admin.answers["GET", "/api/admin/check"] = (200, {"is_ok": True, "problems": [], "items": []})
    assert run("admin", "check").code == 0
