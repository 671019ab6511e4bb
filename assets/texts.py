"""Bring the catalogues of clawhaven/web/locale up to what templates and code say, or (--check) say what is missing.

python -m assets.texts [--check] [--new fr]

A text is `_('…')` or `{% trans %}…{% endtrans %}` in a template; `_("…")`, `ngettext(…)`, `N_("…")`, `Sentence("…")` or
the sentence of an error in Python. A translation that nothing asks for any more is kept at the end of its file.
"""

from __future__ import annotations

import ast
import io
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from assets import build
from clawhaven.core.errors import AppError

PACKAGE = Path(__file__).resolve().parent.parent / "clawhaven"
FOLDER = PACKAGE / "web" / "locale"

METHODS = [
    ("web/templates/style.html", "ignore"),
    ("**.py", "python"),
    ("web/templates/**.html", "jinja2.ext:babel_extract"),
]
OPTIONS = {"web/templates/**.html": {"silent": "false", "trimmed": "true", "newstyle_gettext": "true"}}
KEYWORDS: dict[str, tuple[int, ...] | None] = {
    "_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "N_": None,
    "Sentence": None,
}


def template() -> Catalog:
    """Every text there is, without translations."""
    catalogue = Catalog(charset="utf-8", fuzzy=False)
    for _path, _line, message, comments, _context in extract_from_dir(
        str(PACKAGE), METHODS, OPTIONS, KEYWORDS, ("Translators:",), strip_comment_tags=True
    ):
        words = message if isinstance(message, str) else message[0]
        if any(letter.isalpha() for letter in words):
            catalogue.add(message, auto_comments=comments)
    for sentence in (*sentences_of_errors(), *sentences_of_plans()):
        catalogue.add(sentence)
    return catalogue


def sentences_of_errors() -> Iterator[str]:
    """What errors say where it is always the same; a page shows it with the filter `said`."""
    kinds = {AppError.__name__}
    pending = [AppError]
    while pending:
        pending += (more := pending.pop().__subclasses__())
        kinds |= {kind.__name__ for kind in more}
    for path in sorted(PACKAGE.rglob("*.py")):
        if {"api", "cli", "ledger", "proxy", "providers"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


def sentences_of_plans() -> Iterator[str]:
    """What the plans that come with the product say of themselves; an operator's own are shown as they are written."""
    for plan in tomllib.loads((PACKAGE / "billing" / "plans.toml").read_text()).values():
        yield plan["summary"]


def updated(path: Path, found: Catalog) -> Catalog:
    """The catalogue of one language with every text that there is."""
    language = path.stem
    if path.exists():
        with path.open("rb") as file:
            catalogue = read_po(file, locale=language)
    else:
        catalogue = Catalog(locale=language)
    catalogue.update(found, no_fuzzy_matching=True)
    return catalogue


def written(catalogue: Catalog) -> str:
    """The file's text, the same for the same texts: no dates, no places in the code."""
    fixed = datetime(2026, 1, 1, tzinfo=UTC)
    catalogue.creation_date = catalogue.revision_date = fixed
    catalogue.header_comment = "# Texts of the site. Fill in msgstr; `make texts` adds what is new."
    catalogue.project, catalogue.version = "Clawhaven", "1"
    catalogue.fuzzy = False
    buffer = io.BytesIO()
    write_po(buffer, catalogue, width=110, no_location=True, sort_output=True)
    return buffer.getvalue().decode()


def untranslated(path: Path) -> Iterator[str]:
    """The texts of one language that show in English."""
    for message in updated(path, template()):
        parts = message.string if isinstance(message.string, tuple) else (message.string,)
        if message.id and not all(parts):
            yield message.id if isinstance(message.id, str) else message.id[0]


def main() -> int:
    """Write, or list what is missing."""
    paths = sorted(FOLDER.glob("*.po"))
    if "--new" in sys.argv[1:]:
        paths.append(FOLDER / f"{sys.argv[sys.argv.index('--new') + 1]}.po")
    found = template()
    missing = 0
    for path in paths:
        text = written(updated(path, found))
        if "--check" not in sys.argv[1:] and (not path.exists() or path.read_text() != text):
            build.write(path, text)
        left = list(untranslated(path))
        missing += len(left)
        print(f"{path.name}: {len(found)} texts, {len(left)} not translated")
        for words in left:
            print(f"  {words!r}")
    return 1 if missing and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
