"""Articles for customers: Markdown files in articles/, with the operator's name, address and numbers filled in.

A file begins with lines `title:`, `summary:`, `group:` and `order:`; with `channel: telegram` or `access: metered` it
is shown only where there is such a channel or plan on offer. `{brand}` and the other names of `facts` are filled in;
what is filled in is text, never Markdown. A picture is the name of a file in static/articles; one with the language in
its name, such as `telegram-connect.de.svg`, stands for it there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from clawhaven.context import Context
from clawhaven.web.languages import N_, SOURCE, Texts, price
from clawhaven.web.render import HERE, static

FOLDER = HERE / "articles"
PICTURES = HERE / "static" / "articles"

GROUPS = Texts(
    {
        "start": N_("First steps"),
        "channels": N_("Where you talk to it"),
        "money": N_("Plans and money"),
        "trust": N_("Data and safety"),
        "help": N_("When something is wrong"),
    }
)

MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False}).enable("table")
_NAME = re.compile(r"\{([a-z_]+)\}")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_NOT_WORD = re.compile(r"[^\w]+")
_ENDING = re.compile(r"(?<=\w{4})(?:ungen|ung|lation|ation|ling|en|est|st|et|es|ing|ed|e|n|s|t)$")
_ALIKE = {"ä": "(?:ä|ae)", "ö": "(?:ö|oe)", "ü": "(?:ü|ue)", "ß": "(?:ß|ss)"}
_ALIKE |= {"ae": _ALIKE["ä"], "oe": _ALIKE["ö"], "ue": _ALIKE["ü"], "ss": _ALIKE["ß"]}
_LETTERS = re.compile("|".join(_ALIKE))
MOST_WORDS = 8
SPOKEN = ("inline", "fence", "code_block")
"""Tokens that carry words."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it is written."""

    slug: str
    language: str
    title: str
    summary: str
    group: str
    order: int
    channel: str
    access: str
    text: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A second heading of an article, for its table of contents."""

    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Article:
    """A file as it is shown. `plain` is its text alone, for the search."""

    slug: str
    language: str
    title: str
    summary: str
    group: str
    html: Markup
    headings: tuple[Heading, ...]
    plain: str


@dataclass(frozen=True, slots=True)
class Found:
    """An article that a search found, and the words around the first find."""

    article: Article
    excerpt: Markup


def slugs() -> list[str]:
    """The names of all articles."""
    return [source.slug for source in _sources()]


def offered(ctx: Context, language: str = SOURCE) -> list[Article]:
    """The articles that fit this installation, in their order; in English where there is no translation."""
    accesses = {plan.access for plan in ctx.plans if plan.is_offered}
    given = tuple(sorted(facts(ctx).items()))
    return [
        _article(source.slug, language, given)
        for source in _sources()
        if (not source.channel or source.channel in ctx.channels) and (not source.access or source.access in accesses)
    ]


def find(ctx: Context, slug: str, language: str = SOURCE) -> Article | None:
    """One of them, or None."""
    return next((article for article in offered(ctx, language) if article.slug == slug), None)


def search(articles: Sequence[Article], asked: str) -> list[Found]:
    """Those that hold every word that was asked for, best first: a word in the title counts most, then headings.

    A word is found in its other forms too: "invoices" in "invoice", "Kündigung" and "kuendigen" in "kündigst".
    """
    words = [_forms(word) for word in _NOT_WORD.split(asked.lower()) if word][:MOST_WORDS]
    if not words:
        return []
    ranked = []
    for place, article in enumerate(articles):
        scores = [_score(article, word) for word in words]
        if all(scores):
            ranked.append((-sum(scores), place, article))
    return [Found(article, _excerpt(article.plain, words)) for _score_, _place, article in sorted(ranked)]


def facts(ctx: Context) -> dict[str, str]:
    """What texts of an installation have to say of it."""
    settings = ctx.settings
    warned = settings.micros("wallet_minimum") + settings.micros("low_balance_margin")
    return {
        "brand": settings.brand_name,
        "support": settings.support_address,
        "site": settings.base_url,
        "topup_minimum": price(settings.micros("topup_minimum")),
        "topup_maximum": price(settings.micros("topup_maximum")),
        "wallet_minimum": price(settings.micros("wallet_minimum")),
        "warned_below": price(warned),
        "grace_days": str(settings.grace_days),
        "deletion_days": str(settings.deletion_days),
        "session_days": str(settings.session_days),
        "backup_hour": f"{settings.backup_hour:02}:00",
        "backups_kept": str(settings.backups_kept),
    }


def fill_in(text: str, given: Mapping[str, str]) -> str:
    """Put values into a text, escaped so that they are shown as they are. Raises KeyError for an unknown name."""
    return _NAME.sub(lambda found: _PUNCTUATION.sub(r"\\\1", given[found.group(1)]), text)


def write_html(text: str, language: str = SOURCE) -> tuple[Markup, tuple[Heading, ...], str]:
    """A Markdown text as HTML, its second headings, and its words alone. HTML in it is shown as text."""
    tokens = MARKDOWN.parse(text)
    headings, taken = [], set[str]()
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            said = words_of(tokens[place + 1])
            token.attrSet("id", anchor := _anchor(said, taken))
            if token.tag == "h2":
                headings.append(Heading(anchor, said))
        elif token.type == "inline":
            for child in token.children or ():
                _dress(child, language)
    plain = " ".join(_spoken(tokens, place) for place, token in enumerate(tokens) if token.type in SPOKEN)
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    return Markup(frame_tables(html)), tuple(headings), plain  # noqa: S704 - the renderer has escaped what is not ours


def _spoken(tokens: Sequence[Token], place: int) -> str:
    """The words of a block; a heading's end where the next block begins, and a dot between the cells of a table."""
    said = words_of(tokens[place])
    if place > 0 and tokens[place - 1].type in ("th_open", "td_open"):
        return f"{said} ·"
    is_heading = place > 0 and tokens[place - 1].type == "heading_open"
    return f"{said}:" if is_heading and said[-1:].isalnum() else said


def frame_tables(html: str) -> str:
    """Rendered Markdown in which a wide table moves in a frame of its own; a keyboard can move it too."""
    return html.replace("<table>", '<div class="table-box" tabindex="0"><table>').replace("</table>", "</table></div>")


def words_of(token: Token) -> str:
    """The text of a token, without marks."""
    if token.type != "inline":
        return token.content
    parts = (" " if child.type in ("softbreak", "hardbreak") else child.content for child in token.children or ())
    return "".join(parts)


@cache
def _sources(language: str = SOURCE) -> tuple[Source, ...]:
    found = [_read(path, language) for path in sorted((FOLDER / language).glob("*.md"))]
    return tuple(sorted(found, key=lambda one: (list(GROUPS).index(one.group), one.order)))


def _read(path: Path, language: str) -> Source:
    head, _, text = path.read_text(encoding="utf-8").partition("\n\n")
    said = dict(line.split(": ", 1) for line in head.splitlines())
    return Source(
        slug=path.stem,
        language=language,
        title=said.pop("title"),
        summary=said.pop("summary"),
        group=said.pop("group"),
        order=int(said.pop("order")),
        channel=said.pop("channel", ""),
        access=said.pop("access", ""),
        text=text,
    )


@lru_cache(maxsize=256)
def _article(slug: str, language: str, given: tuple[tuple[str, str], ...]) -> Article:
    sources = {source.slug: source for source in (*_sources(), *_sources(language))}
    source, values = sources[slug], dict(given)
    html, headings, plain = write_html(fill_in(source.text, values), source.language)
    title, summary = (_NAME.sub(lambda found: values[found.group(1)], text) for text in (source.title, source.summary))
    return Article(slug, source.language, title, summary, source.group, html, headings, plain)


def _anchor(text: str, taken: set[str]) -> str:
    base = _NOT_WORD.sub("-", text.lower()).strip("-") or "part"
    anchor, number = base, 1
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor


def _dress(token: Token, language: str) -> None:
    """A picture gets its file and its size, so that nothing moves when it arrives; a link away leaves no trace."""
    if token.type == "image":
        name = picture_in(str(token.attrGet("src")), language)
        width, height = picture_size(name)
        for key, value in (("src", static(f"articles/{name}")), ("width", width), ("height", height)):
            token.attrSet(key, value)
    elif token.type == "link_open" and str(token.attrGet("href")).startswith("http"):
        token.attrSet("rel", "noopener noreferrer")
        token.attrSet("target", "_blank")


@cache
def picture_in(name: str, language: str) -> str:
    """The picture with its words in this language, where there is one: `x.de.svg` for `x.svg`."""
    translated = f"{name.removesuffix('.svg')}.{language}.svg"
    return translated if (PICTURES / translated).is_file() else name


@cache
def picture_size(name: str) -> tuple[str, str]:
    """Width and height of an SVG of ours. Raises OSError for one there is not."""
    root = ElementTree.parse(PICTURES / name).getroot()  # noqa: S314 - our own files
    return root.attrib["width"], root.attrib["height"]


def _forms(word: str) -> re.Pattern[str]:
    """What a word that was asked for is looked for as: without its ending, an umlaut also as two letters."""
    stem = _ENDING.sub("", word)
    return re.compile(_LETTERS.sub(lambda found: _ALIKE[found.group()], stem), re.IGNORECASE)


def _score(article: Article, word: re.Pattern[str]) -> int:
    return (
        8 * bool(word.search(article.title))
        + 4 * any(word.search(heading.text) for heading in article.headings)
        + 2 * bool(word.search(article.summary))
        + bool(word.search(article.plain))
    )


def _excerpt(plain: str, words: Sequence[re.Pattern[str]]) -> Markup:
    first = min((found.start() for word in words if (found := word.search(plain))), default=0)
    begin = max(0, plain.rfind(" ", 0, max(0, first - 60)) + 1)
    cut = unescape(plain[begin : begin + 200]).rsplit(" ", 1)[0] if len(plain) > begin + 200 else plain[begin:]
    marked = re.compile(rf"(?:{'|'.join(word.pattern for word in words)})\w*", re.IGNORECASE)
    parts, last = [], 0
    for one in marked.finditer(cut):
        parts.append(Markup("{}<mark>{}</mark>").format(cut[last : one.start()], one.group()))
        last = one.end()
    parts.append(Markup("{}").format(cut[last:]))
    before, after = "… " if begin else "", " …" if len(plain) > begin + 200 else ""
    return Markup("{}{}{}").format(before, Markup("").join(parts), after)
