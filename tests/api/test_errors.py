"""The one renderer."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from clawhaven.api import errors
from clawhaven.core import errors as kinds
from tests.api.conftest import assert_error


def client_for(error: Exception) -> TestClient:
    """An application that always raises this."""
    app = FastAPI()
    errors.install(app)

    @app.get("/x")
    def broken() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False)


def every_kind() -> list[type[kinds.AppError]]:
    found, waiting = [], [kinds.AppError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_every_error_of_ours_has_its_status_code_and_details(kind: type[kinds.AppError]) -> None:
    body = assert_error(client_for(kind("A sentence.", retry_after=7)).get("/x"), kind.status, kind.code)
    assert body == {"error": kind.code, "message": "A sentence.", "details": {"retry_after": 7}}
    assert kind.status == 500 or kind.status in errors.ERRORS
    assert client_for(kind("x", retry_after=7)).get("/x").headers["retry-after"] == "7"
    assert "retry-after" not in client_for(kind("x")).get("/x").headers


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (sa.exc.OperationalError("SELECT secret", {}, Exception("locked")), 503, "unavailable"),
        (sa.exc.DataError("SELECT secret", {}, Exception("too long")), 400, "validation_failed"),
        (sa.exc.StatementError("x", "SELECT secret", {}, OverflowError("date")), 400, "validation_failed"),
        (sa.exc.StatementError("x", "SELECT secret", {}, ValueError("naive")), 500, "internal_error"),
        (sa.exc.IntegrityError("INSERT secret", {}, Exception("unique")), 500, "internal_error"),
        (ZeroDivisionError("secret"), 500, "internal_error"),
    ],
)
def test_errors_of_others(error: Exception, status: int, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(errors.log, "error", lambda *_, **words: logged.append(words))
    body = assert_error(client_for(error).get("/x"), status, code)
    assert "secret" not in str(body)
    assert len(logged) == 1
