"""Files on the mounts, with an assistant that plants links. The same attacks from inside: test_docker.py."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File
from clawhaven.providers.runtimes import docker_files

pytestmark = pytest.mark.skipif(os.geteuid() not in (0, docker_files.OWNER), reason="cannot give files to uid 1000")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "instance"
    docker_files.make_mounts(made)
    return made


def test_modes_and_owner(root: Path) -> None:
    docker_files.write(root, [File("state/workspace/SOUL.md", "kind"), File("secrets/secrets.json", "{}", mode=0o400)])
    for path, mode in (
        ("", 0o700),
        ("state", 0o700),
        ("secrets", 0o700),
        ("state/workspace", 0o700),
        ("state/workspace/SOUL.md", 0o600),
        ("secrets/secrets.json", 0o400),
    ):
        seen = (root / path).stat()
        assert stat.S_IMODE(seen.st_mode) == mode, path
        assert seen.st_uid == (docker_files.OWNER if path else os.geteuid()), path


def test_replacing_is_by_rename_and_leaves_no_draft(root: Path) -> None:
    docker_files.write(root, [File("state/a.json", "old")])
    with (root / "state/a.json").open() as reader:
        docker_files.write(root, [File("state/a.json", "new")])
        assert reader.read() == "old"  # who has it open keeps the whole old file
    assert docker_files.read(root, "state/a.json") == "new"
    assert [path.name for path in (root / "state").iterdir()] == ["a.json"]


def test_keep(root: Path) -> None:
    docker_files.write(root, [File("state/a", "first", keep=True), File("state/a", "second", keep=True)])
    assert docker_files.read(root, "state/a") == "first"


@pytest.mark.parametrize("path", ["state", "other/a", "/etc/passwd", "state/../../a", "", "..", "secrets"])
def test_paths_outside_the_mounts(root: Path, path: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: docker_files.read(root, path),
        lambda: docker_files.write(root, [File(path, "x")]),
    ]
    for call in calls:
        with pytest.raises(ProviderError) as raised:
            call()
        assert (raised.value.code, raised.value.permanent) == ("unsafe_path", True)


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("the host's own")
    (root / "state/folder").symlink_to(outside)
    (root / "state/file").symlink_to(outside / "a")
    os.mkfifo(root / "state/pipe")
    (root / "state/directory").mkdir()
    for path in ("state/folder/a", "state/file", "state/pipe", "state/directory", "state/file/a"):
        with pytest.raises(ProviderError) as raised:
            docker_files.read(root, path)
        assert raised.value.code == "unsafe_path", path
    for path in ("state/folder/a", "state/folder/new/a", "state/directory"):
        with pytest.raises(ProviderError):
            docker_files.write(root, [File(path, "overwritten")])
    docker_files.write(root, [File("state/file", "mine")])
    assert (outside / "a").read_text() == "the host's own"
    assert [path.name for path in outside.iterdir()] == ["a"]
    assert docker_files.read(root, "state/file") == "mine"
    docker_files.remove(root)
    assert (outside / "a").exists()
    assert not root.exists()
    docker_files.remove(root)


def test_a_mount_replaced_by_a_link(root: Path, tmp_path: Path) -> None:
    (root / "state").rmdir()
    (root / "state").symlink_to(tmp_path)
    with pytest.raises(ProviderError):
        docker_files.write(root, [File("state/a", "x")])
    assert not (tmp_path / "a").exists()


def test_missing_and_huge_files(root: Path) -> None:
    assert docker_files.read(root, "state/none/none") is None
    assert docker_files.read(root.parent / "nobody", "state/a") is None
    (root / "state/log").write_text("a line of a log\n" * 655_360)  # OpenClaw begins a new one at 10 MB
    assert len(docker_files.read(root, "state/log") or "") == 10 * 1024**2
    with (root / "state/huge").open("wb") as file:
        file.truncate(docker_files.READ_LIMIT_BYTES + 1)
    with pytest.raises(ProviderError) as raised:
        docker_files.read(root, "state/huge")
    assert raised.value.code == "too_large"


def test_a_directory_that_a_kill_left_to_root_is_mended(root: Path) -> None:
    (root / "state/workspace").mkdir()
    docker_files.write(root, [File("state/workspace/a", "x")])
    assert (root / "state/workspace").stat().st_uid == docker_files.OWNER


def test_is_able_leaves_nothing(tmp_path: Path) -> None:
    assert docker_files.is_able(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
