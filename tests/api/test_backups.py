"""Backups and versions through the API."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

from fastapi.testclient import TestClient

from clawhaven.instances import backups, operations, states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason
from clawhaven.workflows import backup
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


def test_a_backup_is_made_listed_saved_and_removed(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada, bea = scene.live(), scene.live("bea@example.com")
    me, stranger, path = key_of(ada), key_of(bea), f"/api/instances/{ada.instance.id}/backups"
    asked = http.post(path, headers=me)
    assert (asked.status_code, asked.json()["operation"]["kind"]) == (202, "backup")
    assert http.post(path, headers=me).json() == asked.json(), "one that waits is not asked for twice"
    (listed,) = http.get(path, headers=me).json()["items"]
    assert (listed["status"], listed["made_for"], listed["is_removable"]) == ("making", "owner", False)
    at = f"{path}/{listed['id']}"
    for method, place in (("GET", f"{at}/download"), ("POST", f"{at}/restore"), ("DELETE", at)):
        assert_error(http.request(method, place, headers=me), 409, "illegal_move")
    backup.copy(scene.ctx, listed["id"])
    with scene.ctx.db.tx() as db:
        states.suspend(db, ada.instance.id, scene.ctx.clock.now(), Reason.PAYMENT)
    found = http.get(at, headers=me).json()
    assert (found["status"], found["openclaw_version"]) == ("ready", scene.ctx.settings.openclaw_version)
    assert found["size_bytes"] > 500
    saved = http.get(f"{at}/download", headers=me)
    assert saved.headers["content-type"] == "application/gzip"
    assert saved.headers["content-disposition"].startswith('attachment; filename="ada-')
    with tarfile.open(fileobj=io.BytesIO(saved.content), mode="r:gz") as tar:
        assert ".openclaw/workspace/SOUL.md" in tar.getnames()
    for method, place in (
        ("GET", path),
        ("POST", path),
        ("GET", at),
        ("GET", f"{at}/download"),
        ("POST", f"{at}/restore"),
        ("DELETE", at),
    ):
        assert_error(http.request(method, place, headers=stranger), 404, "not_found")
    assert_error(http.get(f"{at}/download", headers=key_of(ada, "read")), 403, "forbidden")
    restored = http.post(f"{at}/restore", headers=me)
    assert (restored.status_code, restored.json()["operation"]["kind"]) == (202, "restore")
    assert [one["made_for"] for one in http.get(path, headers=me).json()["items"]] == ["restore", "owner"]
    assert_error(http.delete(at, headers=me), 409, "illegal_move")
    with scene.ctx.db.tx() as db:
        operations.close(db, restored.json()["operation"]["id"], scene.ctx.clock.now())
    removed = http.delete(at, headers=me)
    assert (removed.status_code, removed.json()) == (202, {"id": listed["id"], "status": "removing"})
    assert_error(http.get(at, headers=me), 404, "not_found")


def test_too_many_by_hand(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    with scene.ctx.db.tx() as db:
        for _ in range(backups.MOST_OWN):
            backups.open_backup(db, ada.instance.id, backups.MadeFor.OWNER, scene.ctx.clock.now())
    refused = http.post(f"/api/instances/{ada.instance.id}/backups", headers=key_of(ada))
    assert assert_error(refused, 409, "too_many_backups")["details"] == {"most": backups.MOST_OWN}


def test_the_version_and_its_upgrade(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me, path, pinned = key_of(ada), f"/api/instances/{ada.instance.id}", scene.ctx.settings.openclaw_version
    assert http.get(f"{path}/version", headers=me).json() == {
        "version": None,
        "since": None,
        "newest": pinned,
        "is_older": False,
    }
    assert_error(http.post(f"{path}/upgrade", headers=me), 409, "illegal_move")
    with scene.ctx.db.tx() as db:
        db.get_one(Instance, ada.instance.id).openclaw_version = "2026.1.1"
    assert http.get(f"{path}/version", headers=me).json()["is_older"] is True
    assert http.post(f"{path}/upgrade", headers=me).json()["operation"]["kind"] == "upgrade"
