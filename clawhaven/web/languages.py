"""The language of an answer, and texts, amounts and times in it. English is what the templates say.

The catalogue: locale/<language>.po, made from the templates and these modules by `make texts`, read at the start.
"""

from __future__ import annotations

import gettext as gettext_module
import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from pathlib import Path
from typing import Any

from babel import Locale, dates, numbers
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(str(files("clawhaven.web"))) / "locale"
SOURCE = "en"
LANGUAGES = (SOURCE, *sorted(path.stem for path in FOLDER.glob("*.po")))
"""Codes of the languages there are, English first."""

COOKIE = "clawhaven_language"

_current: ContextVar[str] = ContextVar("clawhaven_language", default=SOURCE)

DAY = {"en": "d MMM y", "de": "d. MMM y"}
"""How a language writes a day; others as CLDR's medium form has it. The name of the month keeps it unmistakable."""


def current() -> str:
    """The language of the answer that is being made."""
    return _current.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Make everything inside in this language; one we do not know is English."""
    token = _current.set(language if language in LANGUAGES else SOURCE)
    try:
        yield
    finally:
        _current.reset(token)


def name_of(language: str) -> str:
    """What its speakers call it: `Deutsch`."""
    name = Locale.parse(language).get_display_name(language)
    return (name or language).capitalize()


def _(text: str, **values: Any) -> str:
    """The text in the current language; `%(name)s` in it is filled from `values`."""
    found = plain_gettext(text)
    return found % values if values else found


def ngettext(one: str, many: str, number: int, **values: Any) -> str:
    """The form for so many; `%(num)s` is the number, written as the language writes it."""
    return _catalogue(current()).ngettext(one, many, number) % {"num": count(number), **values}


def N_(text: str) -> str:
    """Marks a text for the catalogue where it is written down, to be translated where it is shown."""
    return text


class Texts(dict[str, str]):
    """Our word -> a text marked with N_; reading gives it in the current language."""

    def __getitem__(self, key: str) -> str:
        return _(super().__getitem__(key))

    def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
        """The text, or `default` as it is."""
        return _(super().get(key, "")) or default


def plain_gettext(text: str) -> str:
    """For Jinja, which fills in values itself. Nothing stays nothing; to gettext it is the catalogue's own head."""
    return _catalogue(current()).gettext(text) if text else ""


def plain_ngettext(one: str, many: str, number: int) -> str:
    """For Jinja, which fills in values itself."""
    return _catalogue(current()).ngettext(one, many, number)


def usd(micros: int) -> str:
    """Micro-dollars exactly: `$29.00`, `-$0.000123`; two decimals, or as many as the amount needs."""
    return _money(micros, "¤#,##0.00####")


def price(micros: int) -> str:
    """Micro-dollars as on a price tag: `$29`, `$29.50`."""
    return _money(micros, "¤#,##0" if micros % 1_000_000 == 0 else "¤#,##0.00####")


def count(number: int) -> str:
    """`1,200`."""
    return numbers.format_decimal(number, locale=current())


def moment(at: datetime) -> str:
    """`5 Jan 2026, 14:05 UTC`."""
    return f"{day(at)}, {dates.format_time(at, 'HH:mm', tzinfo=at.tzinfo, locale=current())} UTC"


def day(at: date) -> str:
    """`5 Jan 2026`."""
    return dates.format_date(at, DAY.get(current(), "medium"), locale=current())


def month(at: date) -> str:
    """`March 2026`."""
    return dates.format_date(at, "LLLL y", locale=current())


def _money(micros: int, pattern: str) -> str:
    if current() != SOURCE:
        pattern = f"{pattern.removeprefix('¤')}\N{NO-BREAK SPACE}¤"
    amount = Decimal(micros) / 1_000_000
    return numbers.format_currency(amount, "USD", pattern, locale=current(), currency_digits=False)


@cache
def _catalogue(language: str) -> gettext_module.NullTranslations:
    if language == SOURCE:
        return gettext_module.NullTranslations()
    with (FOLDER / f"{language}.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext_module.GNUTranslations(compiled)


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


class InLanguage:
    """Pure ASGI: every request is answered in the language of its cookie, else of what the browser asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with speaking(_chosen(headers.get("cookie", "")) or negotiate(headers.get("accept-language", ""))):
            await self._app(scope, receive, send)


def _chosen(cookies: str) -> str:
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None and found.value in LANGUAGES else ""
