"""Files of an instance: atomic, confined, and never through a link that a customer's agent laid."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File
from clawhaven.providers.runtimes.files import explain, read_file, write_file


def test_what_is_written_is_read_and_only_its_owner_may(tmp_path: Path) -> None:
    assert write_file(tmp_path / "i", File("state/workspace/deep/A.md", "Grüße"))
    path = tmp_path / "i/state/workspace/deep/A.md"
    assert read_file(tmp_path / "i", "state/workspace/deep/A.md") == "Grüße"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(parent.stat().st_mode) for parent in [*path.parents][:4]} == {0o700}
    assert os.listdir(path.parent) == ["A.md"]


def test_a_file_to_keep_is_written_once(tmp_path: Path) -> None:
    assert write_file(tmp_path, File("state/a", "first", keep=True))
    assert not write_file(tmp_path, File("state/a", "second", keep=True))
    assert read_file(tmp_path, "state/a") == "first"
    assert write_file(tmp_path, File("state/a", "third"))
    assert read_file(tmp_path, "state/a") == "third"


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_file(tmp_path / "gone", "state/a") is None
    assert read_file(tmp_path, "state/a") is None
    (tmp_path / "state").mkdir()
    assert read_file(tmp_path, "state/a") is None


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "state", "state/../../x", "state//a", "run/lock", "placement.json", "", "state/./a", "state/a\0"],
)
def test_a_path_outside_is_refused(tmp_path: Path, path: str) -> None:
    for attempt in (lambda: write_file(tmp_path, File(path, "x")), lambda: read_file(tmp_path, path)):
        with pytest.raises(ProviderError) as caught:
            attempt()
        assert (caught.value.code, caught.value.permanent) == ("bad_path", True)


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("secret")
    root = tmp_path / "i"
    (root / "state").mkdir(parents=True)
    (root / "state/dir").symlink_to(outside)
    (root / "state/file").symlink_to(outside / "a")
    for path in ("state/dir/a", "state/file"):
        with pytest.raises(ProviderError, match="in the way"):
            read_file(root, path)
    with pytest.raises(ProviderError, match="in the way"):
        write_file(root, File("state/dir/a", "changed"))
    # A link in the place of the file itself is replaced, not followed.
    assert write_file(root, File("state/file", "mine"))
    assert (outside / "a").read_text() == "secret"
    assert read_file(root, "state/file") == "mine"


def test_something_else_than_a_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.mkfifo(tmp_path / "state/pipe")
    with pytest.raises(ProviderError, match="not a regular file"):
        read_file(tmp_path, "state/pipe")
    (tmp_path / "state/dir").mkdir()
    with pytest.raises(ProviderError):
        write_file(tmp_path, File("state/dir", "x"))
    assert os.listdir(tmp_path / "state").__len__() == 2


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space") as caught:
        full.write_text("x")
    error = explain(caught.value, "somewhere")
    assert (error.code, error.permanent) == ("disk_full", False)
