"""`clawhaven backups`: what it sends, what it shows, what it saves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, problem

AT = f"/api/instances/{INSTANCE}/backups"
ONE = {
    "id": "bak_1",
    "status": "ready",
    "made_for": "daily",
    "at": "2026-11-21T03:00:14+00:00",
    "size_bytes": 3_400_000,
    "openclaw_version": "2026.9.6",
    "problem": None,
}
OPERATION = {"operation": {"id": "op_1", "state": "queued", "kind": "backup", "steps": []}}


def test_they_are_listed_made_brought_back_and_removed(run: Run, server: ContractServer) -> None:
    server.answers["GET", AT] = (200, {"items": [ONE, {**ONE, "id": "bak_2", "size_bytes": 900}]})
    out = run("backups", "list", INSTANCE).out
    assert "3.4 MB" in out
    assert "0.9 kB" in out
    server.answers["POST", AT] = (202, OPERATION)
    assert "being made" in run("backups", "create", INSTANCE).out
    server.answers["POST", f"{AT}/bak_1/restore"] = (202, OPERATION)
    assert run("backups", "restore", INSTANCE, "bak_1").code == 2, "asks first, and nobody answers"
    assert "brought back" in run("backups", "restore", INSTANCE, "bak_1", "--yes").out
    server.answers["DELETE", f"{AT}/bak_1"] = (202, {"id": "bak_1", "status": "removing"})
    assert "being removed" in run("backups", "remove", INSTANCE, "bak_1", "--yes").out


def test_version_and_upgrade(run: Run, server: ContractServer) -> None:
    seen = {"version": "2026.1.1", "since": None, "newest": "2026.9.6", "is_older": True}
    server.answers["GET", f"/api/instances/{INSTANCE}/version"] = (200, seen)
    assert "2026.1.1" in run("instances", "version", INSTANCE).out
    server.answers["POST", f"/api/instances/{INSTANCE}/upgrade"] = (202, OPERATION)
    assert "being upgraded" in run("instances", "upgrade", INSTANCE).out


def test_a_download_is_whole_and_its_owners(
    run: Run, server: ContractServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.answers["GET", f"{AT}/bak_1/download"] = (200, ONE)
    assert run("backups", "download", INSTANCE, "bak_1", "--output", "mine.tar.gz").out == "Saved as mine.tar.gz.\n"
    assert b"bak_1" in (tmp_path / "mine.tar.gz").read_bytes()
    assert stat.S_IMODE((tmp_path / "mine.tar.gz").stat().st_mode) == 0o600
    refused = run("backups", "download", INSTANCE, "bak_1", "--output", "mine.tar.gz")
    assert (refused.code, "is there already" in refused.err) == (2, True)
    assert run("backups", "download", INSTANCE, "bak_1", "-o", "mine.tar.gz", "--force").code == 0
    assert run("backups", "download", INSTANCE, "bak_1").code == 0
    assert sorted(os.listdir(tmp_path)) == ["download", "mine.tar.gz"]
    gone = run("backups", "download", INSTANCE, "bak_1", "-o", "no/such/folder")
    assert (gone.code, "cannot be written" in gone.err) == (1, True)
    server.answers["GET", f"{AT}/bak_1/download"] = (409, problem("illegal_move", "This backup is still being made."))
    refused = run("backups", "download", INSTANCE, "bak_1", "-o", "other.tar.gz")
    assert (refused.code, "still being made" in refused.err) == (1, True)
    assert not (tmp_path / "other.tar.gz").exists()
