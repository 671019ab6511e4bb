"""Every word a template shows goes through the catalogue, and the catalogues hold every text there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from assets import texts
from clawhaven.web.render import HERE, TEMPLATES

TEMPLATES_FOLDER = HERE / "templates"

SPARED = {"style.html"}
NAMES = {
    "Telegram",
    "Anthropic",
    "OpenAI",
    "md",
    "SOUL",
    "USER",
    "AGENTS",
    "IDENTITY",
    "API",
    "CSV",
    "UTC",
    "OpenClaw",
    "QR",
}
"""Names that are the same in every language."""

SPOKEN = ("aria-label", "title", "placeholder", "alt")
CLASSES = re.compile(r"{% block (?:frame|kind|first) %}[^{]*{% endblock %}")
ATTRIBUTES = re.compile(r'[\w-]+="[^"]*"| required| checked| selected| disabled')
INSIDE = re.compile(r"<(?:script|style|pre|code)\b.*?</(?:script|style|pre|code)>|<!--.*?-->", re.S)
TAG = re.compile(r"<[^<>]*>?")
ATTRIBUTE = re.compile(rf'\b(?:{"|".join(SPOKEN)})="([^"]*)"')
WORD = re.compile(r"[^\W\d_]{2,}")


def shown() -> list[Path]:
    """Templates that people see."""
    return [path for path in sorted(TEMPLATES_FOLDER.rglob("*.html")) if path.name not in SPARED]


@pytest.mark.parametrize("path", shown(), ids=lambda path: str(path.relative_to(TEMPLATES_FOLDER)))
def test_no_text_stands_outside_the_catalogue(path: Path) -> None:
    text_of = _plain(CLASSES.sub("", path.read_text()))
    found = [
        word
        for text in (ATTRIBUTES.sub(" ", TAG.sub(" ", INSIDE.sub(" ", text_of))), *ATTRIBUTE.findall(text_of))
        for word in WORD.findall(text)
    ]
    assert not [word for word in found if word not in NAMES], "put it into _('…') or {% trans %}"


def test_the_words_of_a_tag_in_a_template_are_found() -> None:
    for bare in (
        "<p>Hello</p>",
        '<a aria-label="Hello">x</a>',
        "<p>{% if x %}Hello{% endif %}</p>",
        '<img alt="Hello">',
    ):
        assert "Hello" in re.sub(r"<(?!img|a )[^>]*>", "", _plain(bare))
    for fine in (
        "<p>{{ _('Hello') }}</p>",
        "{% trans %}Hello{% endtrans %}",
        "{# Hello #}",
        '<p class="hello">{{ x }}</p>',
    ):
        assert not WORD.findall(TAG.sub(" ", _plain(fine)))


@pytest.mark.parametrize("path", sorted(texts.FOLDER.glob("*.po")), ids=lambda path: path.stem)
def test_every_text_is_in_the_catalogue(path: Path) -> None:
    with path.open("rb") as file:
        known = {message.id for message in read_po(file, locale=path.stem)}
    missing = [message.id for message in texts.template() if message.id and message.id not in known]
    assert not missing, "run: make texts"


def _plain(source: str) -> str:
    """The template without its code: what is sent as it stands."""
    kept, is_translated = [], False
    for _line, kind, value in TEMPLATES.lex(source):
        if kind == "name" and value in ("trans", "endtrans"):
            is_translated = value == "trans"
        elif kind == "data" and not is_translated:
            kept.append(value)
        elif kind == "block_begin":
            kept.append(" ")
    return "".join(kept)
