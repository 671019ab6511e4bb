"""The stored configuration: one key per address, never sent to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawhaven.cli import config
from clawhaven.cli.config import Config, StoredKey
from clawhaven.cli.failures import Failure
from tests.cli.conftest import Run
from tests.cli.contract_server import KEY, ContractServer


def test_what_is_saved_is_loaded(config_home: Path) -> None:
    odd = 'chk_"quoted"\\and\nmore'
    wanted = Config("http://a:1", {"http://a:1": StoredKey(odd, "key_1"), "https://b.example": StoredKey("chk_b")})
    config.save(wanted)
    assert config.load() == wanted
    assert list(config_home.iterdir()) == [config_home / "config.toml"]


def test_a_key_is_shown_by_no_repr() -> None:
    assert KEY not in repr(Config("http://a", {"http://a": StoredKey(KEY)}))


def test_a_damaged_file_is_a_sentence(bare: Run, config_home: Path) -> None:
    config_home.mkdir(parents=True)
    (config_home / "config.toml").write_text("api_url = [")
    ran = bare("auth", "whoami")
    assert ran.code == 1
    assert "cannot be read" in ran.err


def test_a_folder_that_cannot_be_written(config_home: Path) -> None:
    config_home.parent.mkdir(parents=True)
    config_home.write_text("a file in the way")
    with pytest.raises(Failure, match="cannot be written"):
        config.save(Config("http://a"))


def test_a_stored_key_stays_with_its_address(
    bare: Run, server: ContractServer, monkeypatch: pytest.MonkeyPatch, config_home: Path
) -> None:
    config.save(Config("http://other.example", {"http://other.example": StoredKey(KEY)}))
    ran = bare("instances", "list")
    assert ran.code == 3
    assert server.seen == []


def test_the_stored_address_is_used_when_none_is_given(
    bare: Run, server: ContractServer, monkeypatch: pytest.MonkeyPatch, config_home: Path
) -> None:
    monkeypatch.delenv("CLAWHAVEN_API_URL")
    config.save(Config(server.url, {server.url: StoredKey(KEY)}))
    assert bare("instances", "list").code == 0
    assert config.without_key(config.load(), server.url).keys == {}
