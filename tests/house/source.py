"""The repository as text and syntax trees, for the tests of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "clawhaven"
FOLDERS = ("clawhaven", "tests", "docs", "assets", "deploy", "bench", "requirements", ".ci")
TEXT = {".py", ".md", ".toml", ".txt", ".sh", ".html", ".js", ".css", ".json", ".yaml", ".yml", ".mako", ".cfg", ""}
DOORS = ("api", "cli", "proxy", "web", "worker")


def python_files(*folders: str) -> list[Path]:
    """Every Python file below these folders of the repository, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def text_files() -> Iterator[Path]:
    """Every text file that is ours."""
    for place in [ROOT, *(ROOT / folder for folder in FOLDERS)]:
        for path in sorted(place.iterdir() if place == ROOT else place.rglob("*")):
            is_cache = "__pycache__" in path.parts or "node_modules" in path.parts
            if path.is_file() and path.suffix in TEXT and not is_cache and path.name != ".env":
                yield path


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(), str(path))


def short(path: Path) -> str:
    """The path as seen from the repository's root."""
    return str(path.relative_to(ROOT))


def door_files() -> list[Path]:
    """Every Python file of the doors."""
    return [
        path for path in python_files("clawhaven") if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in DOORS
    ]
