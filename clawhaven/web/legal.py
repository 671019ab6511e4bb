"""The operator's own words: terms, privacy notice, imprint, from Markdown files of theirs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markdown_it import MarkdownIt
from markupsafe import Markup

from clawhaven.core.errors import NotFound, Unavailable
from clawhaven.web.deps import Anyone
from clawhaven.web.languages import N_, Texts
from clawhaven.web.render import page

router = APIRouter()

TITLES = Texts({"terms": N_("Terms"), "privacy": N_("Privacy"), "imprint": N_("Imprint")})

MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
"""Raw HTML in a file is shown as text; dangerous addresses are not made links."""


@router.get("/terms")
@router.get("/privacy")
@router.get("/imprint")
def show_legal_text(request: Request, _visitor: Anyone) -> Response:
    """One of them, read anew each time, so that a correction shows at once. Raises NotFound where there is none."""
    name = request.url.path.strip("/")
    path = request.app.state.brand.legal.get(name)
    if path is None:
        raise NotFound("This address leads nowhere. It may have been mistyped, or the page is gone.")
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Unavailable("This text cannot be read at the moment. Please write to us.") from None
    text = Markup(MARKDOWN.render(source))  # noqa: S704 - the operator's file, and its HTML is escaped
    return page(request, "legal.html", title=TITLES[name], text=text, has_heading="<h1>" in text)
