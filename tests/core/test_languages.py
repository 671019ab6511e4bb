"""Texts are put into words when they are read, in the language that is spoken then."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from clawhaven.core import languages
from clawhaven.core.languages import Phrase, Sentence, Usd, current, plain_gettext, speaking

WELCOME = Phrase("Welcome to %(brand)s", brand="Haven")


def test_a_language_is_spoken_inside_its_block_alone() -> None:
    assert (current(), str(WELCOME)) == ("en", "Welcome to Haven")
    with speaking("de"):
        assert (current(), str(WELCOME)) == ("de", "Willkommen bei Haven")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(current).result() == "en", "another thread speaks for itself"
    for unknown in ("xx", "", None):
        with speaking(unknown):
            assert current() == "en"


def test_a_phrase_within_a_phrase_is_said_in_the_same_language() -> None:
    paused = Phrase("%(name)s is paused: %(because)s. Its data is kept. See what to do here:",
                    name="Ada 100%", because=Phrase("a payment is missing"))  # fmt: skip
    assert str(paused).startswith("Ada 100% is paused: a payment is missing.")
    with speaking("de"):
        assert str(paused).startswith("Ada 100% ist pausiert: eine Zahlung fehlt.")
    assert Phrase("50% off") == "50% off", "without values nothing is filled in"


def test_what_no_catalogue_has_stays_as_it_is() -> None:
    with speaking("de"):
        assert plain_gettext("Nobody has translated this sentence.") == "Nobody has translated this sentence."
        assert plain_gettext("") == ""
    assert languages.LANGUAGES[0] == languages.SOURCE == "en"
    assert "de" in languages.LANGUAGES


def test_a_sentence_is_english_until_it_is_said() -> None:
    with speaking("de"):
        limits = Sentence("A top-up is from %(least)s to %(most)s.", least=Usd(10_000_000), most=Usd(1_500_500_000))
        assert limits == "A top-up is from $10.00 to $1,500.50."
        assert json.dumps(limits) == '"A top-up is from $10.00 to $1,500.50."'
        said = plain_gettext(limits).replace("\N{NO-BREAK SPACE}", " ")
    assert said == "Aufladen kannst du von 10,00 $ bis 1.500,50 $."
    assert plain_gettext(limits) == limits
    assert plain_gettext(Sentence("100%")) == "100%"
