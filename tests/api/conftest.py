"""The API over a scene, and people who call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from clawhaven.accounts import apikeys
from clawhaven.api.app import create_app
from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene, set_up

FORM: dict[str, Any] = {"email": "new@example.com", "assistant_name": "Ada", "custom_instructions": "Help me plan."}


@pytest.fixture
def scene(settings: Settings, clock: Clock) -> Iterator[Scene]:
    """An installation in this process, once on SQLite and once on PostgreSQL."""
    with set_up(settings, clock) as made:
        yield made


@pytest.fixture
def http(scene: Scene) -> Iterator[TestClient]:
    """A client without cookies of its own; what the app raises is answered as a server would."""
    app = create_app(scene.ctx)
    with TestClient(app, base_url=scene.ctx.settings.base_url, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def key_of(scene: Scene) -> Callable[..., dict[str, str]]:
    """Makes an API key of a customer, whose address counts as proved; returns the headers that carry it."""

    def make(begun: Begun, *scopes: str) -> dict[str, str]:
        with scene.ctx.db.tx() as db:
            now, wanted = scene.ctx.clock.now(), list(scopes or ("read", "write"))
            begun.owner.user.verified_at = now
            db.merge(begun.owner.user)
            _, secret = apikeys.issue(db, begun.owner, "test", wanted, now)
        return {"authorization": f"Bearer {secret}"}

    return make


def assert_error(answer: Response, status: int, code: str | None = None, field: str | None = None) -> dict[str, Any]:
    """The one shape of every error; returns its body."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    body: dict[str, Any] = answer.json()
    assert set(body) == {"error", "message", "details"}, body
    assert body["message"].strip()
    assert isinstance(body["details"], dict)
    if code is not None:
        assert body["error"] == code, body
    if field is not None:
        assert body["details"].get("field") == field, body
    return body
