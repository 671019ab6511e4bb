"""The customer's own model key from the terminal: never an argument, never shown."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, problem

PATH = f"/api/instances/{INSTANCE}/api-key"
KEY = "sk-ant-api03-customers-1234"
SET = {"is_set": True, "vendor": "anthropic", "hint": "…1234", "checked_at": "2026-11-21T03:29:14+00:00", "vendors": []}
NOT_SET = {"is_set": False, "vendor": None, "hint": None, "checked_at": None, "vendors": []}


@pytest.fixture(autouse=True)
def _answers(server: ContractServer) -> None:
    server.answers["PUT", PATH] = (200, SET)
    server.answers["GET", PATH] = (200, SET)
    server.answers["DELETE", PATH] = (204, None)


def test_set_reads_stdin_and_shows_the_end(run: Run, server: ContractServer) -> None:
    ran = run("apikey", "set", INSTANCE, "--verbose", stdin=f"{KEY}\n")
    assert ran.code == 0
    assert "anthropic" in ran.out
    assert "…1234" in ran.out
    assert KEY not in ran.out + ran.err
    assert server.seen[-1].body == {"api_key": KEY}
    run("apikey", "set", INSTANCE, "--vendor", "openai", stdin=KEY)
    assert server.seen[-1].body == {"api_key": KEY, "vendor": "openai"}


def test_the_key_cannot_be_an_argument(run: Run, server: ContractServer) -> None:
    for words in (("--key", KEY), ("--api-key-value", KEY), (KEY,)):
        assert run("apikey", "set", INSTANCE, *words).code == 2
    assert run("apikey", "set", INSTANCE, stdin="").code == 2
    assert server.seen == []


def test_a_refused_key(run: Run, server: ContractServer) -> None:
    server.answers["PUT", PATH] = (400, problem("invalid_api_key", "Anthropic does not accept it.", field="api_key"))
    ran = run("apikey", "set", INSTANCE, stdin=KEY)
    assert (ran.code, ran.out) == (1, "")
    assert "Anthropic does not accept it." in ran.err


def test_show(run: Run, server: ContractServer) -> None:
    assert "…1234" in run("apikey", "show", INSTANCE).out
    server.answers["GET", PATH] = (200, NOT_SET)
    ran = run("apikey", "show", INSTANCE)
    assert (ran.code, ran.out) == (0, "")
    assert f"clawhaven apikey set {INSTANCE}" in ran.err
    assert run("apikey", "show", INSTANCE, "--format", "json").json == NOT_SET


def test_remove_wants_a_yes(run: Run, server: ContractServer) -> None:
    assert run("apikey", "remove", INSTANCE).code == 2
    assert run("apikey", "remove", INSTANCE, "--yes").out == "The key is removed.\n"
    assert server.seen[-1].method == "DELETE"
