"""The models of an assistant over the API: what is on offer, and setting one."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient

from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


def test_what_is_on_offer_and_setting_it(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun = scene.live(plan="monthly")
    me, path = key_of(begun), f"/api/instances/{begun.instance.id}"
    items = http.get(f"{path}/models", headers=me).json()["items"]
    assert [one["model"] for one in items if one["is_chosen"]] == [http.get(path, headers=me).json()["model"]]
    (one,) = [one for one in items if one["model"] == "sandbox-1"]
    assert (one["vendor"], one["input_micros"], one["output_micros"]) == ("sandbox", 3_000_000, 15_000_000)
    changed = http.patch(path, json={"model": "sandbox-1"}, headers=me)
    assert changed.json()["operation"]["kind"] == "configure"
    assert http.get(path, headers=me).json()["model"] == "sandbox-1"
    refused = http.patch(path, json={"model": "text-embedding-3-small"}, headers=me)
    assert_error(refused, 400, "validation_failed", "model")
    assert "sandbox-1" in refused.json()["details"]["models"]
