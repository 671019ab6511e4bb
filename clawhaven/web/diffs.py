"""Two texts side by side, line by line, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

AROUND = 3
"""Unchanged lines that are shown before and after a change."""

MOST_LINES = 300
"""More lines from the first difference to the last are not matched: lines that repeat would take seconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `same`, `added`, `removed`, or `gap` for those that are left out."""

    kind: str
    text: str


def compare(before: str, after: str) -> list[Line]:
    """What was taken away and what came; empty when nothing did."""
    old, new = before.splitlines(), after.splitlines()
    if old == new:
        return []
    head = _count_same(old, new)
    tail = _count_same(reversed(old[head:]), reversed(new[head:]))
    end = len(old) - tail
    changed = _match(old[head:end], new[head : len(new) - tail])
    return _leave_out([*_lines("same", old[:head]), *changed, *_lines("same", old[end:])])


def _count_same(old: Iterable[str], new: Iterable[str]) -> int:
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count


def _match(old: Sequence[str], new: Sequence[str]) -> list[Line]:
    if max(len(old), len(new)) > MOST_LINES:
        return _lines("removed", old) + _lines("added", new)
    found: list[Line] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        found += (
            _lines("same", old[a:b]) if kind == "equal" else _lines("removed", old[a:b]) + _lines("added", new[c:d])
        )
    return found


def _leave_out(lines: Sequence[Line]) -> list[Line]:
    """Without what is far from every change."""
    is_near = bytearray(len(lines))
    for at, line in enumerate(lines):
        if line.kind != "same":
            for near in range(max(0, at - AROUND), min(len(lines), at + AROUND + 1)):
                is_near[near] = 1
    found: list[Line] = []
    for at, line in enumerate(lines):
        if is_near[at]:
            if at and not is_near[at - 1]:
                found.append(Line("gap", ""))
            found.append(line)
    return found


def _lines(kind: str, texts: Sequence[str]) -> list[Line]:
    return [Line(kind, text) for text in texts]
