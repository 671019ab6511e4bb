"""Packing and unpacking an instance's state: what comes back, what never goes in, and what is refused."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes import archive
from clawhaven.providers.runtimes.archive import CONFIG, HOME, NOTE

PLENTY = 10**9
LONG = "a-rather-long-name-of-a-folder-" * 6
NAMES = ("plain.txt", "ümläut 猫.md", os.fsdecode(b"no-utf8-\xff.bin"), f"{LONG}/{LONG}/deep.txt", "empty", "-dash")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "ins_a"
    (made / "state" / "workspace").mkdir(parents=True)
    (made / "state" / CONFIG).write_text('{"token": "of the past"}')
    for name in NAMES:
        path = made / "state" / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name) * (0 if name == "empty" else 100))
    (made / "state" / "script").write_text("#!/bin/sh\n")
    (made / "state" / "script").chmod(0o4755)
    return made


def contents(root: Path) -> dict[str, bytes]:
    state = root / "state"
    return {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}


def packed(root: Path, **instead: str) -> bytes:
    return b"".join(archive.pack(root, {f"{HOME}/{CONFIG}": "{}", NOTE: "for people", **instead}, PLENTY))


def in_pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def names_in(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return {member.name: member for member in tar.getmembers()}


def test_what_is_packed_comes_back_with_the_configuration_of_now(root: Path) -> None:
    before = contents(root)
    os.utime(root / "state" / "script", (1_000_000_000, 1_000_000_000))
    data = packed(root)
    (root / "state" / "workspace" / "plain.txt").write_text("changed")
    (root / "state" / "later").write_text("made later")
    (root / "state" / CONFIG).write_text('{"token": "of now"}')
    archive.unpack(root, in_pieces(data), PLENTY)
    assert contents(root) == before | {CONFIG: b'{"token": "of now"}'}
    assert sorted(path.name for path in root.iterdir()) == ["state"]
    script = (root / "state" / "script").stat()
    assert stat.S_IMODE(script.st_mode) == 0o700, "its owner's, executable, and no set-uid"
    assert script.st_mtime == 1_000_000_000
    assert stat.S_IMODE((root / "state" / "workspace").stat().st_mode) == 0o700


def test_everybody_can_open_it(root: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(root)), mode="r:gz") as tar:
        names = set(tar.getnames())
        assert {f"{HOME}/workspace/{name}" for name in NAMES} <= names
        config = tar.extractfile(f"{HOME}/{CONFIG}")
        assert config is not None
        assert config.read() == b"{}"
        assert NOTE in names


def test_caches_locks_sockets_and_links_that_lead_out_stay_behind(root: Path, tmp_path: Path) -> None:
    state = root / "state"
    (tmp_path / "secret").write_text("the host's")
    for name in (
        "cache/x",
        "tmp/lock",
        "integrations/google.json",
        "state/a.sqlite",
        "state/a.sqlite-wal",
        "state/a.sqlite-shm",
    ):
        (state / name).parent.mkdir(exist_ok=True)
        (state / name).write_text("x")
    links = {
        "out": "/etc/passwd",
        "up": "../secret",
        "sly": "workspace/../../secret",
        "far": "../../../secret",
        "workspace/good": "../script",
        "good-too": "workspace/plain.txt",
    }
    for name, target in links.items():
        (state / name).symlink_to(target)
    (state / "folder").symlink_to(tmp_path)
    os.mkfifo(state / "pipe")
    names = {name.removeprefix(f"{HOME}/") for name in names_in(packed(root))}
    assert {"workspace/good", "good-too", "state/a.sqlite", "state/a.sqlite-wal"} <= names
    assert not names & {
        "cache",
        "cache/x",
        "tmp",
        "tmp/lock",
        "integrations/google.json",
        "state/a.sqlite-shm",
        "pipe",
        "folder",
        "folder/secret",
    }
    assert not names & {"out", "up", "sly", "far"}
    archive.unpack(root, in_pieces(packed(root)), PLENTY)
    assert os.readlink(state / "workspace" / "good") == "../script"


def test_more_than_may_be_is_refused_on_both_ways(root: Path) -> None:
    (root / "state" / "big").write_bytes(bytes(3_000_000))
    with pytest.raises(ProviderError) as refused:
        list(archive.pack(root, {}, 2_000_000))
    assert (refused.value.code, refused.value.permanent) == ("too_large", True)
    data = packed(root)
    assert len(data) < 100_000, "a bomb: small to carry, large to unpack"
    before = contents(root)
    with pytest.raises(ProviderError, match="more than can be restored"):
        archive.unpack(root, in_pieces(data), 2_000_000)
    assert contents(root) == before
    assert not (root / "state.new").exists()


def test_what_could_just_be_packed_comes_back(root: Path) -> None:
    most = sum(len(content) for name, content in contents(root).items() if name != CONFIG)
    data = b"".join(archive.pack(root, {f"{HOME}/{CONFIG}": "{}" * 10, NOTE: "for people" * 80}, most))
    archive.unpack(root, [data], most)
    with pytest.raises(ProviderError, match="more than can be restored"):
        archive.unpack(root, [data], most - 1)


def test_nothing_to_pack_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as refused:
        list(archive.pack(tmp_path / "none", {}, PLENTY))
    assert refused.value.code == "absent"
    with pytest.raises(ProviderError) as refused:
        archive.unpack(tmp_path / "none", [b""], PLENTY)
    assert refused.value.code == "absent"


def tar_of(*members: tuple[str, bytes, str]) -> bytes:
    """(name, type, link target or content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, more in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            content = more.encode() if kind == tarfile.REGTYPE else b""
            info.linkname = "" if kind == tarfile.REGTYPE else more
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


REG, SYM, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE
HOSTILE: dict[str, Callable[[], bytes]] = {
    "up": lambda: tar_of((f"{HOME}/../../evil", REG, "x")),
    "absolute": lambda: tar_of(("/evil", REG, "x")),
    "beside the home": lambda: tar_of(("evil", REG, "x")),
    "the home is a file": lambda: tar_of((HOME, REG, "x")),
    "the home is a link": lambda: tar_of((HOME, SYM, "/")),
    "link out": lambda: tar_of((f"{HOME}/a", SYM, "../../../outside")),
    "absolute link": lambda: tar_of((f"{HOME}/a", SYM, "/etc")),
    "sly link": lambda: tar_of((f"{HOME}/a", SYM, "."), (f"{HOME}/b", SYM, "a/../../outside")),
    "through a link": lambda: tar_of((f"{HOME}/a", SYM, "workspace"), (f"{HOME}/a/evil", REG, "x")),
    "hard link": lambda: tar_of((f"{HOME}/a", tarfile.LNKTYPE, "/etc/passwd")),
    "device": lambda: tar_of((f"{HOME}/a", tarfile.CHRTYPE, "")),
    "pipe": lambda: tar_of((f"{HOME}/a", tarfile.FIFOTYPE, "")),
    "twice": lambda: tar_of((f"{HOME}/a", REG, "x"), (f"{HOME}/a", REG, "y")),
    "a file as a folder": lambda: tar_of((f"{HOME}/a", REG, "x"), (f"{HOME}/a/b", REG, "y")),
    "too deep": lambda: tar_of((HOME + "/d" * 200, REG, "x")),
    "empty": lambda: tar_of(),
    "nothing at all": lambda: b"",
    "no gzip": lambda: b"PK\3\4" * 1000,
    "no tar": lambda: zlib.compress(b"x" * 5000, wbits=31),
    "cut off": lambda: tar_of((f"{HOME}/a", REG, "x" * 100_000))[:-40],
    "more behind it": lambda: tar_of((f"{HOME}/a", REG, "x")) + b"more",
    "endless header": lambda: zlib.compress(_announced(tarfile.XHDTYPE, 10**9), wbits=31),
    "negative": lambda: zlib.compress(_announced(REG, -5), wbits=31),
    "broken records": lambda: zlib.compress(
        _announced(tarfile.XHDTYPE, 9) + b"99 path=x\n".ljust(512, b"\0"), wbits=31
    ),
}


def _announced(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(f"{HOME}/a")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_a_hostile_archive_changes_nothing(root: Path, tmp_path: Path, kind: str) -> None:
    before = contents(root)
    with pytest.raises(ProviderError) as refused:
        archive.unpack(root, in_pieces(HOSTILE[kind]()), PLENTY)
    assert (refused.value.code, refused.value.permanent) in (("bad_archive", True), ("bad_path", True))
    assert contents(root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ins_a"]
    assert sorted(path.name for path in root.iterdir()) == ["state"]


class Killed(BaseException):
    """Stands for kill -9: nothing of ours runs after it but what the operating system does."""


@pytest.mark.parametrize("moment", ["first rename", "second rename", "removal"])
def test_killed_while_the_folders_change_places(root: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    before, data = contents(root), packed(root)
    (root / "state" / "later").write_text("made later")
    changed = contents(root)
    renames = iter(["first rename", "second rename"])
    real_rename, real_remove = Path.rename, archive.remove

    def rename(self: Path, target: Path) -> Path:
        if next(renames, "") == moment:
            raise Killed
        return real_rename(self, target)

    def remove(folder: Path) -> None:
        if moment == "removal" and folder.name == "state.old" and folder.exists():
            raise Killed
        real_remove(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        patch.setattr(archive, "remove", remove)
        with pytest.raises(Killed):
            archive.unpack(root, [data], PLENTY)
    archive.settle(root)
    restored = before | {CONFIG: before[CONFIG]}
    assert contents(root) == (restored if moment == "removal" else changed)
    assert sorted(path.name for path in root.iterdir()) == ["state"]
    archive.unpack(root, [data], PLENTY)
    assert contents(root) == restored


def test_a_second_rename_that_is_refused_undoes_the_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, data, real = contents(root), packed(root), Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "state.new":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(ProviderError):
        archive.unpack(root, [data], PLENTY)
    assert contents(root) == before
    assert [path.name for path in root.iterdir()] == ["state"]


def test_what_was_there_is_not_given_up_for_what_somebody_made_in_between(root: Path) -> None:
    before = contents(root)
    (root / "state").rename(root / "state.old")
    (root / "state").mkdir()
    (root / "state" / "stray").touch()
    archive.settle(root)
    assert contents(root) == before
    (aside,) = root.glob("state.aside-*")
    assert [path.name for path in aside.iterdir()] == ["stray"]


def test_a_reader_that_breaks_off_changes_nothing(root: Path) -> None:
    before, data = contents(root), packed(root)

    def breaking() -> Iterator[bytes]:
        yield data[:500]
        raise ProviderError("the disk is gone", code="io_error")

    with pytest.raises(ProviderError, match="the disk is gone"):
        archive.unpack(root, breaking(), PLENTY)
    assert contents(root) == before


def test_a_full_disk_is_said(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(root)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.os, "utime", full)
    with pytest.raises(ProviderError) as refused:
        archive.unpack(root, [packed(root)], PLENTY)
    assert refused.value.code == "disk_full"
    assert contents(root) == before
    assert not (root / "state.new").exists()


def test_some_of_the_disk_stays_free(root: Path) -> None:
    before = contents(root)
    with pytest.raises(ProviderError, match="MB have to stay free") as refused:
        archive.unpack(root, [packed(root)], PLENTY, kept_free=10**18)
    assert refused.value.code == "disk_full"
    assert contents(root) == before
    assert [path.name for path in root.iterdir()] == ["state"]


def test_only_the_file_system_that_was_written_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    class Libc:
        @staticmethod
        def syncfs(folder: int) -> int:
            synced.append(os.fstat(folder).st_dev)
            return -1 if len(synced) == 2 else 0

    data = packed(root)
    archive.unpack(root, [data], PLENTY)  # the real one knows its folder
    monkeypatch.setattr(archive, "_LIBC", Libc)
    monkeypatch.delattr(archive.os, "sync")
    archive.unpack(root, [data], PLENTY)
    with pytest.raises(ProviderError, match="could not be brought to the disk"):
        archive.unpack(root, [data], PLENTY)
    assert synced == [root.stat().st_dev] * 2
    assert [path.name for path in root.iterdir()] == ["state"]
