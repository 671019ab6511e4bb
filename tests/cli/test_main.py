"""Global options, formats, exit codes; every failure a sentence, none a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clawhaven import __version__
from clawhaven.cli.main import hoist
from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, Raw, problem
from tests.conftest import free_port


def test_table_is_for_eyes(run: Run) -> None:
    ran = run("instances", "list")
    assert ran.code == 0
    assert "ID" in ran.out.splitlines()[0]
    assert "Ada's helper" in ran.out
    assert "2026-11-21 03:29:14" in ran.out


def test_json_is_the_answer_of_the_api(run: Run) -> None:
    ran = run("instances", "list", "--format", "json")
    assert ran.json["items"][0]["id"] == INSTANCE
    assert ran.err == ""


def test_yaml_is_the_answer_of_the_api(run: Run) -> None:
    ran = run("--format=yaml", "instances", "get", INSTANCE)
    assert yaml.safe_load(ran.out)["name"] == "Ada's helper"


def test_quiet_prints_the_first_column_alone(run: Run) -> None:
    ran = run("instances", "list", "--quiet")
    assert (ran.out, ran.err) == (f"{INSTANCE}\n", "")


def test_verbose_names_requests_but_no_secret(run: Run, server: ContractServer) -> None:
    ran = run("billing", "balance", "--verbose")
    assert f"GET {server.url}/api/billing/balance -> 200" in ran.err
    assert "chk_" not in ran.err + ran.out


def test_global_options_may_stand_anywhere_before_a_double_dash() -> None:
    assert hoist(["a", "--format", "json", "b", "--quiet"]) == ["--format", "json", "--quiet", "a", "b"]
    assert hoist(["chat", "x", "--", "--quiet"]) == ["chat", "x", "--", "--quiet"]
    assert hoist(["a", "--api-url=http://x", "--format"]) == ["--api-url=http://x", "--format", "a"]


def test_version(run: Run) -> None:
    assert run("--version").out == f"clawhaven {__version__}\n"


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "validation_failed", 1),
        (401, "unauthorized", 3),
        (403, "forbidden", 3),
        (404, "not_found", 4),
        (409, "already_exists", 1),
        (429, "rate_limited", 1),
        (500, "internal_error", 1),
        (503, "at_capacity", 5),
        (503, "unavailable", 1),
    ],
)
def test_every_error_of_the_api_has_its_exit_code(
    run: Run, server: ContractServer, status: int, code: str, exit_code: int
) -> None:
    server.answers["GET", "/api/billing/balance"] = (status, problem(code, "A sentence of the API.", retry_after=7))
    ran = run("billing", "balance")
    assert ran.code == exit_code
    assert "Error: A sentence of the API." in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_a_failure_is_readable_by_programs_too(run: Run, server: ContractServer) -> None:
    server.answers["POST", "/api/instances"] = (
        503,
        problem("at_capacity", "Every place is taken.", waitlist_url="http://w"),
    )
    ran = run("instances", "create", "Ada", "--format", "json")
    assert ran.code == 5
    assert ran.json == problem("at_capacity", "Every place is taken.", waitlist_url="http://w")
    assert "http://w" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("instances", "nonsense"),
        ("nonsense",),
        ("instances", "get"),
        ("--format", "xml", "instances", "list"),
        ("--api-url", "ftp://example.com", "instances", "list"),
        ("--api-url", "http://user:password@example.com", "instances", "list"),
        ("--api-url", "http://[", "instances", "list"),
        ("--api-key", "två ord", "instances", "list"),
        ("instances", "get", ".."),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run: Run, server: ContractServer, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.err
    assert server.seen == []


def test_nobody_listens(run: Run) -> None:
    ran = run("--api-url", f"http://127.0.0.1:{free_port()}", "instances", "list")
    assert ran.code == 1
    assert "No server answers" in ran.err
    assert "make demo" in ran.err


@pytest.mark.parametrize("status", [200, 404, 502])
def test_something_else_listens(run: Run, server: ContractServer, status: int) -> None:
    server.answers["GET", "/api/instances"] = (status, Raw(b"<html>hello</html>"))
    ran = run("instances", "list")
    assert ran.code == 1
    assert f"does not answer like a Clawhaven API (status {status}, text/html)" in ran.err


def test_json_that_is_none(run: Run, server: ContractServer) -> None:
    server.answers["GET", "/api/instances"] = (200, Raw(b'{"items": [', "application/json"))
    assert "does not answer like a Clawhaven API" in run("instances", "list").err


def test_a_connection_that_breaks(run: Run, server: ContractServer) -> None:
    server.answers["GET", "/api/instances"] = (200, Raw(b'{"items"', "application/json", is_cut=True))
    ran = run("instances", "list")
    assert ran.code == 1
    assert "broke" in ran.err


def test_a_server_that_is_silent(run: Run, server: ContractServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawhaven.cli.client.TIMEOUT_SECONDS", 0.1)
    server.answers["GET", "/api/instances"] = (200, Raw(b"{}", delay_seconds=1))
    ran = run("instances", "list")
    assert ran.code == 1
    assert "did not answer within" in ran.err


def test_a_key_is_not_carried_to_another_address(run: Run, server: ContractServer) -> None:
    server.answers["GET", "/api/instances"] = (307, Raw(b"", location="http://elsewhere.example/api/instances"))
    ran = run("instances", "list")
    assert ran.code == 1
    assert "elsewhere.example" in ran.err
    assert len(server.seen) == 1


def test_what_a_server_says_cannot_steer_the_terminal(run: Run, server: ContractServer) -> None:
    server.answers["GET", "/api/billing/balance"] = (404, problem("not_found", "\x1b[2J\x1b]0;owned\x07gone\x9b1m"))
    ran = run("billing", "balance")
    assert "gone" in ran.err
    assert not {"\x1b", "\x07", "\x9b"} & set(ran.err)


@pytest.mark.parametrize("arguments", ["--help", "instances list --format json"])
def test_a_reader_that_leaves_early_sees_no_traceback(config_home: Path, arguments: str) -> None:
    program = "import time; time.sleep(0.3); from clawhaven.cli.main import main; main()"
    command = f"{sys.executable} -c '{program}' {arguments} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
