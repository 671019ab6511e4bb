"""`python -m bench NAME [options]`: every module of this package that has a `main` is a benchmark."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType

import bench


def find_all() -> dict[str, ModuleType]:
    """Name -> module of every benchmark."""
    names = [module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_")]
    modules = {name: importlib.import_module(f"bench.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "main")}


def main(arguments: list[str]) -> int:
    """Run the named one; returns the exit code."""
    known = find_all()
    if arguments and arguments[0] in known:
        return int(known[arguments[0]].main(arguments[1:]))
    print("usage: python -m bench NAME [options]\n")
    for name, module in known.items():
        print(f"  {name:12} {(module.__doc__ or '').splitlines()[0]}")
    return 0 if not arguments else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
