"""The workspace files of a new assistant: a persona's templates filled with the customer's words, once, verbatim."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

FILES = ("AGENTS.md", "SOUL.md", "USER.md", "IDENTITY.md")
"""All four must exist: OpenClaw puts a `[MISSING]` line into the prompt for one that does not."""

USER_FILE_LIMIT = 4000
"""Characters of USER.md that OpenClaw loads; longer instructions stay whole in AGENTS.md."""

LIMITS = {name: USER_FILE_LIMIT if name == "USER.md" else 20_000 for name in FILES}
"""Characters of each file that OpenClaw reads; it leaves out the rest without a word."""

BUILT_IN = ("personal", "dev", "creative", "custom")

_MARK = re.compile(r"\{\{(name|instructions)\}\}")


def list_personas(templates_dir: Path | None = None) -> list[str]:
    """Built-in personas and the operator's own (folders of TEMPLATES_DIR that hold the four files)."""
    own = []
    if templates_dir is not None and templates_dir.is_dir():
        own = sorted(
            folder.name
            for folder in templates_dir.iterdir()
            if re.fullmatch(r"[a-z0-9-]{1,40}", folder.name) and all((folder / name).is_file() for name in FILES)
        )
    return [*BUILT_IN, *[name for name in own if name not in BUILT_IN]]


def render(persona: str, name: str, instructions: str, templates_dir: Path | None = None) -> dict[str, str]:
    """File name -> content. The customer's words are inserted as they are: a mark inside them stays text."""
    folder: Traversable = files("clawhaven.instances") / "personas" / persona
    if templates_dir is not None and (templates_dir / persona).is_dir():
        folder = templates_dir / persona
    wanted = instructions or "They have not said yet. Find out what they need, one question at a time."
    rendered = {}
    for file_name in FILES:
        words = {"name": name, "instructions": _shorten(wanted) if file_name == "USER.md" else wanted}
        template = (folder / file_name).read_text()
        rendered[file_name] = _MARK.sub(lambda match, words=words: words[match.group(1)], template)  # type: ignore[misc]
    return rendered


def _shorten(text: str) -> str:
    room = USER_FILE_LIMIT - 300
    return text if len(text) <= room else text[:room] + "\n\n(The rest is in AGENTS.md.)"
