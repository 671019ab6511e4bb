"""The reference agrees with the code; every page can be reached and every link leads somewhere."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from typer.main import get_command

from clawhaven import providers
from clawhaven.core.errors import AppError
from clawhaven.core.settings import Settings
from docs import generate
from tests.house.source import ROOT, python_files

REFERENCE = ROOT / "docs" / "reference"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


def page(name: str) -> str:
    """The text of a page of the reference."""
    return (REFERENCE / name).read_text()


def test_generated_pages_agree_with_the_code() -> None:
    assert generate.stale() == [], "run: make docs"


def test_every_setting_has_its_line() -> None:
    text = page("settings.md")
    fields = {*Settings.model_fields}
    for port, vendors in providers.CATALOGUE.items():
        for name in vendors:
            fields |= set(providers.load(port, name).Options.model_fields)
    assert not [name for name in sorted(fields) if f"| `{name.upper()}` |" not in text]


def test_every_setting_says_what_it_does() -> None:
    lines = [line for line in page("settings.md").splitlines() if line.startswith("| `")]
    assert not [line for line in lines if not line.rstrip(" |").rpartition("|")[2].strip()]


def test_every_error_has_its_line() -> None:
    kinds, codes = [AppError], set()
    while kinds:
        kind = kinds.pop()
        codes.add(kind.code)
        kinds += kind.__subclasses__()
    for path in python_files("clawhaven"):
        if "providers" not in path.parts:  # those have their own list, with the file that raises each
            codes |= set(re.findall(r"\bcode=\"(\w+)\"", path.read_text()))
    assert not [code for code in sorted(codes) if f"| `{code}` |" not in page("errors.md")]


def test_every_route_has_its_line() -> None:
    calls = [(method, path) for path, found in generate.schema()["paths"].items() for method in found]
    assert len(calls) > 20
    assert not [call for call in calls if f"| `{call[0].upper()} {call[1]}` |" not in page("api.md")]
    assert "|  |" not in page("api.md"), "a route without a docstring"


def test_every_command_has_its_heading() -> None:
    app: Any = get_command(importlib.import_module("clawhaven.cli.main").app)
    names = [name for name, _ in generate.commands(app, "clawhaven")]
    assert len(names) > 20
    assert not [name for name in names if f"\n## {name}\n" not in page("cli.md")]


def test_every_workflow_has_its_heading() -> None:
    names = set()
    for path in python_files("clawhaven/workflows"):
        names |= set(re.findall(r"^@(?:engine\.)?workflow\(\"(\w+)\"\)", path.read_text(), re.M))
    assert len(names) > 5
    assert not [name for name in sorted(names) if f"\n## {name}\n" not in page("workflows.md")]


def test_every_provider_has_its_line() -> None:
    names = [name for vendors in providers.CATALOGUE.values() for name in vendors]
    assert not [name for name in names if f"| `{name}` |" not in page("providers.md")]


def test_every_state_machine_has_its_diagram() -> None:
    assert not [machine.name for machine, _ in generate.machines() if machine.mermaid() not in page("states.md")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Any) -> None:
    targets = [target for target in LINK.findall(path.read_text()) if "://" not in target and "mailto:" not in target]
    assert not [target for target in targets if not (path.parent / target).resolve().exists()]


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md") if path.name != "index.md"]
    assert not [name for name in sorted(pages) if f"({name})" not in index]


def test_decisions_have_their_parts_and_their_numbers() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{number:04d}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        for part in ("## Context", "## Decision", "## Consequences", "## Alternatives"):
            assert part in text, f"{path.name}: {part}"
        assert len(text.splitlines()) <= 80, f"{path.name} is longer than a page"


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, re.M)
    assert re.search(r"^test:", makefile, re.M)
