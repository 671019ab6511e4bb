"""The language of what is being said, and texts in it. English is what the code and the templates say.

The catalogue: web/locale/<language>.po, made from templates and code by `make texts`, read at the first use.
"""

from __future__ import annotations

import gettext as gettext_module
import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from babel import numbers
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

FOLDER = Path(str(files("clawhaven"))) / "web" / "locale"
SOURCE = "en"
LANGUAGES = (SOURCE, *sorted(path.stem for path in FOLDER.glob("*.po")))
"""Codes of the languages there are, English first."""

_current: ContextVar[str] = ContextVar("clawhaven_language", default=SOURCE)


def current() -> str:
    """The language of what is being said: of the answer that is made, or of the letter that is written."""
    return _current.get()


@contextmanager
def speaking(language: str | None) -> Iterator[None]:
    """Say everything inside in this language; one we do not know, or none, is English."""
    token = _current.set(language if language in LANGUAGES else SOURCE)
    try:
        yield
    finally:
        _current.reset(token)


def negotiate(wanted: str) -> str:
    """The best of our languages for an Accept-Language header; English when none fits."""
    ranked = []
    for place, part in enumerate(wanted[:500].split(",")):
        code, _, weight = part.strip().partition(";q=")
        try:
            ranked.append((-float(weight or 1), place, code.partition("-")[0].lower()))
        except ValueError:
            continue
    return next((code for weight, _place, code in sorted(ranked) if weight < 0 and code in LANGUAGES), SOURCE)


def N_(text: str) -> str:
    """Marks a text for the catalogue where it is written down, to be translated where it is shown."""
    return text


def plain_gettext(text: str) -> str:
    """The text in the current language, its `%(name)s` unfilled, a Sentence whole. Nothing stays nothing; to gettext
    it is the catalogue's own head."""
    if isinstance(text, Sentence):
        return str(text.phrase)
    return catalogue(current()).gettext(text) if text else ""


@cache
def catalogue(language: str) -> gettext_module.NullTranslations:
    """The translations of a language; those of English say what they are asked."""
    if language == SOURCE:
        return gettext_module.NullTranslations()
    with (FOLDER / f"{language}.po").open("rb") as file:
        found = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, found)
    compiled.seek(0)
    return gettext_module.GNUTranslations(compiled)


class Phrase:
    """A text that is said later, in the language of then; `%(name)s` in it is filled from `values`, phrases too."""

    def __init__(self, text: str, **values: Any) -> None:
        self._text, self._values = text, values

    def __str__(self) -> str:
        found = plain_gettext(self._text)
        return found % {name: str(value) for name, value in self._values.items()} if self._values else found

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self._text)


class Sentence(str):
    """A text filled in, in English, as programs, logs and tables get it; `plain_gettext`, and so the filter `said` of
    the pages, says it in the reader's language. `values` as a Phrase's."""

    phrase: Phrase

    def __new__(cls, text: str, **values: Any) -> Sentence:
        phrase = Phrase(text, **values)
        with speaking(SOURCE):
            made = super().__new__(cls, str(phrase))
        made.phrase = phrase
        return made


class Usd(Phrase):
    """An amount of micro-dollars, written as the language writes it."""

    def __init__(self, micros: int) -> None:
        super().__init__("")
        self._micros = micros

    def __str__(self) -> str:
        return usd(self._micros)


def usd(micros: int) -> str:
    """Micro-dollars exactly: `$29.00`, `-$0.000123`; two decimals, or as many as the amount needs."""
    return _money(micros, "¤#,##0.00####")


def price(micros: int) -> str:
    """Micro-dollars as on a price tag: `$29`, `$29.50`."""
    return _money(micros, "¤#,##0" if micros % 1_000_000 == 0 else "¤#,##0.00####")


def _money(micros: int, pattern: str) -> str:
    if current() != SOURCE:
        pattern = f"{pattern.removeprefix('¤')}\N{NO-BREAK SPACE}¤"
    amount = Decimal(micros) / 1_000_000
    return numbers.format_currency(amount, "USD", pattern, locale=current(), currency_digits=False)
