"""How a text in Markdown looks: written by a customer or their assistant, and trusted in nothing."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markupsafe import Markup

MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable(["image"])
"""Raw HTML is shown as text, dangerous addresses are no links, and no picture is fetched from anywhere."""


def draw(text: str) -> Markup:
    """The text as HTML of ours. Headings begin below those of the page; links lead out of the site."""
    tokens = MARKDOWN.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
        for inner in token.children or ():
            if inner.type == "link_open":
                inner.attrSet("rel", "noopener noreferrer nofollow")
                inner.attrSet("target", "_blank")
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    return Markup(html)  # noqa: S704 - made of tokens, with all text escaped
