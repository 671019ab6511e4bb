"""One renderer for every error: `{"error": code, "message": sentence, "details": {…}}`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DataError, OperationalError, StatementError
from starlette.exceptions import HTTPException

from clawhaven.core.errors import AppError
from clawhaven.core.logs import get_logger

log = get_logger("clawhaven.api")


class ErrorBody(BaseModel):
    """The wire form of every error."""

    error: str
    message: str
    details: dict[str, Any] = {}


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 402, 403, 404, 405, 409, 413, 429, 503)
}
"""Documented for every operation in the OpenAPI schema."""

CODES = {
    400: "validation_failed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}


def install(app: FastAPI) -> None:
    """Register the renderer for our errors, the framework's, and the ones nobody expected."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(StatementError, _value_error)
    app.add_exception_handler(Exception, _unexpected)


def _answer(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> JSONResponse:
    headers = {"retry-after": str(details["retry_after"])} if details and "retry_after" in details else None
    body = {"error": code, "message": message, "details": details or {}}
    return JSONResponse(body, status_code=status, headers=headers)


def _app_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    return _answer(error.status, error.error_code, error.message, error.details)


def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0] if error.errors() else {"type": "", "loc": (), "msg": "invalid"}
    places = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    field = "body" if first["type"] == "json_invalid" else ".".join(places)[:100] or "body"
    return _answer(400, "validation_failed", f"{field}: {first['msg']}.", {"field": field, "reason": first["msg"]})


def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "http_error")
    details = {"field": "body", "reason": "unreadable"} if error.status_code == 400 else None
    response = _answer(error.status_code, code, f"{error.detail}.", details)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _database_error(_request: Request, error: Exception) -> JSONResponse:
    log.error("the database refused", error=type(error).__name__)
    return _answer(503, "unavailable", "The database cannot be reached at the moment. Please try again.")


def _value_error(request: Request, error: Exception) -> JSONResponse:
    """A value that no door refused and that the database cannot hold: a NUL, a time before year 1, a long word."""
    assert isinstance(error, StatementError)
    if not isinstance(error, DataError) and not isinstance(error.orig, OverflowError):
        return _unexpected(request, error)
    log.error("the database cannot hold a value", path=request.url.path, error=type(error.orig).__name__)
    return _answer(400, "validation_failed", "A value is out of range.", {"field": "", "reason": "out of range"})


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", path=request.url.path, exc_info=error)
    return _answer(500, "internal_error", "Something broke on our side. It has been recorded.")
