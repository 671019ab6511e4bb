"""`python -m bench NAME [options]`: every module of this package that has a `main` is a benchmark."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType

import bench


def find_all() -> dict[str, ModuleType]:
    """Name -> module of every benchmark."""
    modules = {name: importlib.import_module(f"bench.{name}") for name in _find_names()}
    return {name: module for name, module in modules.items() if hasattr(module, "main")}


def _find_names() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_")]


def main(arguments: list[str]) -> int:
    """Run the named one; returns the exit code."""
    if arguments and arguments[0] in _find_names():
        chosen = importlib.import_module(f"bench.{arguments[0]}")  # alone: it may be measured beside a broken tree
        if hasattr(chosen, "main"):
            return int(chosen.main(arguments[1:]))
    known = find_all()
    print("usage: python -m bench NAME [options]\n")
    for name, module in known.items():
        print(f"  {name:12} {(module.__doc__ or '').splitlines()[0]}")
    return 0 if not arguments else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
