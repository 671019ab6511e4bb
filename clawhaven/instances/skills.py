"""The catalogue of skills: what an assistant can be given besides talking, and what of it is offered here.

What each one needs in the gateway was found out by running OpenClaw 2026.9.6: with it on, the model is sent its tool;
with it off, it is not. All of it is taken over by a running gateway.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from clawhaven.core.errors import Invalid
from clawhaven.core.languages import N_
from clawhaven.instances.packages import Package, unpack


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill. `label` and `summary` are what people read, in English; the web translates those of ours."""

    id: str
    tools: tuple[str, ...] = ()
    """Of OpenClaw's tools, what it adds."""
    bundled: tuple[str, ...] = ()
    """Of OpenClaw's own skills (texts that it reads), what it adds."""
    needs: tuple[str, ...] = ()
    """Skills without which it does nothing."""
    vendor: str = ""
    """Of ports.skill, whose key it needs; empty: none."""
    package: Package | None = None
    when_on: Mapping[str, Any] = field(default_factory=dict)
    when_off: Mapping[str, Any] = field(default_factory=dict)
    """What the gateway's configuration says besides."""
    label: str = ""
    summary: str = ""
    note: str = ""
    """What it costs or risks."""
    is_offered: bool = True
    is_default: bool = False
    """On until somebody chooses otherwise."""
    plans: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    """Where it is offered; empty: everywhere."""
    obstacle: str = ""
    """Why no assistant can have it yet: `browser`, `canvas` or `calls`. Empty: it works."""


BUILT_IN: tuple[Skill, ...] = (
    Skill(
        "web_pages",
        tools=("web_fetch",),
        label=N_("Web pages"),
        summary=N_("Reads the pages and articles that you send it or that it finds."),
        is_default=True,
    ),
    Skill(
        "web_search",
        tools=("web_search",),
        vendor="brave",
        label=N_("Web search"),
        summary=N_("Looks things up on the web, with your key of Brave Search."),
        note=N_("Brave bills you for it: 5 dollars for 1,000 searches, with a monthly free allowance."),
    ),
    Skill(
        "reminders",
        tools=("automations",),
        when_off={"cron": {"enabled": False}},
        label=N_("Reminders and schedules"),
        summary=N_("Reminds you in time, and does things at hours that you name."),
        note=N_("What it does by itself costs usage, at most your daily allowance for it."),
        is_default=True,
    ),
    Skill(
        "memory",
        tools=("memory_search", "memory_get"),
        when_off={"plugins": {"slots": {"memory": "none"}}},
        label=N_("Memory"),
        summary=N_("Finds again what it noted in earlier talks."),
        note=N_("Turned off it keeps its notes, but does not search them."),
        is_default=True,
    ),
    Skill(
        "weather",
        bundled=("weather",),
        needs=("web_pages",),
        label=N_("Weather"),
        summary=N_("Knows the weather and the forecast for any place."),
        note=N_("It asks wttr.in, which needs no key."),
        is_default=True,
    ),
    Skill(
        "voice",
        tools=("tts",),
        vendor="elevenlabs",
        label=N_("Voice"),
        summary=N_("Answers with a voice message when you ask for one, with your key of ElevenLabs."),
        note=N_("It speaks in messengers; the chat here shows text. ElevenLabs bills you by the text that is spoken."),
    ),
    Skill(
        "browser",
        label=N_("Browser"),
        summary=N_("Clicks through websites as a person would."),
        obstacle="browser",
    ),
    Skill("canvas", label=N_("Canvas"), summary=N_("Shows pages on the screen of your Mac."), obstacle="canvas"),
    Skill("calls", label=N_("Phone calls"), summary=N_("Calls you, and picks up when you call."), obstacle="calls"),
)

Read = Callable[[str], bytes]
"""Reads an archive by the name that stands in the operator's file. Raises OSError."""


class SkillCatalogue:
    """All skills by id, in the order in which they are shown."""

    def __init__(self, skills: Sequence[Skill]) -> None:
        self._skills = {skill.id: skill for skill in skills}

    @classmethod
    def load(cls, text: str = "", read: Read | None = None) -> SkillCatalogue:
        """The built-in skills with the operator's TOML over them. Raises ValueError naming skill and key."""
        packages = {"web_search": brave_plugin()}
        skills = {one.id: replace(one, package=packages.get(one.id)) for one in BUILT_IN}
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"this is not TOML: {error}") from None
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise ValueError(f"{name} stands outside of a skill; a skill begins with a line like [web_search]")
            skills[name] = _read(name, dict(table), skills.get(name), read)
        for skill in skills.values():
            for other in skill.needs:
                if other not in skills:
                    raise ValueError(f"skill {skill.id}: needs has {other}, which is no skill")
        taken = [skill.package.folder for skill in skills.values() if skill.package]
        for folder in taken:
            if taken.count(folder) > 1:
                raise ValueError(f"two skills bring along {folder.rpartition('/')[2]}")
        return cls(list(skills.values()))

    def __iter__(self) -> Iterator[Skill]:
        return iter(self._skills.values())

    def find(self, skill_id: str) -> Skill | None:
        """A skill, offered or not."""
        return self._skills.get(skill_id)

    def get(self, skill_id: str) -> Skill:
        """A skill that is offered. Raises Invalid naming them."""
        skill = self._skills.get(skill_id)
        if skill is None or not skill.is_offered:
            known = ", ".join(one.id for one in self if one.is_offered)
            raise Invalid(f"Skills are {known}.", field="skill", reason="unknown skill")
        return skill


BRAVE_ARCHIVE = "openclaw-brave-plugin-2026.9.5.tgz"
BRAVE_SHA256 = "061442c5547e1695915c74faacdc8f38d8d04ba40718bfccd25fc7d7718b4ae4"


@cache
def brave_plugin() -> Package:
    """OpenClaw's own plugin for Brave, as npm has it (@openclaw/brave-plugin 2026.9.5; the newest there is for
    2026.9.6), begun by a file of ours: see openclaw_brave/keyed.js."""
    here = files("clawhaven.instances") / "openclaw_brave"
    published = unpack((here / BRAVE_ARCHIVE).read_bytes(), BRAVE_SHA256)
    about = json.loads(published.files["package.json"])
    about["openclaw"] |= {"extensions": ["./dist/keyed.js"], "runtimeExtensions": ["./dist/keyed.js"]}
    added = {"package.json": json.dumps(about, indent=2) + "\n", "dist/keyed.js": (here / "keyed.js").read_text()}
    return replace(published, files={**published.files, **added})


def _read(name: str, table: dict[str, Any], known: Skill | None, read: Read | None) -> Skill:
    """One table of the operator's file. Raises ValueError naming skill and key."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ValueError(f"skill {name}: its id has 1 to 40 of a-z, 0-9 and _, a letter first")
    archive, sha256 = table.pop("archive", None), table.pop("sha256", None)
    changes: dict[str, Any] = {key: _value(name, key, value) for key, value in table.items()}
    if known is not None:
        if archive is not None or not _SWITCHES.issuperset(changes):
            raise ValueError(f"skill {name} is built in: it can have {', '.join(sorted(_SWITCHES))}")
        return replace(known, **changes)
    for key in ("label", "summary"):
        if key not in changes:
            raise ValueError(f"skill {name}: {key} is missing")
    if archive is None and not changes.get("bundled"):
        raise ValueError(f"skill {name}: either archive with its sha256, or bundled, is missing")
    package = _package(name, archive, sha256, read) if archive is not None else None
    return Skill(name, package=package, **changes)


def _value(name: str, key: str, value: object) -> object:
    kind = _KEYS.get(key)
    if kind is None:
        raise ValueError(f"skill {name}: {key} is not a key of a skill")
    if kind is tuple:
        if not isinstance(value, list) or not all(isinstance(one, str) and _WORD.fullmatch(one) for one in value):
            raise ValueError(f'skill {name}: {key} is a list of words like ["a", "b"]')
        foreign = [tool for tool in value if key == "tools" and tool not in LENDABLE]
        if foreign:
            raise ValueError(f"skill {name}: tools has {foreign[0]}; there is {', '.join(sorted(LENDABLE))}")
        return tuple(value)
    if not isinstance(value, kind) or (isinstance(value, str) and not 1 <= len(value.strip()) <= 300):
        said = "true or false" if kind is bool else "text of 1 to 300 characters in quotes"
        raise ValueError(f"skill {name}: {key} is {said}")
    return value


def _package(name: str, archive: object, sha256: object, read: Read | None) -> Package:
    if not isinstance(archive, str) or not archive or read is None:
        raise ValueError(f"skill {name}: archive is the path of a .tar.gz or .zip file")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"skill {name}: sha256 is missing: the 64 hex digits of `sha256sum {archive}`")
    try:
        return unpack(read(archive), sha256)
    except OSError as error:
        raise ValueError(f"skill {name}: {archive} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"skill {name}: {archive}: {error}") from None


_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEYS: Mapping[str, type] = {
    "label": str,
    "summary": str,
    "note": str,
    "is_offered": bool,
    "is_default": bool,
    "plans": tuple,
    "runtimes": tuple,
    "tools": tuple,
    "bundled": tuple,
    "needs": tuple,
}
_SWITCHES = frozenset({"is_offered", "is_default", "plans", "runtimes"})

LENDABLE = frozenset(tool for skill in BUILT_IN for tool in skill.tools if not skill.vendor) | {"progress_card"}
"""Tools that an operator's skill may add: no shell, nothing of the host's."""
