"""Pages for everybody: the landing page and what browsers and crawlers ask for by name."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from clawhaven.core.errors import AtCapacity
from clawhaven.core.settings import LOGO_TYPES
from clawhaven.web import articles, trial
from clawhaven.web.brand import Brand
from clawhaven.web.deps import Anyone, Ctx
from clawhaven.web.pricing import offers
from clawhaven.web.render import HERE, page, static
from clawhaven.workflows import checkout

router = APIRouter()

PUBLIC = ("/", "/pricing", "/docs", "/status", "/terms", "/privacy")
"""What search engines may list, beside the articles."""

PRIVATE = (
    *("/dashboard", "/instances", "/deploying", "/ready", "/checkout", "/topup", "/billing", "/usage", "/ledger"),
    *("/sandbox", "/sign-in", "/continue", "/admin", "/api", "/proxy"),
)
DAY = {"Cache-Control": "public, max-age=86400"}


@router.get("/")
def show_landing(request: Request, ctx: Ctx, visitor: Anyone) -> Response:
    """What this is, in five seconds; what it costs; where to begin; a few words with the model."""
    return page(
        request,
        "landing.html",
        offers=offers(ctx.plans),
        settings=ctx.settings,
        talk=trial.begin(request, ctx, visitor),
        is_full=visitor.owner is None and _is_full(ctx),
    )


@router.get("/robots.txt")
def show_robots(ctx: Ctx) -> Response:
    """What crawlers should leave alone, and where the list of the others is."""
    lines = ["User-agent: *", *(f"Disallow: {path}" for path in PRIVATE), "", f"Sitemap: {_site(ctx)}/sitemap.xml", ""]
    return PlainTextResponse("\n".join(lines), headers=DAY)


@router.get("/sitemap.xml")
def show_sitemap(request: Request, ctx: Ctx) -> Response:
    """Every page for everybody, for search engines. https://www.sitemaps.org/protocol.html"""
    legal = [f"/{name}" for name in request.app.state.brand.legal]
    paths = dict.fromkeys([*PUBLIC, *legal, *(f"/docs/{slug}" for slug in articles.slugs())])
    urls = "".join(f"<url><loc>{escape(_site(ctx) + path)}</loc></url>" for path in paths)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>\n'
    )
    return Response(text, media_type="application/xml", headers=DAY)


@router.get("/favicon.ico")
def show_icon(request: Request) -> Response:
    """The icon, for browsers that ask without being told: the operator's logo, else ours."""
    logo: Path | None = request.app.state.brand.logo
    kind = LOGO_TYPES[logo.suffix.lower()] if logo else "image/svg+xml"
    return FileResponse(logo or HERE / "static" / "favicon.svg", media_type=kind, headers=DAY)


@router.get("/site.webmanifest")
def show_manifest(request: Request) -> Response:
    """What a telephone puts on its screen: the operator's name and icon. https://www.w3.org/TR/appmanifest/"""
    brand: Brand = request.app.state.brand
    if brand.logo is not None:
        icons = [{"src": brand.logo_url, "sizes": "any", "type": LOGO_TYPES[brand.logo.suffix.lower()]}]
    else:
        icons = [{"src": static("icon.png"), "sizes": "512x512", "type": "image/png", "purpose": "any maskable"}]
    about = {
        "name": brand.name,
        "short_name": brand.name,
        "start_url": "/dashboard",
        "display": "minimal-ui",
        "icons": icons,
    }
    colours = {"background_color": "#fafafd", "theme_color": "#fafafd"}
    return JSONResponse({**about, **colours}, media_type="application/manifest+json", headers=DAY)


def _is_full(ctx: Ctx) -> bool:
    """True when a stranger would be led to the waitlist; said before they have filled in anything."""
    try:
        with ctx.db.read() as db:
            checkout.refuse_when_full(db, ctx, None)
    except AtCapacity:
        return True
    return False


def _site(ctx: Ctx) -> str:
    return ctx.settings.base_url
