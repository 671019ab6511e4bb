"""Sealed files in a folder: whole or not there, and nothing of a half-written one stays."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawhaven.core.disk import LOOK_EVERY_BYTES
from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.vault import Stored
from clawhaven.providers.vaults.folder import Folder


@pytest.fixture
def vault(tmp_path: Path) -> Folder:
    return Folder(Folder.Options(), Settings(data_dir=tmp_path))


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "backups").rglob("*") if path.is_file())


def test_what_is_put_is_there_whole(vault: Folder, tmp_path: Path) -> None:
    content = os.urandom(700_000)
    stored = vault.put("ins_a", "bak_1", iter([content[:5], content[5:]]))
    assert stored == Stored(len(content), hashlib.sha256(content).hexdigest())
    assert b"".join(vault.get("ins_a", "bak_1")) == content
    place = tmp_path / "backups" / "ins_a" / "bak_1.sealed"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    vault.put("ins_a", "bak_1", [b"again"])
    assert b"".join(vault.get("ins_a", "bak_1")) == b"again"
    assert files(tmp_path) == ["bak_1.sealed"]


def test_a_half_written_one_is_never_there(vault: Folder, tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ProviderError("no more", code="io_error")

    vault.put("ins_a", "bak_1", [b"the one before"])
    (tmp_path / "backups" / "ins_a" / ".bak_1.abcd.part").write_text("what a kill left")
    with pytest.raises(ProviderError, match="no more"):
        vault.put("ins_a", "bak_1", breaking())
    assert files(tmp_path) == ["bak_1.sealed"]
    assert b"".join(vault.get("ins_a", "bak_1")) == b"the one before"


def test_gone_is_success_and_none_is_said(vault: Folder, tmp_path: Path) -> None:
    for _ in range(2):
        vault.remove("ins_a", "bak_1")
        vault.remove_all("ins_a")
    with pytest.raises(ProviderError) as missing:
        vault.get("ins_a", "bak_1")
    assert (missing.value.code, missing.value.permanent) == ("no_file", True)
    vault.put("ins_a", "bak_1", [b"x"])
    vault.put("ins_a", "bak_2", [b"x"])
    reading = vault.get("ins_a", "bak_1")
    vault.remove("ins_a", "bak_1")
    assert b"".join(reading) == b"x", "who reads it reads it to its end"
    assert files(tmp_path) == ["bak_2.sealed"]
    vault.remove("ins_a", "bak_2")
    assert list((tmp_path / "backups").iterdir()) == []
    vault.put("ins_b", "bak_3", [b"x"])
    vault.remove_all("ins_b")
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize("bad", ["", ".", "..", "../x", "a/b", "A", "x" * 65, "a\0"])
def test_what_is_no_name_touches_no_path(vault: Folder, bad: str) -> None:
    for folder, name in ((bad, "bak_1"), ("ins_a", bad)):
        with pytest.raises(ProviderError, match="not a name"):
            vault.put(folder, name, [b"x"])


def test_a_full_disk_and_a_folder_nobody_may_write_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = Folder(Folder.Options(), Settings(data_dir=tmp_path, backups_dir=tmp_path / "file"))
    with pytest.raises(ProviderError) as refused:
        blocked.put("ins_a", "bak_1", [b"x"])
    assert refused.value.code == "io_error"
    if Path("/dev/full").exists():
        full = Folder(Folder.Options(), Settings(data_dir=tmp_path, disk_kept_free_mb=0))
        (tmp_path / "backups" / "ins_a").mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", lambda *_: os.dup(_full.fileno()))
            with Path("/dev/full").open("wb") as _full, pytest.raises(ProviderError) as refused:
                full.put("ins_a", "bak_1", [b"x" * 100_000])
        assert refused.value.code == "disk_full"


def test_some_of_the_disk_stays_free_and_nothing_of_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Folder(Folder.Options(), Settings(data_dir=tmp_path, disk_kept_free_mb=100))
    looks: list[int] = []

    def disk(handle: int) -> os.statvfs_result:
        """300 MB free, less what was written."""
        looks.append(os.fstat(handle).st_size)
        free = (300_000_000 - looks[-1]) // 4096
        return os.statvfs_result((4096, 4096, 10**6, free, free, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "fstatvfs", disk)
    with pytest.raises(ProviderError, match="98 MB are free, and 100 MB have to stay free") as refused:
        vault.put("ins_a", "bak_1", (bytes(2**20) for _ in range(1000)))
    assert (refused.value.code, refused.value.permanent) == ("disk_full", False)
    assert looks == [number * LOOK_EVERY_BYTES for number in range(13)]
    assert files(tmp_path) == []
    vault.put("ins_a", "bak_1", [b"a small one"])
