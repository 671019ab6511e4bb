"""Settings: environment, files for secrets, defaults that start everything."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from clawhaven.core.secrets import KeyRing
from clawhaven.core.settings import Settings


def test_the_defaults_need_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/clawhaven.sqlite3"
    assert (settings.runtime, settings.payments, settings.notifier) == ("process", "sandbox", "console")
    assert settings.base_url == "http://127.0.0.1:8080"
    assert not settings.is_production


def test_reads_environment_dotenv_and_secret_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("BRAND_NAME=From file\nMAX_CUSTOMERS=7\n")
    (tmp_path / "key").write_text("ab" * 32 + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAX_CUSTOMERS", "9")
    monkeypatch.setenv("BASE_URL", "https://example.com/ ")
    monkeypatch.setenv("ENCRYPTION_KEY_FILE", str(tmp_path / "key"))
    settings = Settings()
    assert (settings.brand_name, settings.max_customers) == ("From file", 9)
    assert settings.base_url == "https://example.com"
    assert settings.keys() == "ab" * 32
    assert "abab" not in repr(settings)


def test_a_secret_file_may_be_named_in_dotenv_and_the_environment_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("ab" * 32 + "\n")
    (tmp_path / "other").write_text("cd" * 32)
    (tmp_path / ".env").write_text(f"ENCRYPTION_KEY_FILE={tmp_path / 'key'}   # made with openssl\n")
    monkeypatch.chdir(tmp_path)
    assert Settings().keys() == "ab" * 32
    monkeypatch.setenv("ENCRYPTION_KEY_FILE", str(tmp_path / "other"))
    assert Settings().keys() == "cd" * 32
    monkeypatch.delenv("ENCRYPTION_KEY_FILE")
    monkeypatch.setenv("ENCRYPTION_KEY", "ef" * 32)
    assert Settings().keys() == "ef" * 32


def test_says_which_secret_file_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY_FILE", "/nowhere/key")
    with pytest.raises(ValueError, match="ENCRYPTION_KEY_FILE: cannot read"):
        Settings()


@pytest.mark.parametrize(
    "wrong",
    [
        {"platform_port": 0},
        {"port_range_start": 30_000, "port_range_end": 29_999},
        {"instance_memory_mb": 512},
        {"environment": "staging"},
        {"model_markup_percent": 99},
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)  # type: ignore[arg-type]


def test_the_development_key_is_made_once_also_by_many_at_once(tmp_path: Path) -> None:
    keys: list[str] = []
    threads = [threading.Thread(target=lambda: keys.append(Settings(data_dir=tmp_path).keys())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    KeyRing.parse(keys[0])
    assert stat.S_IMODE((tmp_path / "encryption.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["encryption.key"]


def test_production_makes_no_key(tmp_path: Path) -> None:
    assert Settings(environment="production", data_dir=tmp_path).keys() == ""
    assert list(tmp_path.iterdir()) == []
