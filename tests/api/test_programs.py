"""Keys for customers' own programs over the API."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from clawhaven.accounts.models import User
from clawhaven.core.secrets import hash_token
from clawhaven.instances.models import Instance
from clawhaven.metering import programs
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]
MAKER = ("read", "write", "keys")


def path_of(begun: object) -> str:
    return f"/api/instances/{begun.instance.id}/program-keys"  # type: ignore[attr-defined]


def test_made_shown_once_listed_and_revoked(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    path, me = path_of(ada), key_of(ada, *MAKER)
    empty = http.get(path, headers=me).json()
    base = f"{scene.ctx.settings.base_url}/proxy"
    assert empty == {"items": [], "base_urls": {"anthropic": base, "openai": f"{base}/v1"}, "next_cursor": None}
    answer = http.post(path, json={"name": " Site search "}, headers=me)
    assert answer.status_code == 201
    made = answer.json()
    with scene.ctx.db.read() as db:
        bearer = programs.find_bearer(db, hash_token(made["key"]))
    assert bearer.program is not None
    assert (bearer.grant.instance_id, bearer.program.id) == (ada.instance.id, made["id"])
    listed = http.get(path, headers=me)
    assert made["key"] not in listed.text
    assert listed.json()["items"] == [{name: made[name] for name in made if name != "key"}]
    assert (made["name"], made["key"][:10], made["last_used_at"]) == ("Site search", made["prefix"], None)
    assert http.delete(f"{path}/{made['id']}", headers=me).status_code == 204
    assert_error(http.delete(f"{path}/{made['id']}", headers=me), 404, "not_found")
    assert scene.count("program_key") == 0
    for action in ("program_key.make", "program_key.revoke"):
        assert scene.count("audit_log", f"action = '{action}'") == 1


def test_only_its_owner_and_with_the_scope_for_keys(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada, eve = scene.live("ada@example.com"), scene.sign_up("eve@example.com")
    path, me = path_of(ada), key_of(ada, *MAKER)
    made = http.post(path, json={"name": "mine"}, headers=me).json()
    for stranger in (key_of(eve, *MAKER), {}):
        code = (404, "not_found") if stranger else (401, "unauthorized")
        assert_error(http.get(path, headers=stranger), *code)
        assert_error(http.post(path, json={"name": "x"}, headers=stranger), *code)
        assert_error(http.delete(f"{path}/{made['id']}", headers=stranger), *code)
    refused = assert_error(http.post(path, json={"name": "x"}, headers=key_of(ada)), 403, "forbidden")
    assert refused["details"] == {"scope": "keys"}
    assert_error(http.delete(f"{path}/{made['id']}", headers=key_of(ada, "read")), 403, "forbidden")
    assert http.delete(f"{path}/{made['id']}", headers=key_of(ada)).status_code == 204


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 101}, {"name": "a\nb"}, {"name": 5}])
def test_a_bad_name_is_named(http: TestClient, scene: Scene, key_of: Keys, body: dict[str, object]) -> None:
    ada = scene.live()
    assert_error(http.post(path_of(ada), json=body, headers=key_of(ada, *MAKER)), 400, "validation_failed", "name")
    assert scene.count("program_key") == 0


def test_a_repeat_makes_no_second_key(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    headers = {**key_of(ada, *MAKER), "idempotency-key": "one"}
    made = http.post(path_of(ada), json={"name": "x"}, headers=headers).json()
    again = assert_error(http.post(path_of(ada), json={"name": "x"}, headers=headers), 409, "already_used")
    assert again["details"]["key_id"] == made["id"]
    assert scene.count("program_key") == 1


def test_nothing_is_made_for_an_unproved_address_or_what_is_going(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me = key_of(ada, *MAKER)
    with scene.ctx.db.tx() as db:
        db.execute(sa.update(User).values(verified_at=None))
    assert_error(http.post(path_of(ada), json={"name": "x"}, headers=me), 403, "email_not_verified")
    with scene.ctx.db.tx() as db:
        db.execute(sa.update(User).values(verified_at=scene.ctx.clock.now()))
        db.execute(sa.update(Instance).values(deletion_asked_at=scene.ctx.clock.now()))
    assert_error(http.post(path_of(ada), json={"name": "x"}, headers=me), 409, "illegal_move")
    assert scene.count("program_key") == 0
