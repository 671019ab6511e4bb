"""Turning templates into answers. Everything a template prints is escaped."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import segno
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from clawhaven.core.money import format_usd
from clawhaven.web import words
from clawhaven.web.deps import FORM_COOKIE, FORM_SECONDS, context, is_secure, own_cookie

HERE = Path(str(files("clawhaven.web")))


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The rendered page, with the cookie its anonymous forms need."""
    ctx = context(request)
    visitor = getattr(request.state, "visitor", None)
    html = TEMPLATES.get_template(template).render(
        brand=ctx.settings.brand_name,
        support=ctx.settings.support_address,
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


class LastingFiles(StaticFiles):
    """Static files; an address with a version is kept by browsers for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, with its life in caches."""
        response = await super().get_response(path, scope)
        is_versioned = b"v=" in scope["query_string"]
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if is_versioned else "public, max-age=300"
        )
        return response


def qr(text: str) -> str:
    """A QR code as the source of an image."""
    return segno.make(text, error="m", micro=False).svg_data_uri(scale=4, border=2, light="#fff", dark="#17162a")


def _price(micros: int) -> str:
    return format_usd(micros).removesuffix(".00")


def _moment(at: datetime) -> str:
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def _count(number: int) -> str:
    return f"{number:,}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(usd=format_usd, price=_price, moment=_moment, count_of=_count, qr=qr)
    made.globals.update(static=static, words=words)
    return made


TEMPLATES = _environment()
