"""What the tool remembers: the server it talks to and one API key per server, readable by its owner only.

A key is kept under the address it was made for and is never sent to another one.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from clawhaven.cli.failures import ExitCode, Failure

DEFAULT_API_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key and, where we made it, its id (so that signing out can revoke it)."""

    key: str = field(repr=False)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The content of config.toml."""

    api_url: str | None = None
    keys: dict[str, StoredKey] = field(default_factory=dict)


def path() -> Path:
    """Where config.toml lies on this system."""
    return Path(platformdirs.user_config_dir("clawhaven")) / "config.toml"


def load() -> Config:
    """The stored configuration; empty when there is none. Raises Failure when it cannot be read."""
    place = path()
    try:
        tree = tomllib.loads(place.read_text())
    except FileNotFoundError:
        return Config()
    except (OSError, ValueError) as error:
        raise Failure(
            f"{place} cannot be read: {error}.", ExitCode.FAILED, hint="Mend or delete it, then sign in again."
        ) from None
    return Config(api_url=_text(tree.get("api_url")), keys=_keys(tree.get("keys")))


def save(config: Config) -> None:
    """Replace config.toml in one step, mode 0600 in a 0700 folder."""
    place = path()
    lines = [f"api_url = {json.dumps(config.api_url)}"] if config.api_url else []
    for url, stored in sorted(config.keys.items()):
        lines += ["", f"[keys.{json.dumps(url)}]", f"key = {json.dumps(stored.key)}"]
        lines += [f"id = {json.dumps(stored.id)}"] if stored.id else []
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=".config-")  # mkstemp makes it 0600
        with os.fdopen(handle, "w") as file:
            file.write("\n".join(lines).lstrip("\n") + "\n")
        Path(temporary).replace(place)
    except OSError as error:
        raise Failure(
            f"{place} cannot be written: {error.strerror}.",
            hint="Give the key in CLAWHAVEN_API_KEY instead, or make the folder writable.",
        ) from None


def with_key(config: Config, url: str, stored: StoredKey) -> Config:
    """The configuration that talks to `url` with this key."""
    return Config(api_url=url, keys={**config.keys, url: stored})


def without_key(config: Config, url: str) -> Config:
    """The configuration that has forgotten the key for `url`."""
    return Config(api_url=config.api_url, keys={known: key for known, key in config.keys.items() if known != url})


def _keys(tree: Any) -> dict[str, StoredKey]:
    if not isinstance(tree, dict):
        return {}
    return {
        url: StoredKey(entry["key"], _text(entry.get("id")))
        for url, entry in tree.items()
        if isinstance(entry, dict) and isinstance(entry.get("key"), str)
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
