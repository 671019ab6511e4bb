"""`clawhaven instances files` and `soul`: what they send, what they show."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, problem

AT = f"/api/instances/{INSTANCE}/files"
SOUL = {"name": "SOUL.md", "characters": 9, "limit": 20_000, "digest": "0" * 64, "status": "being_written"}
CHANGED = {"name": "SOUL.md", "is_changed": True}


def test_files_are_listed_and_printed(run: Run, server: ContractServer) -> None:
    server.answers["GET", AT] = (200, {"items": [SOUL]})
    assert "being written" in run("instances", "files", "list", INSTANCE).out
    server.answers["GET", f"{AT}/SOUL.md"] = (200, {**SOUL, "content": "Be kind.\n"})
    for command in (("files", "get", INSTANCE, "SOUL.md"), ("soul", INSTANCE)):
        assert run("instances", *command).out == "Be kind.\n"


def test_a_file_is_replaced_from_a_file_and_from_stdin(run: Run, server: ContractServer, tmp_path: Path) -> None:
    server.answers["PUT", f"{AT}/SOUL.md"] = (202, CHANGED)
    words = tmp_path / "soul.md"
    words.write_text("Be brief.\n")
    ran = run("instances", "files", "put", INSTANCE, "SOUL.md", "--from", str(words), "--base", "0" * 64)
    assert (ran.code, "being written" in ran.out) == (0, True)
    assert server.seen[-1].body == {"content": "Be brief.\n", "base": "0" * 64}
    assert run("instances", "soul", INSTANCE, "--from", "-", stdin="Be kind.").code == 0
    assert server.seen[-1].body == {"content": "Be kind."}
    server.answers["PUT", f"{AT}/SOUL.md"] = (409, problem("file_changed", "SOUL.md has changed since you opened it."))
    refused = run("instances", "soul", INSTANCE, "--from", str(words))
    assert refused.code == 1
    assert "has changed since" in refused.err


def test_texts_are_looked_up_and_brought_back(run: Run, server: ContractServer) -> None:
    one = {"number": 3, "author": "owner", "at": "2026-11-21T03:29:14+00:00", "written_at": None, "problem": None}
    server.answers["GET", f"{AT}/SOUL.md/versions"] = (200, {"items": [one]})
    assert "owner" in run("instances", "files", "history", INSTANCE, "SOUL.md").out
    server.answers["GET", f"{AT}/SOUL.md/versions/3"] = (200, {**one, "content": "Be kind.\n"})
    assert run("instances", "files", "version", INSTANCE, "SOUL.md", "3").out == "Be kind.\n"
    server.answers["POST", f"{AT}/SOUL.md/versions/3/restore"] = (202, {**CHANGED, "is_changed": False})
    assert run("instances", "files", "restore", INSTANCE, "SOUL.md", "3").out == "Nothing was changed.\n"
