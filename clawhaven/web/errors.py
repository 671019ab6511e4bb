"""The one renderer of failures for people: what happened, and what to do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from clawhaven.core.errors import AppError, NotFound, RateLimited, Unauthorized, Unavailable
from clawhaven.core.logs import get_logger
from clawhaven.ports.errors import ProviderError
from clawhaven.web import languages
from clawhaven.web.guards import headers_for
from clawhaven.web.languages import N_, _
from clawhaven.web.render import page

log = get_logger("clawhaven.web")

STREAM = "text/event-stream"
TITLES = {
    400: N_("That did not work"),
    401: N_("Please sign in"),
    402: N_("A payment is missing"),
    403: N_("That was not sent from here"),
    404: N_("There is nothing here"),
    405: N_("There is nothing here"),
    409: N_("Not possible right now"),
    413: N_("That is too long"),
    429: N_("One moment, please"),
    500: N_("Something broke on our side"),
    503: N_("Not available at the moment"),
}


@dataclass(frozen=True, slots=True)
class Way:
    """A way on from an error page."""

    label: str
    url: str


def install(app: FastAPI) -> None:
    """Give the app its error pages."""
    app.add_exception_handler(AppError, _show_app_error)
    app.add_exception_handler(ProviderError, _show_provider_error)
    app.add_exception_handler(HTTPException, _show_http_error)
    app.add_exception_handler(RequestValidationError, _show_bad_address)
    app.add_exception_handler(Exception, _show_crash)


def _show_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    if isinstance(error, Unauthorized) and request.method == "GET" and not _wants_stream(request):
        return RedirectResponse(f"/sign-in?next={quote(request.url.path)}", 303)
    return _answer(request, error)


def _show_provider_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProviderError)
    log.warning("a provider failed while a page was made", code=error.code, error=error.message)
    return _answer(request, Unavailable("Something this page needs does not answer at the moment. Please try again."))


def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        return _answer(request, NotFound("This address leads nowhere. It may have been mistyped, or the page is gone."))
    return page(request, "error.html", error.status_code, title=_title(error.status_code), message="", ways=[])


def _show_bad_address(request: Request, _error: Exception) -> Response:
    return _answer(request, NotFound("This address leads nowhere. It may have been mistyped, or the page is gone."))


def _show_crash(request: Request, _error: Exception) -> Response:
    # The exception itself is logged by the server; this answer is made outside the middleware that adds the headers.
    answer = page(
        request,
        "error.html",
        500,
        title=_title(500),
        message=_("Nothing you did caused this, and it has been noted. Please try again in a minute."),
        ways=_ways(request),
    )
    answer.headers.update(headers_for(request.app.state.ctx))
    return answer


def _answer(request: Request, error: AppError) -> Response:
    headers = {}
    if isinstance(error, RateLimited):
        headers["Retry-After"] = str(error.details.get("retry_after", 60))
    if _wants_stream(request):
        return JSONResponse(error.as_json(), error.status, headers)
    answer = page(
        request,
        "error.html",
        error.status,
        title=_title(error.status),
        message=languages.plain_gettext(error.message),
        ways=_ways(request, error.status),
    )
    answer.headers.update(headers)
    return answer


def _ways(request: Request, status: int = 500) -> list[Way]:
    found = re.match(r"/instances/([a-z0-9_]{1,40})/", request.url.path)
    visitor = getattr(request.state, "visitor", None)
    is_signed_in = visitor is not None and visitor.owner is not None
    ways = []
    if found and status != 404:
        ways.append(Way(_("Back to the assistant"), f"/instances/{found.group(1)}"))
    if is_signed_in:
        ways.append(Way(_("Go to your dashboard"), "/dashboard"))
    elif status == 401:
        ways.append(Way(_("Sign in"), "/sign-in"))
    else:
        ways.append(Way(_("Go to the start page"), "/"))
    return ways


def _title(status: int) -> str:
    return _(TITLES.get(status, TITLES[400]))


def _wants_stream(request: Request) -> bool:
    return STREAM in request.headers.get("accept", "")
