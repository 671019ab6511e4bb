"""Keys for one's own programs from the terminal."""

from __future__ import annotations

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, problem

PATH = f"/api/instances/{INSTANCE}/program-keys"
KEY = {
    "id": "prg_1",
    "name": "Site search",
    "prefix": "chp_abcdef",
    "created_at": "2026-11-21T03:29:14+00:00",
    "last_used_at": None,
}
AT = {"anthropic": "https://haven.example/proxy", "openai": "https://haven.example/proxy/v1"}


def test_list_says_where_to_point_the_clients(run: Run, server: ContractServer) -> None:
    server.answers["GET", PATH] = (200, {"items": [KEY], "base_urls": AT, "next_cursor": None})
    ran = run("programs", "list", INSTANCE)
    assert ran.code == 0
    assert "Site search" in ran.out
    assert "chp_abcdef" in ran.out
    for address in AT.values():
        assert address in ran.err
    assert run("programs", "list", INSTANCE, "--format", "json").json["items"] == [KEY]


def test_make_prints_the_secret_once(run: Run, server: ContractServer) -> None:
    server.answers["POST", PATH] = (201, {**KEY, "key": "chp_abcdefsecret"})
    ran = run("programs", "make-key", INSTANCE, "Site search")
    assert (ran.code, ran.out) == (0, "chp_abcdefsecret\n")
    assert server.seen[-1].body == {"name": "Site search"}


def test_a_key_that_may_not_says_what_to_do(run: Run, server: ContractServer) -> None:
    server.answers["POST", PATH] = (403, problem("forbidden", "Use `clawhaven auth login --keys`.", scope="keys"))
    ran = run("programs", "make-key", INSTANCE, "x")
    assert (ran.code, ran.out) == (3, "")
    assert "auth login --keys" in ran.err


def test_revoke_wants_a_yes(run: Run, server: ContractServer) -> None:
    server.answers["DELETE", f"{PATH}/prg_1"] = (204, None)
    assert run("programs", "revoke-key", INSTANCE, "prg_1").code == 2
    assert run("programs", "revoke-key", INSTANCE, "prg_1", "--yes").out == "The key is revoked.\n"
    assert server.seen[-1].method == "DELETE"
