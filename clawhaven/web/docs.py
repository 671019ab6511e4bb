"""Help for customers at /docs: all articles, one article, and a search that works without scripts."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from clawhaven.core.errors import NotFound
from clawhaven.web import articles, languages
from clawhaven.web.deps import Anyone, Ctx
from clawhaven.web.render import page

router = APIRouter()

MOST_ASKED = 200

Slug = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,60}$")]


@router.get("/docs")
def show_articles(request: Request, ctx: Ctx, _visitor: Anyone, q: str = "") -> Response:
    """All articles by group; with `q` those that hold its words."""
    known = articles.offered(ctx, languages.current())
    groups = [(articles.GROUPS[key], list(found)) for key, found in groupby(known, lambda one: one.group)]
    asked = q.strip()[:MOST_ASKED]
    return page(request, "docs.html", groups=groups, asked=asked, found=articles.search(known, asked))


@router.get("/docs/{slug}")
def show_article(request: Request, ctx: Ctx, _visitor: Anyone, slug: Slug) -> Response:
    """One article, with the ways to its neighbours. Raises NotFound."""
    known = articles.offered(ctx, languages.current())
    place = next((number for number, one in enumerate(known) if one.slug == slug), None)
    if place is None:
        raise NotFound("There is no such article. It may have been renamed; the search finds it.")
    return page(
        request,
        "doc.html",
        article=known[place],
        group=articles.GROUPS[known[place].group],
        before=known[place - 1] if place else None,
        after=known[place + 1] if place + 1 < len(known) else None,
    )
