"""Answers on stdout in the form that was asked for; everything said beside them on stderr.

Tables are for eyes and may change; JSON and YAML are the API's own answer, for programs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clawhaven.cli.client import items_of
from clawhaven.cli.failures import Failure
from clawhaven.core.money import format_usd

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


WIDE = 10_000
"""Columns where no terminal sets a limit: what a program reads is never broken over lines."""


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Column:
    """One column or fact: its heading, the keys it is looked for under (first hit wins), and how it is written."""

    heading: str
    keys: tuple[str, ...]
    write: Callable[[Any], str] = str

    def cell(self, row: Any) -> str:
        """The text for one row; a dash where the API said nothing."""
        if isinstance(row, str):
            return clean(row) if self.keys[0] == "id" else "-"
        for key in self.keys:
            value = _dig(row, key)
            if value not in (None, "", []):
                return clean(self.write(value))
        return "-"


@dataclass(frozen=True, slots=True)
class Output:
    """Where and how this run prints."""

    format: Format = Format.TABLE
    is_quiet: bool = False
    is_verbose: bool = False

    def rows(self, answer: Any, columns: Sequence[Column], empty: str = "Nothing here yet.") -> None:
        """A list: the whole answer, a table, or (quiet) the first column alone."""
        if self._plain(answer):
            return
        items = items_of(answer)
        if self.is_quiet:
            for row in items:
                self.line(columns[0].cell(row))
            return
        if not items:
            self.note(empty)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.heading.upper(), overflow="fold")
        for row in items:
            table.add_row(*(Text(column.cell(row)) for column in columns))
        width = None if sys.stdout.isatty() else WIDE
        Console(highlight=False, markup=False, width=width).print(table)

    def facts(self, answer: Any, facts: Sequence[Column]) -> None:
        """One thing: the whole answer, a fact a line, or (quiet) the first fact alone."""
        if self._plain(answer):
            return
        if self.is_quiet:
            self.line(facts[0].cell(answer))
            return
        told = [(fact.heading, text) for fact in facts if (text := fact.cell(answer)) != "-"]
        width = max((len(heading) for heading, _ in told), default=0)
        for heading, text in told:
            self.line(f"{heading.ljust(width)}  {text}")

    def text(self, answer: Any, text: str) -> None:
        """Running text: the whole answer for programs, the text for people."""
        if not self._plain(answer):
            self.line(text)

    def line(self, text: str) -> None:
        """One line on stdout, without anything that could steer the terminal."""
        print(clean(text), flush=True)

    def note(self, text: str) -> None:
        """Something said beside the answer; silent with --quiet."""
        if not self.is_quiet:
            print(clean(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Something that must be said in any case."""
        print(clean(text), file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Something said with --verbose only."""
        if self.is_verbose:
            print(clean(text), file=sys.stderr, flush=True)

    def failure(self, failure: Failure) -> None:
        """The sentence and the hint; for programs the API's shape on stdout as well."""
        if self.format != Format.TABLE:
            self._plain(failure.as_json())
        self.warn(f"Error: {failure.message}")
        fields = failure.details.get("field")
        if isinstance(fields, str) and self.is_verbose:
            self.warn(f"Field: {fields}")
        if failure.hint:
            self.warn(failure.hint)

    def _plain(self, answer: Any) -> bool:
        if self.format == Format.JSON:
            print(json.dumps(answer, indent=2, ensure_ascii=False), flush=True)
        elif self.format == Format.YAML:
            print(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True), end="", flush=True)
        else:
            return False
        return True


def clean(text: str) -> str:
    """`text` without escape sequences and control characters other than tab and newline."""
    return _CONTROLS.sub("", text)


def money(micros: Any) -> str:
    """Micro-dollars as dollars."""
    return format_usd(micros) if isinstance(micros, int) else str(micros)


def moment(text: Any) -> str:
    """`2026-11-21T03:29:14.123+00:00` as `2026-11-21 03:29:14`."""
    return str(text)[:19].replace("T", " ")


def count(number: Any) -> str:
    """`1,234,567`."""
    return f"{number:,}" if isinstance(number, int) else str(number)


def _dig(row: Any, path: str) -> Any:
    for key in path.split("."):
        row = row.get(key) if isinstance(row, dict) else None
    return row
