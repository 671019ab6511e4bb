"""The one renderer of failures for people: what happened, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match

from clawhaven.core.errors import AppError, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable
from clawhaven.core.logs import get_logger
from clawhaven.instances import versions
from clawhaven.ports.errors import ProviderError
from clawhaven.web import deps, languages
from clawhaven.web.guards import headers_for
from clawhaven.web.languages import N_, _, ngettext
from clawhaven.web.render import page

log = get_logger("clawhaven.web")

STREAM = "text/event-stream"
LONG_FIELDS = ("text", "custom_instructions", "message")
"""What people write at length; shown again when it is sent after the session has ended. None of them is a secret."""

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
    app.add_exception_handler(Unauthorized, _show_unauthorized)
    app.add_exception_handler(ProviderError, _show_provider_error)
    app.add_exception_handler(HTTPException, _show_http_error)
    app.add_exception_handler(RequestValidationError, _show_bad_address)
    app.add_exception_handler(Exception, _show_crash)


def _show_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return _answer(request, error)


async def _show_unauthorized(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unauthorized)
    # A script would follow the redirect and take the sign-in page for the part it asked for.
    if request.method == "GET" and not _wants_stream(request) and "hx-request" not in request.headers:
        return RedirectResponse(_sign_in_url(request), 303)
    kept = await _long_texts(request) if request.method == "POST" else ()
    return await run_in_threadpool(_answer, request, error, kept)


async def _long_texts(request: Request) -> Sequence[str]:
    """What was written at length in the form that came, as much of it as any page takes; nothing from other sites."""
    try:
        deps.refuse_other_sites(request)
        values = await deps.read_form(request)
    except (AppError, HTTPException):
        return ()
    return [values[name][: versions.LONGEST] for name in LONG_FIELDS if values.get(name, "").strip()]


def _sign_in_url(request: Request) -> str:
    """The sign-in page that leads back to the address, or to the nearest one above it that is a page."""
    path = request.url.path
    while path and not _is_page(request, path):
        path = path.rpartition("/")[0]
    return f"/sign-in?next={quote(path)}" if path else "/sign-in"


def _is_page(request: Request, path: str) -> bool:
    asked = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return any(route.matches(asked)[0] is Match.FULL for route in request.app.routes)


def _show_provider_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProviderError)
    log.warning("a provider failed while a page was made", code=error.code, error=error.message)
    return _answer(request, Unavailable("Something this page needs does not answer at the moment. Please try again."))


def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        return _answer(request, NotFound("This address leads nowhere. It may have been mistyped, or the page is gone."))
    return _draw(request, error.status_code, _("What was sent could not be read. Please go back and try again."))


def _show_bad_address(request: Request, _error: Exception) -> Response:
    return _answer(request, NotFound("This address leads nowhere. It may have been mistyped, or the page is gone."))


def _show_crash(request: Request, _error: Exception) -> Response:
    # The exception itself is logged by the server; this answer is made outside the middleware that adds the headers.
    message = _("Nothing you did caused this, and it has been noted. Please try again in a minute.")
    answer = _draw(request, 500, message)
    answer.headers.update(headers_for(request.app.state.ctx))
    return answer


def _answer(request: Request, error: AppError, kept: Sequence[str] = ()) -> Response:
    headers = {}
    if isinstance(error, RateLimited):
        headers["Retry-After"] = str(error.details.get("retry_after", 60))
    if _wants_stream(request):
        return JSONResponse(error.as_json(), error.status, headers)
    answer = _draw(request, error.status, said(error), kept)
    answer.headers.update(headers)
    return answer


def _draw(request: Request, status: int, message: str, kept: Sequence[str] = ()) -> Response:
    """`kept`: texts that were sent and are kept nowhere else."""
    ways = _ways(request, status)
    return page(request, "error.html", status, title=_title(status), message=message, ways=ways, kept=kept)


def said(error: AppError) -> str:
    """The error's sentence in the reader's language; the ones with a number in them are made anew."""
    wait = error.details.get("retry_after")
    if isinstance(error, RateLimited) and error.message.startswith("Too many tries.") and isinstance(wait, int):
        return ngettext("Too many tries. Please wait a second.", "Too many tries. Please wait %(num)s seconds.", wait)
    if isinstance(error, TooLarge):
        return _("This is more than a form can take. Please send less of it.")
    return languages.plain_gettext(error.message)


def _ways(request: Request, status: int) -> list[Way]:
    found = re.match(r"/instances/([a-z0-9_]{1,40})/", request.url.path)
    visitor = getattr(request.state, "visitor", None)
    is_signed_in = visitor is not None and visitor.owner is not None
    ways = []
    if found and status != 404:
        ways.append(Way(_("Back to the assistant"), f"/instances/{found.group(1)}"))
    if is_signed_in:
        ways.append(Way(_("Go to your dashboard"), "/dashboard"))
    elif status == 401:
        ways.append(Way(_("Sign in"), _sign_in_url(request)))
    else:
        ways.append(Way(_("Go to the start page"), "/"))
    if status == 404:
        ways.append(Way(_("Look in the help"), "/docs"))
    return ways


def _title(status: int) -> str:
    return _(TITLES.get(status, TITLES[400]))


def _wants_stream(request: Request) -> bool:
    return STREAM in request.headers.get("accept", "")
