"""What an archive says to the person who opens it somewhere else: a configuration without us, and a note. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

KEPT = ("session", "tools", "messages", "ui")
"""Parts of an `openclaw.json` that mean the same anywhere; the others name our model, doors, channels and secrets."""


def portable_config(current: str) -> str:
    """The configuration for OpenClaw anywhere: who the assistant is and what it may use. No secret is in it, nor where
    ours are; model and channels have to be set up anew (`openclaw configure`)."""
    try:
        tree = json.loads(current)
    except ValueError:
        tree = {}
    tree = tree if isinstance(tree, dict) else {}
    portable: dict[str, Any] = {key: tree[key] for key in KEPT if isinstance(tree.get(key), dict)}
    entries = _below(_below(tree, "agents"), "entries")
    named = {name: {"identity": _below(one, "identity")} for name, one in entries.items() if _below(one, "identity")}
    portable["agents"] = {"defaults": {"skipBootstrap": True}, **({"entries": named} if named else {})}
    return json.dumps(portable, indent=2, ensure_ascii=False) + "\n"


def write_note(name: str, brand: str, version: str, at: datetime) -> str:
    """The text file beside the home."""
    return f"""{name}, as it was on {at:%Y-%m-%d at %H:%M} UTC, saved by {brand}.

The folder .openclaw holds everything the assistant keeps: its files (workspace), conversations, memory, reminders, and
the sign-ins of channels that have their own (such as WhatsApp). Keep it as safe as a password.

To go on with it elsewhere: install OpenClaw {version} or newer, move .openclaw to your home folder, and run
`openclaw configure` to choose a model and channels.

Left out: the keys of {brand} (model, gateway) and your bots' tokens. The configuration in it works without them.
"""


def file_name(name: str) -> str:
    """What the download is called: the assistant's name as far as every file system takes it."""
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return "-".join(part for part in safe.split("-") if part) or "assistant"


def _below(tree: Any, key: str) -> dict[str, Any]:
    found = tree.get(key) if isinstance(tree, dict) else None
    return found if isinstance(found, dict) else {}
