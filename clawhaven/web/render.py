"""Turning templates into answers. Everything a template prints is escaped."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import segno
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context as TemplateContext
from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from clawhaven.web import jargon, languages, places, words
from clawhaven.web.appearance import theme_of
from clawhaven.web.deps import FORM_COOKIE, FORM_SECONDS, context, is_secure, own_cookie
from clawhaven.web.guards import FOR_ALL_SITES

HERE = Path(str(files("clawhaven.web")))
PACKED = {".css", ".js", ".svg", ".txt"}
CARD = "card.png"
"""The picture beside shared links, where the operator has none; `python -m assets.card` draws it."""


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The rendered page, with the cookie its anonymous forms need."""
    ctx = context(request)
    visitor = getattr(request.state, "visitor", None)
    html = TEMPLATES.get_template(template).render(
        brand=request.app.state.brand,
        support=ctx.settings.support_address,
        site=ctx.settings.base_url,
        theme=theme_of(request),
        language=languages.current(),
        visitor=visitor,
        owner=visitor.owner if visitor else None,
        path=request.url.path,
        done=words.DONE.get(request.query_params.get("done", "")),
        **values,
    )
    response = HTMLResponse(html, status)
    if visitor is not None and visitor.fresh_form_cookie:
        response.set_cookie(
            own_cookie(ctx, FORM_COOKIE),
            visitor.fresh_form_cookie,
            max_age=FORM_SECONDS,
            httponly=True,
            samesite="lax",
            secure=is_secure(ctx),
        )
    return response


@cache
def static(name: str) -> str:
    """The address of a file in static/, which changes with its content."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


@cache
def _packed(path: str) -> bytes:
    return gzip.compress(Path(path).read_bytes(), 9, mtime=0)


class LastingFiles(StaticFiles):
    """Static files; an address with a version is kept by browsers for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, with its life in caches; text is compressed, once for all who ask."""
        response = await super().get_response(path, scope)
        if isinstance(response, FileResponse) and response.status_code == 200:
            response.headers["Vary"] = "Accept-Encoding"
            if Path(path).suffix in PACKED and "gzip" in Headers(scope=scope).get("accept-encoding", ""):
                kept = {name: response.headers[name] for name in ("content-type", "vary")}
                response = Response(_packed(str(response.path)), headers={**kept, "Content-Encoding": "gzip"})
        if path == CARD:
            response.headers.update(FOR_ALL_SITES)
        is_versioned = b"v=" in scope["query_string"]
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if is_versioned else "public, max-age=300"
        )
        return response


def qr(text: str) -> str:
    """A QR code as the source of an image."""
    return segno.make(text, error="m", micro=False).svg_data_uri(scale=4, border=2, light="#fff", dark="#17162a")


@pass_context
def csrf_field(given: TemplateContext) -> Markup:
    """The hidden field that every form of ours carries."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(given["visitor"].csrf)


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.install_gettext_callables(languages.plain_gettext, languages.plain_ngettext, newstyle=True)  # type: ignore[attr-defined]
    made.filters.update(
        usd=languages.usd,
        price=languages.price,
        moment=languages.moment,
        day=languages.day,
        month_of=languages.month,
        count_of=languages.count,
        size_of=languages.size,
        said=languages.plain_gettext,
        numbered=lambda name: (name, "num"),
        qr=qr,
    )
    made.globals.update(static=static, words=words, jargon=jargon, places=places, languages=languages)
    made.globals.update(csrf_field=csrf_field)
    _add_components(made)
    return made


def _add_components(made: Environment) -> None:
    """Every macro of templates/components under one name, so that pages write `ui.button(…)` and import nothing."""
    found = SimpleNamespace()
    made.globals["ui"] = found
    for path in sorted((HERE / "templates" / "components").glob("*.html")):
        module = made.get_template(f"components/{path.name}").module
        for name, macro in vars(module).items():
            if callable(macro) and not name.startswith("_"):
                assert not hasattr(found, name), f"two components are called {name}"
                setattr(found, name, macro)


TEMPLATES = _environment()
