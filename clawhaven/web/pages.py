"""Pages for everybody: the landing page and what browsers and crawlers ask for by name."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

from clawhaven.billing.plans import Catalogue, Plan, savings
from clawhaven.web.deps import Anyone, Ctx
from clawhaven.web.render import HERE, page

router = APIRouter()

ROBOTS = """User-agent: *
Disallow: /dashboard
Disallow: /instances
Disallow: /deploying
Disallow: /ready
Disallow: /checkout
Disallow: /sandbox
Disallow: /sign-in
"""


@router.get("/")
def show_landing(request: Request, ctx: Ctx, _visitor: Anyone) -> Response:
    """What this is, in five seconds; what it costs; where to begin."""
    return page(request, "landing.html", offers=offers(ctx.plans))


@router.get("/robots.txt")
def show_robots() -> Response:
    """What crawlers should leave alone."""
    return PlainTextResponse(ROBOTS, headers={"Cache-Control": "public, max-age=86400"})


@router.get("/favicon.ico")
def show_icon() -> Response:
    """The icon, for browsers that ask without being told."""
    return FileResponse(HERE / "static" / "favicon.svg", headers={"Cache-Control": "public, max-age=86400"})


def offers(plans: Catalogue) -> list[tuple[Plan, int]]:
    """The plans a new customer can choose, each with what it saves over paying monthly, in per cent."""
    return [(plan, saving(plan, plans)) for plan in plans if plan.is_offered]


def saving(plan: Plan, plans: Catalogue) -> int:
    """Whole per cent saved over the monthly plan of the same kind; 0 when there is none."""
    found = savings(plan, plans)
    return found.percent if found else 0
