"""The language of an answer, and texts, amounts and times in it. English is what the templates say.

The catalogue is core/languages.py's, which letters are written from too.
"""

from __future__ import annotations

from datetime import date, datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any

from babel import Locale, dates, numbers
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from clawhaven.core.languages import FOLDER as FOLDER
from clawhaven.core.languages import LANGUAGES as LANGUAGES
from clawhaven.core.languages import N_ as N_
from clawhaven.core.languages import SOURCE as SOURCE
from clawhaven.core.languages import catalogue
from clawhaven.core.languages import current as current
from clawhaven.core.languages import negotiate as negotiate
from clawhaven.core.languages import plain_gettext as plain_gettext
from clawhaven.core.languages import price as price
from clawhaven.core.languages import speaking as speaking
from clawhaven.core.languages import usd as usd

COOKIE = "clawhaven_language"

DAY = {"en": "d MMM y", "de": "d. MMM y"}
"""How a language writes a day; others as CLDR's medium form has it. The name of the month keeps it unmistakable."""


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
    return catalogue(current()).ngettext(one, many, number) % {"num": count(number), **values}


class Texts(dict[str, str]):
    """Our word -> a text marked with N_; reading gives it in the current language."""

    def __getitem__(self, key: str) -> str:
        return _(super().__getitem__(key))

    def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
        """The text, or `default` as it is."""
        return _(super().get(key, "")) or default


def plain_ngettext(one: str, many: str, number: int) -> str:
    """For Jinja, which fills in values itself."""
    return catalogue(current()).ngettext(one, many, number)


def count(number: int) -> str:
    """`1,200`."""
    return numbers.format_decimal(number, locale=current())


def size(number: int) -> str:
    """Bytes as `3.4 MB`, `820 kB`."""
    for limit, unit in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")):
        if number >= limit:
            return f"{numbers.format_decimal(number / limit, '#,##0.#', locale=current())} {unit}"
    return f"{number} B"


def moment(at: datetime) -> str:
    """`5 Jan 2026, 14:05 UTC`."""
    return f"{day(at)}, {dates.format_time(at, 'HH:mm', tzinfo=at.tzinfo, locale=current())} UTC"


def day(at: date) -> str:
    """`5 Jan 2026`."""
    return dates.format_date(at, DAY.get(current(), "medium"), locale=current())


def month(at: date) -> str:
    """`March 2026`."""
    return dates.format_date(at, "LLLL y", locale=current())


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
