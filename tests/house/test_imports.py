"""Who may import whom, by import-linter; .importlinter says it in full."""

from __future__ import annotations

import configparser
from collections import Counter

import importlinter.api  # noqa: F401 - sets import-linter up
import pytest
from importlinter.application.use_cases import lint_imports

from clawhaven.providers import CATALOGUE
from tests.house.source import ROOT


def test_contracts_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    is_kept = lint_imports(config_filename=str(ROOT / ".importlinter"), cache_dir=None, no_logo=True)
    assert is_kept, capsys.readouterr().out


def test_every_vendor_with_a_neighbour_is_kept_apart_from_it() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    listed = set(contracts["importlinter:contract:vendors"]["modules"].split())
    modules = {where.partition(":")[0] for vendors in CATALOGUE.values() for where in vendors.values()}
    neighbours = Counter(module.rpartition(".")[0] for module in modules)
    wanted = {module for module in modules if neighbours[module.rpartition(".")[0]] > 1}
    assert listed - {line for line in listed if line.startswith("#")} == wanted
