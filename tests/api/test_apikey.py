"""A customer's own model key over the API: whose it is and how it ends, never the key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from clawhaven.metering import ownkeys
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]
KEY = "sk-sandbox-customers-1234"


def test_set_look_replace_remove(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live(plan="monthly")
    path, me = f"/api/instances/{ada.instance.id}/api-key", key_of(ada)
    before = http.get(path, headers=me).json()
    assert (before["is_set"], before["vendor"], before["hint"], before["checked_at"]) == (False, None, None, None)
    assert {one["vendor"] for one in before["vendors"]} == {"anthropic", "openai", "sandbox"}
    made = http.put(path, json={"api_key": f" {KEY}\n"}, headers=me)
    assert (made.status_code, made.json()["is_set"]) == (200, True)
    assert (made.json()["vendor"], made.json()["hint"]) == ("sandbox", "…1234")
    assert KEY not in made.text
    assert http.get(path, headers=me).json() == made.json()
    other = http.put(path, json={"api_key": "sk-sandbox-another-9876", "vendor": "sandbox"}, headers=me).json()
    assert other["hint"] == "…9876"
    assert scene.count("own_key") == 1
    for _ in range(2):
        assert http.delete(path, headers=me).status_code == 204
    assert http.get(path, headers=me).json()["is_set"] is False


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "validation_failed", "api_key"),
        ({"api_key": 5}, "validation_failed", "api_key"),
        ({"api_key": ""}, "invalid_api_key", "api_key"),
        ({"api_key": "sk-sandbox-"}, "invalid_api_key", "api_key"),
        ({"api_key": "sk-sandbox-" + "x" * 400}, "validation_failed", "api_key"),
        ({"api_key": "sk-sandbox-a\u0000b"}, "invalid_api_key", "api_key"),
        ({"api_key": KEY, "vendor": "google"}, "validation_failed", "vendor"),
        ({"api_key": KEY, "vendor": "openai"}, "validation_failed", "vendor"),
        ({"api_key": "no-known-beginning"}, "validation_failed", "vendor"),
        ({"api_key": KEY, "more": 1}, "validation_failed", "more"),
    ],
)
def test_what_is_wrong_is_named_and_never_repeated(
    http: TestClient, scene: Scene, key_of: Keys, body: dict[str, Any], code: str, field: str
) -> None:
    ada = scene.live(plan="monthly")
    answer = http.put(f"/api/instances/{ada.instance.id}/api-key", json=body, headers=key_of(ada))
    assert_error(answer, 400, code, field)
    given = str(body.get("api_key", ""))
    assert len(given) < 12 or given not in answer.text
    assert scene.count("own_key") == 0


def test_only_the_owner_with_the_write_scope_and_an_own_key_plan(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada, eve = scene.live("ada@example.com", plan="monthly"), scene.live("eve@example.com")
    path = f"/api/instances/{ada.instance.id}/api-key"
    for method in ("GET", "PUT", "DELETE"):
        body = {"api_key": KEY} if method == "PUT" else None
        assert_error(http.request(method, path, json=body, headers=key_of(eve)), 404, "not_found")
        assert_error(http.request(method, path, json=body), 401, "unauthorized")
    assert_error(http.put(path, json={"api_key": KEY}, headers=key_of(ada, "read")), 403, "forbidden")
    included = f"/api/instances/{eve.instance.id}/api-key"
    refused = assert_error(http.put(included, json={"api_key": KEY}, headers=key_of(eve)), 409, "not_own_key")
    assert "comes with the model" in refused["message"]
    assert scene.count("own_key") == 0


def test_the_model_is_of_the_keys_vendor(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live(plan="monthly")
    path, me = f"/api/instances/{ada.instance.id}", key_of(ada)
    # Without a key every vendor's model can be chosen: the operator needs no key for it.
    assert http.patch(path, json={"model": "claude-sonnet-5-5"}, headers=me).status_code == 202
    http.put(f"{path}/api-key", json={"api_key": KEY}, headers=me)
    assert http.get(path, headers=me).json()["model"] == "sandbox-1"
    refused = assert_error(http.patch(path, json={"model": "claude-sonnet-5-5"}, headers=me), 400, field="model")
    assert refused["message"] == "claude-sonnet-5-5 is not on offer here."
    with scene.ctx.db.read() as db:
        assert ownkeys.find(db, ada.instance.id) is not None
