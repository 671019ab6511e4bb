"""Where things are, how they are named, how long they may be."""

from __future__ import annotations

import ast
import configparser
import re

import pytest

from tests.house.elsewhere import ELSEWHERE
from tests.house.source import PACKAGE, ROOT, python_files, short, text_files, tree

MAX_LINES = 400
BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "service", "handler", "impl"}
BANNED_ALLOWED = {"Base"}
"""SQLAlchemy's own word for the class that every table derives from (core/db.py)."""

UNFINISHED = re.compile(r"\b(" + "TO" + "DO|FIX" + r"ME)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(work|root|Users)/|/home/(?!node\b|clawhaven\b|openclaw\b)\w")
REGISTRIES = re.compile(
    "|".join(
        (
            r"py" + r"pi\.org",
            r"python" + r"hosted\.org",
            r"registry\." + r"npmjs",
            r"\"res" + r"olved\": *\"http",
            r"--(extra-)?" + r"index-url",
            r"--reg" + r"istry\b",
        )
    )
)
GENERATED = ("clawhaven/migrations/versions/",)


def test_every_module_has_its_test() -> None:
    missing = []
    for path in python_files("clawhaven"):
        inside = path.relative_to(PACKAGE)
        if path.name == "__init__.py" or inside.parts[0] == "migrations":
            continue
        if not (ROOT / "tests" / inside.parent / f"test_{path.name}").exists() and str(inside) not in ELSEWHERE:
            missing.append(str(inside))
    assert not missing, f"without tests/<same path>/test_<name>.py or a line in tests/house/elsewhere.py: {missing}"


@pytest.mark.parametrize("module", sorted(ELSEWHERE))
def test_every_exception_is_needed_and_covered(module: str) -> None:
    test, reason = ELSEWHERE[module]
    folder, _, name = module.rpartition("/")
    assert (PACKAGE / module).exists(), "this module is gone; remove its line"
    assert not (ROOT / "tests" / folder / f"test_{name}").exists(), "it has a test of its own; remove its line"
    assert (ROOT / test).exists(), f"{test} is gone"
    assert reason


def test_every_test_folder_has_its_room() -> None:
    own = {"contracts", "fakes", "house", "journeys", "live", "money"}
    strangers = [
        folder.name
        for folder in (ROOT / "tests").iterdir()
        if folder.is_dir() and folder.name not in {*own, "__pycache__"} and not (PACKAGE / folder.name).is_dir()
    ]
    assert not strangers


def test_no_file_is_too_long() -> None:
    long = {
        short(path): lines
        for path in python_files("clawhaven", "tests", "docs", "bench")
        if not short(path).startswith(GENERATED) and (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long


def test_no_file_is_named_after_a_pattern() -> None:
    assert not [
        short(path) for path in python_files("clawhaven", "tests", "docs", "bench") if _words(path.stem) & BANNED
    ]


def test_no_class_is_named_after_a_pattern() -> None:
    wrong = [
        f"{short(path)}: {node.name}"
        for path in python_files("clawhaven", "tests", "docs", "bench")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and _words(node.name) & BANNED and node.name not in BANNED_ALLOWED
    ]
    assert not wrong


def test_every_module_and_package_says_what_it_is() -> None:
    packages = {path.parent for path in python_files("clawhaven")} - {
        PACKAGE / "migrations",
        PACKAGE / "migrations/versions",
    }
    assert not [short(folder) for folder in sorted(packages) if not (folder / "__init__.py").exists()]
    assert not [short(path) for path in python_files("clawhaven") if not ast.get_docstring(tree(path))]


def test_nothing_is_left_for_later() -> None:
    assert not _hits(UNFINISHED)


def test_no_path_of_a_machine_and_no_registry() -> None:
    assert not _hits(MACHINE_PATHS)
    assert not _hits(REGISTRIES)


def test_every_folder_has_a_floor() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    floors = contracts["importlinter:contract:floors"]
    known = set(re.findall(r"\w+", floors["layers"] + floors["exhaustive_ignores"])) | {"migrations"}
    found = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert not found - known, "a new top-level folder needs a floor in .importlinter"


def _hits(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{short(path)}:{number}: {line.strip()[:100]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
