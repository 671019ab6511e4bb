"""An assistant's log, line by line: what OpenClaw writes into `state/logs/gateway.jsonl`, or prints. Pure functions.

The assistant can write into the file as well: nothing here trusts what stands in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clawhaven.core.logs import redact

PATH = "state/logs/gateway.jsonl"
LEVELS = ("error", "warn", "info", "debug")
"""From the gravest on."""

LONGEST_LINE = 2000
LONGEST_SOURCE = 60

_WORDS = {"fatal": "error", "error": "error", "warn": "warn", "warning": "warn", "info": "info"}
_PRINTED = re.compile(r"(?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*) (?:\[(?P<source>[^\]]{1,60})\] )?(?P<text>.*)", re.S)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line: when (None: it did not say), how grave, which part wrote it, and its words with secrets masked."""

    at: datetime | None
    level: str
    source: str
    text: str

    def as_line(self) -> str:
        """For terminals and files."""
        at = self.at.isoformat(timespec="milliseconds") if self.at else "-"
        return f"{at} {self.level.upper():5} {f'[{self.source}] ' if self.source else ''}{self.text}"


def read_lines(lines: Iterable[str]) -> Iterator[Entry]:
    """Entries of lines, JSON or printed; one without a time has that of the line before."""
    last: datetime | None = None
    for line in lines:
        if not line.strip():
            continue
        entry = _of_json(line) or _of_print(line)
        last = entry.at or last
        yield entry if entry.at else Entry(last, entry.level, entry.source, entry.text)


def pick(entries: Iterable[Entry], level: str = "", words: str = "", since: datetime | None = None) -> list[Entry]:
    """Those as grave as `level` at least, with all the words (of any case), not older than `since`."""
    wanted = LEVELS[: LEVELS.index(level) + 1] if level in LEVELS else LEVELS
    parts = words.casefold().split()
    return [
        entry
        for entry in entries
        if entry.level in wanted
        and (since is None or entry.at is None or entry.at >= since)
        and all(part in f"{entry.source} {entry.text}".casefold() for part in parts)
    ]


def _of_json(line: str) -> Entry | None:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    about = told.get("_meta")
    name = about.get("logLevelName") if isinstance(about, dict) else ""
    level = _WORDS.get(str(name).lower(), "debug")
    return Entry(_moment(told.get("time")), level, _source(told.get("0")), _plain(_text(told), LONGEST_LINE))


def _of_print(line: str) -> Entry:
    found = _PRINTED.match(line)
    if found is None:
        return Entry(None, "info", "", _plain(line, LONGEST_LINE))
    source = _plain(found["source"] or "", LONGEST_SOURCE)
    return Entry(_moment(found["at"]), "info", source, _plain(found["text"], LONGEST_LINE))


def _text(told: dict[str, Any]) -> str:
    if isinstance(told.get("message"), str):
        return str(told["message"])
    return " ".join(str(told[key]) for key in sorted(told) if key.isdecimal() and key != "0")


def _source(value: Any) -> str:
    """`{"subsystem":"gateway"}`, as text."""
    try:
        told = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        told = None
    return _plain(str(told.get("subsystem", "")), LONGEST_SOURCE) if isinstance(told, dict) else ""


def _moment(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _plain(text: str, most: int) -> str:
    shown = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text[: most + 1])
    return redact(shown[:most].strip()) + ("…" if len(text) > most else "")
