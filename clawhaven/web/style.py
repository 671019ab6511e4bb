"""`/dev/style`: every component in every state, for whoever builds pages. In production there is no such page."""

from __future__ import annotations

from types import SimpleNamespace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clawhaven.core.errors import NotFound
from clawhaven.web import charts, diffs, languages
from clawhaven.web.deps import Anyone, Ctx
from clawhaven.web.pricing import offers
from clawhaven.web.render import page

router = APIRouter()

DAYS = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12")
PERSON = (120_000, 340_000, 90_000, 0, 610_000, 450_000, 220_000, 380_000, 150_000, 700_000, 520_000, 310_000)
AUTOMATIC = (20_000, 40_000, 30_000, 10_000, 80_000, 20_000, 20_000, 90_000, 10_000, 60_000, 20_000, 30_000)


@router.get("/dev/style")
def show_style(request: Request, ctx: Ctx, _visitor: Anyone) -> Response:
    """Raises NotFound in production."""
    if ctx.settings.is_production:
        raise NotFound("This address leads nowhere. It may have been mistyped, or the page is gone.")
    both = (charts.Series("You", PERSON), charts.Series("By itself", AUTOMATIC))
    steps = [
        ("done", "Payment confirmed"),
        ("running", "Assistant started"),
        ("waiting", "It answers"),
        ("failed", "Live"),
    ]
    return page(
        request,
        "style.html",
        bars=charts.draw_bars(DAYS, both, languages.usd),
        lines=charts.draw_lines(DAYS, both[:1], languages.usd),
        now=ctx.clock.now(),
        offers=offers(ctx.plans)[:2],
        settings=ctx.settings,
        changes=diffs.compare("Be helpful.\nBe short.", "Be helpful.\nBe short and warm."),
        skill=_skill(),
        view=SimpleNamespace(steps=[SimpleNamespace(state=s, label=label, word=s) for s, label in steps]),
    )


def _skill() -> SimpleNamespace:
    """A skill that waits for a key and for another one, and cannot be had."""
    field = SimpleNamespace(name="example_key", label="API key", help="Make one there.", help_url="https://example.com")
    web = SimpleNamespace(label="Web pages")
    skill = SimpleNamespace(label="Web search", summary="Looks things up on the web.", note="Its vendor bills you.")
    vendor = SimpleNamespace(label="Example Search", field=field)
    return SimpleNamespace(state="needs_key", skill=skill, missing=[web], vendor=vendor, why="Not on this runtime.")
