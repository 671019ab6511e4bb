"""What vendors' usage exports have in common: CSV or pages of JSON, added up by day (UTC) and model."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from clawhaven.ports.upstream import VendorDay

MICROS = Decimal(1_000_000)
MOST_DIGITS = 15
MOST = 10**15
"""What is larger is a mistake; a day's figures of several models still fit a database's integer."""

FIRST_YEAR, LAST_YEAR = 2015, 2199
"""Days before and after are mistakes."""

ALL_MODELS = "*"
"""The model of a line that is about all of them."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
Row = Mapping[str, Any]


class Sums:
    """Tokens and cost by day and model; what no line said stays None."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, Decimal]] = {}

    def add(self, day: str, model: str, **figures: Decimal | int) -> None:
        """Add a line's figures (fields of VendorDay; `cost_micros` may be a fraction until the end). Raises ValueError
        for a model that is no text."""
        if not model.isprintable():
            raise ValueError(f"{model[:40]!r} is no model")
        known = self._found.setdefault((day, model or ALL_MODELS), {})
        for name, value in figures.items():
            known[name] = known.get(name, Decimal(0)) + value

    def days(self) -> list[VendorDay]:
        """Every day and model; costs rounded to the micro-dollar. Raises ValueError when there is none."""
        if not self._found:
            raise ValueError("there is no usage in it")
        if any(abs(value) > MOST for figures in self._found.values() for value in figures.values()):
            raise ValueError("a figure in it is too large")
        return [
            VendorDay(day, model, **{name: int(value.to_integral_value()) for name, value in figures.items()})
            for (day, model), figures in sorted(self._found.items())
        ]


def rows_of(text: str) -> tuple[list[Row], bool]:
    """The lines of an export, and whether it is JSON: a JSON page's results have their bucket's beginning as `begin`.

    Raises ValueError with a sentence.
    """
    if text.lstrip()[:1] in ("{", "["):
        return list(_results(_pages(text))), True
    table = csv.DictReader(io.StringIO(text))
    try:
        names = [(name or "").strip().lower() for name in table.fieldnames or ()]
        if len(names) < 2:
            raise ValueError("this is neither CSV with a heading nor JSON")
        table.fieldnames = names
        return list(table), False
    except csv.Error as problem:
        raise ValueError(f"this is no CSV: {problem}") from None


def day_of(row: Row, *names: str) -> str:
    """The day of a line: an ISO date or time, or Unix seconds, in the first of these columns that has one."""
    value = next((row[name] for name in ("begin", *names) if row.get(name) not in (None, "")), None)
    text = str(value)
    if text.isascii() and text.isdigit() and len(text) <= 11:
        text = datetime.fromtimestamp(int(text), UTC).date().isoformat()
    found = _DAY.match(text)
    try:
        day = date.fromisoformat(found.group() if found else "")
    except ValueError:
        day = date.min
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"{text[:40]!r} is no day")
    return day.isoformat()


def count(row: Row, name: str) -> int:
    """A number of tokens; nothing is none. Raises ValueError."""
    value = number(row, name)
    if value < 0 or value != value.to_integral_value():
        raise ValueError(f"{name} is {str(row.get(name))[:40]!r}, which is no number of tokens")
    return int(value)


def number(row: Row, name: str) -> Decimal:
    """A number; nothing is zero. Raises ValueError."""
    value = row.get(name)
    try:
        found = Decimal(str(value).strip() or 0) if value is not None else Decimal(0)
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite() or found.adjusted() > MOST_DIGITS:
        raise ValueError(f"{name} is {str(value)[:40]!r}, which is no number")
    return found


def _pages(text: str) -> list[Any]:
    try:
        given = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise ValueError("this is not JSON") from None
    pages = given if isinstance(given, list) else [given]
    if not pages or not all(isinstance(page, dict) and isinstance(page.get("data"), list) for page in pages):
        raise ValueError("this is no answer of the vendor's usage API: it has no `data`")
    if pages[-1].get("has_more"):
        raise ValueError("this is not all of it: has_more is true. Put all pages in one list")
    return pages


def _results(pages: Iterable[Any]) -> Iterator[Row]:
    for page in pages:
        for bucket in page["data"]:
            results = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
                raise ValueError("a bucket has no results")
            begin = bucket.get("starting_at", bucket.get("start_time"))
            yield from ({**one, "begin": begin} for one in results)
