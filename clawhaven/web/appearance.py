"""How the site looks and speaks to this browser: theme and language, kept in cookies; the operator's own colours."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from clawhaven.accounts import signup
from clawhaven.core.errors import Invalid, NotFound
from clawhaven.core.settings import LOGO_TYPES
from clawhaven.web import deps, languages
from clawhaven.web.brand import Brand
from clawhaven.web.deps import AnyForm, Anyone, Ctx
from clawhaven.web.guards import FOR_ALL_SITES

router = APIRouter()

THEME_COOKIE = "clawhaven_theme"
THEMES = ("light", "dark", "")
"""The empty one follows the system."""

YEAR_SECONDS = 365 * 86_400
FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}


@router.post("/appearance")
def set_appearance(ctx: Ctx, visitor: Anyone, form: AnyForm) -> Response:
    """Keep the chosen theme or language and go back. It changes nothing but cookies, and the language of letters, so it
    needs no token."""
    back = form.get("next")
    response = RedirectResponse(back if deps.is_local(back) else "/", 303)
    if "theme" in form.values:
        _keep(ctx, response, THEME_COOKIE, _one_of(form.get("theme"), THEMES, "theme"))
    if "language" in form.values:
        language = _one_of(form.get("language"), languages.LANGUAGES, "language")
        _keep(ctx, response, languages.COOKIE, language)
        if visitor.owner is not None and visitor.view is None:
            with ctx.db.tx() as db:
                signup.remember_language(db, visitor.owner.user.id, language)
    return response


@router.get("/brand.css")
def show_colours(request: Request) -> Response:
    """The operator's colours as a style sheet."""
    return Response(_brand(request).sheet, media_type="text/css", headers=FOR_GOOD)


@router.get("/brand/logo")
def show_logo(request: Request) -> Response:
    """The operator's logo."""
    logo = _brand(request).logo
    if logo is None:
        raise NotFound("This address leads nowhere.")
    return FileResponse(logo, media_type=LOGO_TYPES[logo.suffix.lower()], headers=FOR_GOOD)


@router.get("/brand/card")
def show_card(request: Request) -> Response:
    """The operator's picture beside shared links; other sites may show it."""
    card = _brand(request).card
    if card is None:
        raise NotFound("This address leads nowhere.")
    return FileResponse(card, media_type=LOGO_TYPES[card.suffix.lower()], headers={**FOR_GOOD, **FOR_ALL_SITES})


def theme_of(request: Request) -> str:
    """`light`, `dark`, or empty for what the system says."""
    chosen = request.cookies.get(THEME_COOKIE, "")
    return chosen if chosen in THEMES else ""


def _one_of(value: str, known: tuple[str, ...], name: str) -> str:
    if value not in known:
        raise Invalid(f"The {name} is one of {', '.join(filter(None, known))}.", field=name, reason="unknown value")
    return value


def _keep(ctx: Ctx, response: Response, name: str, value: str) -> None:
    if value:
        secure = deps.is_secure(ctx)
        response.set_cookie(name, value, max_age=YEAR_SECONDS, httponly=False, samesite="lax", secure=secure)
    else:
        response.delete_cookie(name)


def _brand(request: Request) -> Brand:
    brand: Brand = request.app.state.brand
    return brand
