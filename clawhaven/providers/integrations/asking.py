"""What the integrations' tools share: checked arguments, text of bounded length, and HTML made plain."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from typing import Any, Final

from clawhaven.ports.errors import ProviderError

Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""One GET of a vendor's API: path and query -> its JSON. Raises ProviderError."""

_BLOCKS: Final = frozenset(
    {"p", "div", "br", "tr", "li", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "hr"}
)
_UNSEEN: Final = frozenset(["script", "style", "head", "title", "template", "noscript"])
_INVISIBLE: Final = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")


def check(schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments a schema of ours allows: strings and integers, bounded. ProviderError `bad_arguments` otherwise."""
    known: Mapping[str, Mapping[str, Any]] = schema["properties"]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise refuse(f"There is no argument {unknown[0][:40]!r}; there is {', '.join(known)}.")
    checked: dict[str, Any] = {}
    for name, rule in known.items():
        value = given.get(name)
        if value is None:
            if name in schema.get("required", ()):
                raise refuse(f"{name} is missing.")
            continue
        if rule["type"] == "integer":
            if isinstance(value, bool) or not isinstance(value, int):
                raise refuse(f"{name} is a whole number.")
            checked[name] = min(max(value, rule["minimum"]), rule["maximum"])
        else:
            if not isinstance(value, str) or len(value) > rule["maxLength"] or not value.isprintable():
                raise refuse(f"{name} is a line of at most {rule['maxLength']} characters.")
            if value.strip():
                checked[name] = value.strip()
            elif name in schema.get("required", ()):
                raise refuse(f"{name} is empty.")
    return checked


def refuse(message: str) -> ProviderError:
    """What a model may put right."""
    return ProviderError(message, permanent=True, code="bad_arguments")


def line_of(value: Any, most: int = 300) -> str:
    """A value as one line: nothing in it can look like a line of ours."""
    return shorten(" ".join(_INVISIBLE.sub("", str(value or "")).split()), most)


def shorten(text: str, most: int) -> str:
    """At most so many characters; what is left out is marked."""
    return text if len(text) <= most else text[: most - 1] + "…"


def plain(html: str) -> str:
    """The text a reader of this HTML sees, block by block."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return tidy("".join(reader.found))


def tidy(text: str) -> str:
    """Text without invisible characters, trailing spaces and rows of empty lines."""
    lines = [" ".join(line.split()) for line in _INVISIBLE.sub("", text).splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag in _BLOCKS:
            self.found.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _BLOCKS:
            self.found.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.found.append(data)
