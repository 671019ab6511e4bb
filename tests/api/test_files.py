"""An assistant's files through the API."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient

from clawhaven.instances import versions, workspace
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


def test_a_file_is_read_changed_and_brought_back(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me, path = key_of(ada), f"/api/instances/{ada.instance.id}/files"
    listed = http.get(path, headers=me).json()["items"]
    assert [one["name"] for one in listed] == list(workspace.FILES)
    found = http.get(f"{path}/SOUL.md", headers=me).json()
    assert (found["status"], found["limit"], found["characters"]) == ("written", 20_000, len(found["content"]))
    changed = http.put(f"{path}/SOUL.md", json={"content": "  Mine.", "base": found["digest"]}, headers=me)
    assert (changed.status_code, changed.json()) == (202, {"name": "SOUL.md", "is_changed": True})
    now = http.get(f"{path}/SOUL.md", headers=me).json()
    assert (now["status"], now["content"], now["digest"]) == (
        "being_written",
        "  Mine.\n",
        versions.digest("  Mine.\n"),
    )
    late = http.put(f"{path}/SOUL.md", json={"content": "Late.", "base": found["digest"]}, headers=me)
    assert assert_error(late, 409, "file_changed")["details"]["digest"] == now["digest"]
    kept = http.get(f"{path}/SOUL.md/versions", headers=me).json()["items"]
    assert [(one["number"], one["author"], bool(one["written_at"])) for one in kept] == [
        (2, "owner", False),
        (1, "found", True),
    ]
    assert http.get(f"{path}/SOUL.md/versions/1", headers=me).json()["content"] == found["content"]
    assert http.post(f"{path}/SOUL.md/versions/1/restore", headers=me).json()["is_changed"] is True
    assert http.post(f"{path}/SOUL.md/versions/1/restore", headers=me).json()["is_changed"] is False


def test_what_is_refused(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me, path = key_of(ada), f"/api/instances/{ada.instance.id}/files"
    for number in ("9223372036854775808", "2147483648", "0", "-1", "x"):
        assert_error(http.get(f"{path}/SOUL.md/versions/{number}", headers=me), 400, "validation_failed")
        assert_error(http.post(f"{path}/SOUL.md/versions/{number}/restore", headers=me), 400, "validation_failed")
    long = {"content": "x" * (workspace.USER_FILE_LIMIT + 1)}
    assert (
        assert_error(http.put(f"{path}/USER.md", json=long, headers=me), 400, "validation_failed")["details"]["field"]
        == "content"
    )
    for name in ("MEMORY.md", "..%2Fopenclaw.json"):
        assert_error(http.get(f"{path}/{name}", headers=me), 404, "not_found")
    assert_error(http.get(f"{path}/SOUL.md/versions/7", headers=me), 404, "not_found")
    assert_error(http.put(f"{path}/SOUL.md", json={"content": "x", "base": "y"}, headers=me), 400, "validation_failed")
    draft = scene.sign_up("new@example.com")
    theirs = f"/api/instances/{draft.instance.id}/files"
    assert_error(http.get(theirs, headers=key_of(draft)), 409, "illegal_move")
