"""Which language an answer has, and texts, amounts and times in it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from babel.messages.pofile import read_po

from clawhaven.core.money import format_usd
from clawhaven.web import languages, words
from clawhaven.web.languages import _, ngettext, speaking
from tests.web.conftest import Visit

AT = datetime(2026, 3, 5, 14, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr,de;q=0.5,en;q=0.3", "de"),
        ("en-GB,de;q=0.9", "en"),
        ("fr", "en"),
        ("de;q=0,en", "en"),
        ("de;q=oops,de;q=0.1", "de"),
        (",;q=,*", "en"),
        ("x" * 10_000, "en"),
    ],
)
def test_the_browser_is_heard(wanted: str, language: str) -> None:
    assert languages.negotiate(wanted) == language


def test_a_page_follows_the_browser_and_the_cookie_wins(visit: Visit) -> None:
    german = {"accept-language": "de-DE,de;q=0.9"}
    assert '<html lang="de">' in visit.get("/sign-in", headers=german).text
    visit.http.cookies.set(languages.COOKIE, "en")
    assert '<html lang="en">' in visit.get("/sign-in", headers=german).text


def test_one_answers_language_does_not_stay_for_the_next(visit: Visit) -> None:
    assert '<html lang="de">' in visit.get("/", headers={"accept-language": "de"}).text
    assert '<html lang="en">' in visit.get("/").text
    assert languages.current() == "en"


@pytest.mark.parametrize("micros", [0, 29_000_000, -123, 1_234_567_890_123, 10_000, -29_500_000, 1])
def test_amounts_are_exact(micros: int) -> None:
    assert languages.usd(micros) == format_usd(micros)
    with speaking("de"):
        assert languages.usd(micros).endswith("\N{NO-BREAK SPACE}$")
        digits = languages.usd(micros).translate(str.maketrans({".": "", ",": ".", "\N{NO-BREAK SPACE}": "", "$": ""}))
        assert round(float(digits) * 1_000_000) == micros


def test_amounts_and_numbers_look_native() -> None:
    assert (languages.price(29_000_000), languages.price(29_500_000)) == ("$29", "$29.50")
    assert languages.count(1234567) == "1,234,567"
    with speaking("de"):
        assert languages.usd(1_234_500_000) == "1.234,50\N{NO-BREAK SPACE}$"
        assert languages.price(29_000_000) == "29\N{NO-BREAK SPACE}$"
        assert languages.count(1234567) == "1.234.567"


def test_times_say_the_month_in_words() -> None:
    assert languages.moment(AT) == "5 Mar 2026, 14:07 UTC"
    assert languages.day(AT) == "5 Mar 2026"
    with speaking("de"):
        assert languages.day(AT) == "5. März 2026"


def test_words_follow_the_language() -> None:
    assert words.STEP_STATES["done"] == "done"
    assert words.DONE.get("nothing of the kind") == ""
    with speaking("de"):
        assert words.STEP_STATES["done"] == "fertig"
        assert words.STEP_STATES.get("done") == "fertig"
        assert words.BADGES["active"].label == "Läuft"
    assert words.BADGES["active"].label == "Live"


def test_a_text_without_translation_stays_english() -> None:
    with speaking("de"):
        assert _("Nobody has translated this.") == "Nobody has translated this."
        assert _("") == ""
    with speaking("xx"):
        assert languages.current() == "en"


def test_values_and_numbers_are_filled_in() -> None:
    assert _("Hello %(name)s", name="Ada") == "Hello Ada"
    assert ngettext("%(num)s call", "%(num)s calls", 1200) == "1,200 calls"
    assert ngettext("%(num)s call", "%(num)s calls", 1) == "1 call"


def test_languages_are_called_as_their_speakers_call_them() -> None:
    assert [languages.name_of(code) for code in languages.LANGUAGES] == ["English", "Deutsch"]


@pytest.mark.parametrize("language", [code for code in languages.LANGUAGES if code != "en"])
def test_translations_take_the_same_values(language: str) -> None:
    with (languages.FOLDER / f"{language}.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    wrong = {
        message.id: errors for message in catalogue if message.string and (errors := list(message.check(catalogue)))
    }
    assert not wrong
