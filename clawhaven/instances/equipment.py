"""The skills of one assistant as its gateway wants them: tools, texts, settings, secrets and files. Pure functions."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clawhaven.instances.config import PERSONAL_TOOLS
from clawhaven.instances.skills import Skill
from clawhaven.instances.skillset import Choice
from clawhaven.ports.channel import Field
from clawhaven.ports.skill import SkillConfig

BASIC_TOOLS = ("read", "write", "edit")
"""What every assistant has: its own files."""

NO_BUNDLED = "none"
"""Stands in `skills.allowBundled` where no skill of OpenClaw's own is wanted: an empty list there means all of them."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Equipment:
    """What `config.build_config` and `config.build_secrets` take, and files: path within the instance -> text."""

    tools: Mapping[str, Any]
    bundled: Sequence[str]
    extra: Mapping[str, Any]
    secrets: Mapping[str, str]
    files: Mapping[str, str]


def is_key(field: Field, text: str) -> bool:
    """True for what looks like a key of this kind."""
    return re.fullmatch(field.pattern, text) is not None


def is_chosen(skill: Skill, choice: Choice | None) -> bool:
    """True when its owner wants it, or has said nothing and it is on by itself."""
    return choice.is_on if choice is not None else skill.is_default


def working(
    skills: Iterable[Skill], choices: Mapping[str, Choice], plan: str, runtime: str, vendors: Collection[str]
) -> list[Skill]:
    """The skills that an assistant really has: wanted, offered here, with their key, and with what they need."""
    wanted = [
        skill
        for skill in skills
        if obstacle(skill, plan, runtime, vendors) == ""
        and is_chosen(skill, choices.get(skill.id))
        and (not skill.vendor or (skill.id in choices and choices[skill.id].sealed))
    ]
    while True:  # what needs a skill that is off is off too, and so on
        ids = {skill.id for skill in wanted}
        rest = [skill for skill in wanted if ids.issuperset(skill.needs)]
        if len(rest) == len(wanted):
            return wanted
        wanted = rest


def obstacle(skill: Skill, plan: str, runtime: str, vendors: Collection[str]) -> str:
    """Why an assistant cannot have it: `browser`, `canvas`, `calls`, `offer`, `vendor`, `plan`, `runtime`; empty: it
    can."""
    if not skill.is_offered:
        return "offer"
    if skill.obstacle:
        return skill.obstacle
    if skill.vendor and skill.vendor not in vendors:
        return "vendor"
    if skill.plans and plan not in skill.plans:
        return "plan"
    if skill.runtimes and runtime not in skill.runtimes:
        return "runtime"
    return ""


def equip(
    skills: Iterable[Skill], on: Sequence[Skill], vendors: Mapping[str, SkillConfig], state_dir: str
) -> Equipment:
    """`skills`: the whole catalogue; `on`: those of it that the assistant has; `vendors`: skill -> its vendor's part.

    `state_dir` is where the gateway sees `state/`.
    """
    ids = {skill.id for skill in on}
    extra: Json = {}
    for skill in skills:
        extra = _join(extra, skill.when_on if skill.id in ids else skill.when_off)
    secrets: dict[str, str] = {}
    files: dict[str, str] = {}
    for skill in on:
        if skill.id in vendors:
            extra = _join(extra, vendors[skill.id].config)
            secrets.update(vendors[skill.id].secrets)
        if skill.package is not None:
            folder = skill.package.folder
            files.update({f"state/{folder}/{path}": text for path, text in skill.package.files.items()})
    plugins = [skill.package for skill in on if skill.package and skill.package.kind == "plugin"]
    texts = [skill.package for skill in on if skill.package and skill.package.kind == "skill"]
    if plugins:
        enabled = {one.name: {"enabled": True} for one in plugins}
        paths = [f"{state_dir}/{one.folder}" for one in plugins]
        extra = _join(extra, {"plugins": {"load": {"paths": paths}, "entries": enabled}})
    if texts:
        extra = _join(extra, {"skills": {"load": {"extraDirs": [f"{state_dir}/{one.root}" for one in texts]}}})
    tools = {**PERSONAL_TOOLS, "alsoAllow": [*BASIC_TOOLS, *_once(tool for skill in on for tool in skill.tools)]}
    return Equipment(
        tools, _once(name for skill in on for name in skill.bundled) or [NO_BUNDLED], extra, secrets, files
    )


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _join(below: Mapping[str, Any], above: Mapping[str, Any]) -> Json:
    joined = copy.deepcopy(dict(below))
    for key, value in above.items():
        under = joined.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            joined[key] = _join(under, value)
        else:
            joined[key] = copy.deepcopy(value)
    return joined
