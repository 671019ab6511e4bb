"""Prints the installed genai-prices as JSON in the shape in which it is published; exit code 3 without the package.

A program of its own (`python -m clawhaven.providers.pricelists.installed`), see GenaiPrices.installed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def plain(value: Any) -> Any:
    """Lists, dicts, numbers and text: what its classes say in the published form."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if is_dataclass(value):
        said = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name.rstrip("_"): plain(one) for name, one in said.items() if one is not None}
    if type(value).__name__ == "ModelPrice":
        return {name: plain(one) for name, one in vars(value).items() if one is not None}
    return value if isinstance(value, str | int | bool | None) else str(value)


def main() -> int:
    """Print it; the exit code."""
    try:
        providers = import_module("genai_prices.data").providers
        found: dict[str, Any] = {"version": version("genai-prices"), "providers": []}
    except (ModuleNotFoundError, PackageNotFoundError):
        return 3
    found["providers"] = [
        {"id": provider.id, "models": plain(provider.models)}
        for provider in providers
        if provider.id in ("anthropic", "openai")
    ]
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
