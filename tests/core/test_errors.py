"""Every error a person may see has a code of its own, a status of the right kind, and one wire form."""

from __future__ import annotations

from clawhaven.core.errors import AppError, AtCapacity, Invalid, RateLimited


def _all(kind: type[AppError]) -> list[type[AppError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _all(child))]


def test_codes_and_statuses_are_distinct_and_sane() -> None:
    kinds = [kind for kind in _all(AppError) if kind.__module__ == "clawhaven.core.errors"]
    assert len({kind.code for kind in kinds}) == len(kinds) >= 12
    assert all(400 <= kind.status < 600 for kind in kinds)


def test_wire_form() -> None:
    error = Invalid("No.", code="invalid_bot_token", field="token")
    assert error.as_json() == {"error": "invalid_bot_token", "message": "No.", "details": {"field": "token"}}
    assert AtCapacity("Full.").as_json()["error"] == "at_capacity"
    assert RateLimited("Slow.", retry_after=3).details == {"retry_after": 3}
