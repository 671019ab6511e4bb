"""The catalogue finds, loads and explains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clawhaven.providers import CATALOGUE, load, names

ENTRIES = [(port, name) for port, entries in CATALOGUE.items() for name in entries]


@pytest.mark.parametrize(("port", "name"), ENTRIES)
def test_every_entry_loads_a_class_with_its_options(port: str, name: str) -> None:
    found = load(port, name)
    assert f"{found.__module__}:{found.__name__}" == CATALOGUE[port][name]
    assert isinstance(found.Options, type)


def test_names_are_sorted_and_complete() -> None:
    for port, entries in CATALOGUE.items():
        assert names(port) == sorted(entries)


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="console, smtp"):
        load("notifiers", "pigeon")
    with pytest.raises(ValueError, match="channels"):
        load("pigeons", "console")
    with pytest.raises(ValueError, match="payments"):
        names("pigeons")


def test_importing_the_catalogue_imports_no_vendor() -> None:
    program = (
        "import sys, clawhaven.providers\n"
        "print([m for m in sys.modules if m.startswith('clawhaven.') and m != 'clawhaven.providers'])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str, source: str) -> None:
    """A package on the path that offers one notifier."""
    (folder / "haven_pigeon.py").write_text(source)
    info = folder / "haven_pigeon-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: haven-pigeon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[clawhaven.notifiers]\n{entry}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "haven_pigeon", raising=False)


def test_another_package_can_add_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "pigeon = haven_pigeon:Pigeon", "class Pigeon:\n    name = 'pigeon'\n")
    assert names("notifiers") == ["console", "pigeon", "smtp"]
    assert load("notifiers", "pigeon").name == "pigeon"


def test_another_package_cannot_replace_one_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "smtp = haven_pigeon:Pigeon", "class Pigeon:\n    name = 'pigeon'\n")
    assert load("notifiers", "smtp").__module__ == "clawhaven.providers.notifiers.smtp"


def test_a_missing_package_is_told_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "pigeon = haven_pigeon:Pigeon", "import feathers.wings\n")
    with pytest.raises(ValueError, match="pip install feathers"):
        load("notifiers", "pigeon")


def test_a_missing_extra_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "docker"]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.startswith("clawhaven.providers.runtimes.docker")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [_Without("docker"), *sys.meta_path])
    with pytest.raises(ValueError, match=r"pip install 'clawhaven\[docker\]'"):
        load("runtimes", "docker")


class _Without:
    """An importer for which one package is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Nothing, or the error Python raises for a missing package."""
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
