"""Archives of skills: only the one that was approved, only text, only below its own folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile

import pytest

from clawhaven.instances.packages import MOST_BYTES, MOST_FILES, Package, unpack

SKILL = "---\nname: recipes\ndescription: Cooks.\n---\n# Recipes\nSuggest soup.\n"


def tar(files: dict[str, bytes], link: str = "") -> bytes:
    """The same bytes whenever it is asked: test cases are named after their hash, and each worker names its own."""
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as pressed, tarfile.open(fileobj=pressed, mode="w") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            packed.addfile(member)
    return made.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return made.getvalue()


def read(archive: bytes) -> Package:
    return unpack(archive, hashlib.sha256(archive).hexdigest())


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.parametrize("root", ["", "recipes-1.0/"])
def test_a_skill_is_called_as_its_file_says(pack: object, root: str) -> None:
    files = {f"{root}SKILL.md": SKILL.encode(), f"{root}more/soups.md": b"Leek.", f"{root}icon.png": b"\x89PNG\xff"}
    found = read(pack(files))  # type: ignore[operator]
    assert (found.kind, found.name, found.folder) == ("skill", "recipes", "clawhaven/skills/recipes/recipes")
    assert dict(found.files) == {"SKILL.md": SKILL, "more/soups.md": "Leek."}


def test_a_plugin_is_called_by_its_id() -> None:
    about = {"id": "brave", "name": "Brave"}
    found = read(tar({"package/openclaw.plugin.json": json.dumps(about).encode(), "package/dist/index.js": b"1"}))
    assert (found.kind, found.name, found.folder) == ("plugin", "brave", "clawhaven/plugins/brave")


def test_another_archive_than_the_approved_one_is_refused() -> None:
    good = tar({"SKILL.md": SKILL.encode()})
    changed = tar({"SKILL.md": SKILL.replace("soup", "poison").encode()})
    approved = hashlib.sha256(good).hexdigest()
    assert unpack(good, approved.upper()).sha256 == approved
    with pytest.raises(ValueError, match=f"{hashlib.sha256(changed).hexdigest()}, not {approved}"):
        unpack(changed, approved)


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (tar({"../SKILL.md": b"x"}), "a path in it cannot be used"),
        (tar({"/SKILL.md": b"x"}), "a path in it cannot be used"),
        (zipped({"a/../../SKILL.md": b"x"}), "a path in it cannot be used"),
        (tar({"SKILL.md": SKILL.encode()}, link="passwd"), "no plain file"),
        (tar({"SKILL.md": SKILL.encode(), "run": b"\x7fELF\xff"}), "run is not text"),
        (tar({"README.md": b"hello"}), "neither SKILL.md nor openclaw.plugin.json"),
        (tar({"SKILL.md": b"# No head\n"}), "does not begin with its name"),
        (tar({"openclaw.plugin.json": b"[]"}), "does not say the plugin's id"),
        (tar({f"a{n}.md": b"x" for n in range(MOST_FILES + 1)}), f"more than {MOST_FILES} files"),
        (tar({"SKILL.md": b" " * (MOST_BYTES + 1)}), "or 2 MB"),
        (b"not an archive", "cannot be read"),
        (tar({"SKILL.md": SKILL.encode()})[:-40], "cannot be read"),
    ],
)
def test_what_is_no_skill_is_refused_with_the_reason(archive: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(archive)
