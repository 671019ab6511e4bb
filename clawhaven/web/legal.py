"""Terms, privacy notice, imprint: the operator's own Markdown files; for the first two a text of ours until then."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markdown_it import MarkdownIt
from markupsafe import Markup

from clawhaven.core.errors import NotFound, Unavailable
from clawhaven.web import articles, languages
from clawhaven.web.deps import Anyone, Ctx
from clawhaven.web.languages import N_, Texts
from clawhaven.web.render import HERE, page

router = APIRouter()

TITLES = Texts({"terms": N_("Terms"), "privacy": N_("Privacy"), "imprint": N_("Imprint")})
SHIPPED = HERE / "legal_texts"
"""General texts that are true of this software, by language. A lawyer should read them before they are relied on."""

MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
"""Raw HTML in a file is shown as text; dangerous addresses are not made links."""


@router.get("/terms")
@router.get("/privacy")
@router.get("/imprint")
def show_legal_text(request: Request, ctx: Ctx, _visitor: Anyone) -> Response:
    """One of them, read anew each time, so that a correction shows at once. Raises NotFound where there is none."""
    name = request.url.path.strip("/")
    path, language = request.app.state.brand.legal.get(name), languages.current()
    shipped = SHIPPED / language / f"{name}.md"
    if not shipped.exists():
        language, shipped = languages.SOURCE, SHIPPED / languages.SOURCE / f"{name}.md"
    if path is None and not shipped.exists():
        raise NotFound("This address leads nowhere. It may have been mistyped, or the page is gone.")
    try:
        source = (path or shipped).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Unavailable("This text cannot be read at the moment. Please write to us.") from None
    if path is None:
        source = articles.fill_in(source, articles.facts(ctx))
    text = Markup(articles.frame_tables(MARKDOWN.render(source)))  # noqa: S704 - its HTML is escaped
    return page(
        request,
        "legal.html",
        title=TITLES[name],
        text=text,
        has_heading="<h1>" in text,
        text_language="" if path else language,
    )
