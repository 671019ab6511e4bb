"""What a skill brings along in an archive: its text files, once the archive is the one that was looked at."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

MOST_BYTES = 2_000_000
"""Of an archive, and of all files in it: a skill is text."""

MOST_FILES = 200

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".ico")
"""Left out: they decorate a catalogue, and no assistant reads them."""

SKILL_FILE = "SKILL.md"
PLUGIN_FILE = "openclaw.plugin.json"

_PART = re.compile(r"[A-Za-z0-9._@+-]{1,100}")
_NAME = re.compile(r"^name:[ \t]*[\"']?([A-Za-z0-9_-]{1,64})[\"']?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """A skill of the Agent Skills format (a folder with SKILL.md), or a plugin of OpenClaw's.

    `name` is the skill's or the plugin's own; `files`: path within its folder -> text.
    """

    kind: Literal["skill", "plugin"]
    name: str
    files: Mapping[str, str]
    sha256: str

    @property
    def root(self) -> str:
        """Its own place within the gateway's state. Not where OpenClaw looks by itself: what is off is not found."""
        return f"clawhaven/{self.kind}s/{self.name}"

    @property
    def folder(self) -> str:
        """Where its files lie. OpenClaw is told a plugin's folder, and of a skill the folder around it."""
        return f"{self.root}/{self.name}" if self.kind == "skill" else self.root


def unpack(archive: bytes, sha256: str) -> Package:
    """What is in a .tar.gz or .zip whose SHA-256 is this one. Raises ValueError with a sentence, above all when it is
    another archive."""
    found = hashlib.sha256(archive).hexdigest()
    if found != sha256.lower():
        raise ValueError(f"its SHA-256 is {found}, not {sha256}: it is not the archive that was approved")
    if len(archive) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES // 1_000_000} MB")
    files = _without_root(dict(_texts(archive)))
    if SKILL_FILE in files:
        named = _NAME.search(files[SKILL_FILE].split("\n---", 1)[0])
        if named is None:
            raise ValueError(f"{SKILL_FILE} does not begin with its name")
        return Package("skill", named.group(1), files, found)
    if PLUGIN_FILE in files:
        return Package("plugin", _plugin_id(files[PLUGIN_FILE]), files, found)
    raise ValueError(f"it holds neither {SKILL_FILE} nor {PLUGIN_FILE}")


def _plugin_id(text: str) -> str:
    try:
        name = json.loads(text)["id"]
    except (ValueError, TypeError, KeyError):
        name = None
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name):
        raise ValueError(f"{PLUGIN_FILE} does not say the plugin's id")
    return name


def _texts(archive: bytes) -> Iterator[tuple[str, str]]:
    count = size = 0
    for path, content in _members(archive):
        parts = path.split("/")
        if not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
            raise ValueError(f"a path in it cannot be used: {path[:100]!r}")
        if path.lower().endswith(PICTURES):
            continue
        count, size = count + 1, size + len(content)
        if count > MOST_FILES or size > MOST_BYTES:
            raise ValueError(f"it holds more than {MOST_FILES} files or {MOST_BYTES // 1_000_000} MB")
        try:
            yield path, content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not text") from None


def _members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Plain files only, each read no further than to one byte too many. Raises ValueError for anything else."""
    try:
        if zipfile.is_zipfile(io.BytesIO(archive)):
            with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
                for one in zipped.infolist():
                    if one.is_dir():
                        continue
                    if (one.external_attr >> 16) & 0o170000 == 0o120000:
                        raise ValueError(f"{one.filename[:100]} is no plain file")
                    with zipped.open(one) as content:
                        yield one.filename, content.read(MOST_BYTES + 1)
            return
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
            for member in packed:
                if member.isdir():
                    continue
                file = packed.extractfile(member) if member.isfile() else None
                if file is None:
                    raise ValueError(f"{member.name[:100]} is no plain file")
                yield member.name.removeprefix("./"), file.read(MOST_BYTES + 1)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        # RuntimeError: zipfile's word for a member under a password, or packed in a way that it does not know.
        raise ValueError(f"it cannot be read as .tar.gz or .zip: {error}") from None


def _without_root(files: dict[str, str]) -> dict[str, str]:
    """Without the one folder that holds everything, as archives of npm and GitHub have it."""
    roots = {path.partition("/")[0] for path in files}
    if len(roots) == 1 and all("/" in path for path in files):
        return {path.partition("/")[2]: text for path, text in files.items()}
    return files
