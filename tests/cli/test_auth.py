"""Signing in, the stored key, signing out."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from clawhaven.cli.auth import token_in
from tests.cli.conftest import Run
from tests.cli.contract_server import KEY, ContractServer, problem


def test_sign_in_by_link(bare: Run, server: ContractServer, config_home: Path) -> None:
    ran = bare("auth", "login", stdin="ada@example.com\nhttps://haven.example/sign-in/tok123\n")
    assert ran.code == 0, ran.err
    assert "ada@example.com" in ran.out
    assert KEY not in ran.out + ran.err
    sent = {seen.path: seen.body for seen in server.seen}
    assert sent["/api/auth/link"] == {"email": "ada@example.com"}
    assert sent["/api/auth/link/redeem"] == {"token": "tok123"}
    assert sent["/api/auth/keys"]["scopes"] == ["read", "write"]
    file = config_home / "config.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(config_home.stat().st_mode) == 0o700
    assert bare("auth", "whoami", "--quiet").out == "ada@example.com\n"


def test_sign_in_with_a_key_from_stdin(bare: Run, server: ContractServer) -> None:
    ran = bare("auth", "login", "--api-key", "-", stdin=f"{KEY}\n")
    assert ran.code == 0, ran.err
    assert [seen.path for seen in server.seen] == ["/api/auth/me"]
    assert bare("auth", "whoami").code == 0


def test_a_wrong_key_is_not_kept(bare: Run, config_home: Path) -> None:
    ran = bare("auth", "login", "--api-key", "chk_wrong")
    assert ran.code == 3
    assert not (config_home / "config.toml").exists()


def test_a_used_link_ends_the_sign_in(bare: Run, server: ContractServer, config_home: Path) -> None:
    server.answers["POST", "/api/auth/link/redeem"] = (401, problem("unauthorized", "This link was used already."))
    ran = bare("auth", "login", "--email", "ada@example.com", stdin="tok\n")
    assert ran.code == 3
    assert "used already" in ran.err
    assert not (config_home / "config.toml").exists()


def test_without_a_key_nothing_is_asked(bare: Run, server: ContractServer) -> None:
    ran = bare("auth", "whoami")
    assert ran.code == 3
    assert "clawhaven auth login" in ran.err
    assert server.seen == []


def test_sign_out_revokes_the_key_that_sign_in_made(bare: Run, server: ContractServer) -> None:
    bare("auth", "login", "--email", "ada@example.com", stdin="tok\n")
    ran = bare("auth", "logout")
    assert ran.code == 0
    assert (server.seen[-1].method, server.seen[-1].path) == ("DELETE", "/api/auth/keys/key_1")
    assert bare("auth", "whoami").code == 3


def test_sign_out_leaves_a_given_key_alone(bare: Run, server: ContractServer) -> None:
    bare("auth", "login", "--api-key", KEY)
    before = len(server.seen)
    assert "still works" in bare("auth", "logout").err
    assert len(server.seen) == before


def test_sign_out_here_even_when_the_server_fails(bare: Run, server: ContractServer) -> None:
    bare("auth", "login", "--email", "ada@example.com", stdin="tok\n")
    server.answers["DELETE", "/api/auth/keys/key_1"] = (503, problem("unavailable", "Down."))
    ran = bare("auth", "logout")
    assert ran.code == 1
    assert "Signed out here, but the key could not be revoked" in ran.err
    assert bare("auth", "whoami").code == 3


@pytest.mark.parametrize(
    ("pasted", "token"),
    [
        ("abc", "abc"),
        ("https://h.example/sign-in/abc", "abc"),
        ("https://h.example/sign-in/abc/", "abc"),
        ("https://h.example/sign-in?token=abc&x=1", "abc"),
        ("https://h.example/sign-in#token=abc", "abc"),
    ],
)
def test_what_can_be_pasted(pasted: str, token: str) -> None:
    assert token_in(pasted) == token
