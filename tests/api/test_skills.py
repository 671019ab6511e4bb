"""Skills over the API: what there is, on and off, keys in and never out, each only for its owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import assert_error
from tests.fakes.skill_vendors import BRAVE_KEY, SkillVendors
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[SkillVendors]:
    with SkillVendors() as running:
        monkeypatch.setenv("BRAVE_API_URL", running.url)
        monkeypatch.setenv("ELEVENLABS_API_URL", running.url)
        yield running


def test_the_catalogue_and_an_assistants_skills(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me = key_of(ada)
    catalogue = {one["skill"]: one for one in http.get("/api/skills", headers=me).json()["items"]}
    assert (catalogue["memory"]["status"], catalogue["web_search"]["status"]) == ("on", "needs_key")
    assert catalogue["browser"]["unavailable"] == "There is no browser where the assistants run."
    assert catalogue["web_search"]["key_url"] == "https://brave.com/search/api/"
    mine = http.get(f"/api/instances/{ada.instance.id}/skills", headers=me).json()["items"]
    assert [one["skill"] for one in mine] == list(catalogue)


def test_on_off_and_a_key(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    path, me = f"/api/instances/{ada.instance.id}/skills", key_of(ada)
    off = http.put(f"{path}/memory", json={"is_on": False}, headers=me)
    assert (off.status_code, off.json()["status"]) == (202, "off")
    assert_error(http.put(f"{path}/web_search", json={"is_on": True}, headers=me), 400, "key_missing", "api_key")
    assert_error(http.put(f"{path}/browser", json={"is_on": True}, headers=me), 409, "skill_unavailable")
    assert_error(http.put(f"{path}/cooking", json={"is_on": True}, headers=me), 400, "validation_failed", "skill")
    assert_error(http.put(f"{path}/memory", json={"is_on": "yes"}, headers=me), 400, "validation_failed")
    wrong = http.put(f"{path}/web_search/key", json={"api_key": "BSAnobodysnobodys99"}, headers=me)
    assert_error(wrong, 400, "invalid_api_key", "brave_api_key")
    given = http.put(f"{path}/web_search/key", json={"api_key": BRAVE_KEY}, headers=me)
    assert (given.status_code, given.json()["status"], given.json()["key_ends_in"]) == (202, "on", "1234")
    assert BRAVE_KEY not in given.text + http.get(path, headers=me).text
    tried = http.post(f"{path}/web_search/test", headers=me).json()
    assert tried == {"is_good": False, "vendor": "good", "assistant": "applying"}
    assert http.delete(f"{path}/web_search/key", headers=me).status_code == 204
    assert http.delete(f"{path}/web_search/key", headers=me).status_code == 204
    assert_error(http.post(f"{path}/web_search/test", headers=me), 404, "not_found")
    assert_error(http.put(f"{path}/memory/key", json={"api_key": BRAVE_KEY}, headers=me), 400, "validation_failed")


def test_nobody_else_and_nobody_who_may_only_look(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada, eve = scene.live("ada@example.com"), scene.live("eve@example.com")
    path = f"/api/instances/{ada.instance.id}/skills"
    assert http.get("/api/skills").status_code == 401
    for who, status in ((key_of(eve), 404), (key_of(ada, "read"), 403)):
        assert http.put(f"{path}/memory", json={"is_on": False}, headers=who).status_code == status
        assert http.put(f"{path}/voice/key", json={"api_key": "x"}, headers=who).status_code == status
        assert http.delete(f"{path}/voice/key", headers=who).status_code == status
        assert http.post(f"{path}/voice/test", headers=who).status_code == status
    assert http.get(path, headers=key_of(eve)).status_code == 404
    assert http.get(path, headers=key_of(ada, "read")).status_code == 200
