"""Every customer's letter can be written in every language there is, with the same values in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from clawhaven import notices
from clawhaven.core.languages import LANGUAGES, SOURCE, catalogue, speaking
from clawhaven.notices import kinds
from tests.notices.test_kinds import AT, LATER, LETTERS, URL

PLACE = re.compile(r"%\((\w+)\)s")
FOLDER = Path(str(notices.__file__)).parent
OTHERS = [one for one in LANGUAGES if one != SOURCE]


def texts() -> list[str]:
    """What the letters say: every text that is given to `_`."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                (text, *_rest) = node.args
                assert isinstance(text, ast.Constant), f"{path.name}:{node.lineno}: a text is written out"
                found.append(str(text.value))
    return found


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_has_its_translation_with_the_same_values(language: str) -> None:
    said = catalogue(language).gettext
    assert len(texts()) > 100
    for text in texts():
        assert said(text) != text, text
        assert sorted(PLACE.findall(said(text))) == sorted(PLACE.findall(text)), text


@pytest.mark.parametrize("kind", sorted(LETTERS))
def test_a_letter_is_said_in_the_language_that_is_spoken(kind: str) -> None:
    letter = LETTERS[kind]
    english = letter.text
    with speaking("de"):
        assert letter.text != english
        assert len(letter.subject) < 100
        assert (URL in letter.text, "%(" in letter.text) == (True, False)
    assert letter.text == english


def test_times_are_written_as_the_language_writes_them() -> None:
    letter = kinds.cancel_scheduled("Brand", AT, LATER, URL)
    assert letter.subject == "Your plan at Brand ends on 5 December 2026"
    with speaking("de"):
        assert letter.subject == "Dein Tarif bei Brand endet am 5. Dezember 2026"
        assert "am 12. Dezember 2026, 14:05 UTC" in letter.text
