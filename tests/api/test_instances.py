"""Everything of an instance, by its owner; a stranger's id gives the same answer as an id that never was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from clawhaven.core.ids import new_id
from clawhaven.instances import operations
from clawhaven.instances.states import State
from tests.api.conftest import assert_error
from tests.workflows.scene import TOKEN, Scene

Keys = Callable[..., dict[str, str]]

CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PATCH", "", {"assistant_name": "Mine"}),
    ("DELETE", "", None),
    ("POST", "/start", None),
    ("POST", "/stop", None),
    ("POST", "/restart", None),
    ("GET", "/events", None),
    ("GET", "/logs", None),
    ("POST", "/review", {"assistant_name": "Mine"}),
    ("GET", "/files", None),
    ("GET", "/files/SOUL.md", None),
    ("PUT", "/files/SOUL.md", {"content": "Mine."}),
    ("GET", "/files/SOUL.md/versions", None),
    ("POST", "/files/SOUL.md/versions/1/restore", None),
    ("GET", "/usage", None),
    ("GET", "/models", None),
    ("GET", "/operations/OPERATION", None),
    ("GET", "/channels", None),
    ("PUT", "/channels/telegram", {"telegram_bot_token": TOKEN}),
    ("POST", "/telegram/connect", {"telegram_bot_token": TOKEN}),
    ("POST", "/channels/telegram/claim", None),
    ("POST", "/channels/telegram/test", None),
    ("DELETE", "/channels/telegram", None),
    ("POST", "/chat", {"message": "hello"}),
]


def test_a_stranger_sees_what_everybody_sees_of_a_missing_id(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada, eve = scene.live("ada@example.com"), scene.live("eve@example.com")
    scene.connected(ada, "987654321:" + "B" * 35)
    with scene.ctx.db.tx() as db:
        operation = operations.open_operation(db, ada.instance.id, "restart", scene.ctx.clock.now())
    me, before = key_of(eve), scene.counts()
    checked = 0
    for method, path, body in CALLS:
        path = path.replace("OPERATION", operation.id)
        theirs = http.request(method, f"/api/instances/{ada.instance.id}{path}", json=body, headers=me)
        missing = http.request(method, f"/api/instances/{new_id('ins')}{path}", json=body, headers=me)
        assert_error(theirs, 404, "not_found")
        assert theirs.json() == missing.json(), (method, path)
        checked += 1
    theirs = http.get(f"/api/checkout/{ada.checkout.id}", headers=me)
    assert theirs.json() == http.get(f"/api/checkout/{new_id('cho')}", headers=me).json()
    assert_error(theirs, 404, "not_found")
    mine = http.get(f"/api/instances/{eve.instance.id}/operations/{operation.id}", headers=me)
    none = http.get(f"/api/instances/{eve.instance.id}/operations/{new_id('op')}", headers=me)
    assert mine.json() == none.json()
    assert_error(mine, 404, "not_found")
    assert (scene.counts(), checked) == (before, len(CALLS))
    assert [one["id"] for one in http.get("/api/instances", headers=me).json()["items"]] == [eve.instance.id]


def test_every_call_needs_somebody(http: TestClient, scene: Scene) -> None:
    ada = scene.live()
    for method, path, body in CALLS:
        assert_error(http.request(method, f"/api/instances/{ada.instance.id}{path}", json=body), 401, "unauthorized")
    others = "/api/auth/me /api/auth/keys /api/billing/balance /api/billing/usage /api/billing/ledger /api/instances"
    for path in others.split():
        assert_error(http.get(path), 401, "unauthorized")
    assert_error(http.get(f"/api/checkout/{ada.checkout.id}"), 401, "unauthorized")


def test_a_read_key_reads_and_nothing_else(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    scene.connected(ada)
    reader, writer, before = key_of(ada, "read"), key_of(ada, "write"), scene.counts()
    for method, path, body in CALLS:
        if "OPERATION" in path:
            continue
        url = f"/api/instances/{ada.instance.id}{path}"
        if method == "GET":
            assert http.get(url, headers=reader).status_code == 200
            assert_error(http.get(url, headers=writer), 403, "forbidden")
        else:
            assert_error(http.request(method, url, json=body, headers=reader), 403, "forbidden")
    assert_error(http.post("/api/auth/keys", json={}, headers=reader), 403, "forbidden")
    assert {**scene.counts(), "api_key": 0} == {**before, "api_key": 0}


def test_what_an_owner_sees_and_does(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me, path = key_of(ada), f"/api/instances/{ada.instance.id}"
    seen = http.get(path, headers=me).json()
    assert (seen["status"], seen["name"], seen["suspended_for"], seen["failure"]) == ("active", "Ada", [], None)
    text = http.get(path, headers=me).text
    assert scene.instance(ada.instance.id).gateway_token not in text
    assert scene.instance(ada.instance.id).proxy_key not in text
    changed = http.patch(path, json={"assistant_name": "Bea", "custom_instructions": ""}, headers=me)
    assert (changed.status_code, changed.json()["operation"]["kind"]) == (202, "configure")
    assert (scene.instance(ada.instance.id).name, scene.instance(ada.instance.id).persona) == ("Bea", "personal")
    operation = changed.json()["operation"]["id"]
    steps = http.get(f"{path}/operations/{operation}", headers=me).json()["steps"]
    assert [step["name"] for step in steps] == ["write_files", "wait_ready"]
    assert http.post(f"{path}/restart", headers=me).json()["operation"]["kind"] == "restart"
    replacing = http.post(f"{path}/replace-key", headers=me)
    assert (replacing.status_code, replacing.json()["operation"]["kind"]) == (202, "replace_key")
    assert http.post(f"{path}/replace-key", headers=me).json() == replacing.json()
    assert http.post(f"{path}/stop", headers=me).json()["operation"]["kind"] == "suspend"
    again = http.post(f"{path}/stop", headers=me)
    assert (again.status_code, again.json()["operation"]["kind"]) == (202, "suspend")
    assert_error(http.post(f"{path}/restart", headers=me), 409, "illegal_move")
    assert http.post(f"{path}/start", headers=me).json()["operation"]["kind"] == "resume"
    first = http.delete(path, headers=me).json()
    assert http.delete(path, headers=me).json() == first
    kinds = [event["kind"] for event in http.get(f"{path}/events", headers=me).json()["items"]]
    assert kinds == ["suspended", "active", "provisioning"]
    assert http.get(f"{path}/logs", headers=me).json()["lines"] == ["- INFO  folder gateway: nothing to say"]
    assert http.get(f"{path}/usage", headers=me).json() == {"items": [], "next_cursor": None}


def test_the_plan_allows_one_assistant(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    body = {"assistant_name": "Second"}
    refused = assert_error(http.post("/api/instances", json=body, headers=key_of(ada)), 409, "plan_limit")
    assert refused["details"]["limit"] == 1
    gone = scene.put_in(State.DELETED)
    made = http.post("/api/instances", json=body, headers=key_of(gone))
    assert made.status_code == 201
    assert scene.instance(made.json()["instance_id"]).slug == gone.instance.slug
    assert made.json()["checkout_url"].startswith(f"{scene.ctx.settings.base_url}/sandbox/checkout/")


@pytest.mark.parametrize(
    ("state", "answers"),
    [
        (State.PENDING, {"start": 409, "stop": 409, "restart": 409, "replace-key": 409, "PATCH": 202, "DELETE": 202}),
        (
            State.PROVISIONING,
            {"start": 409, "stop": 409, "restart": 409, "replace-key": 409, "PATCH": 202, "DELETE": 202},
        ),
        (State.ACTIVE, {"start": 202, "stop": 202, "restart": 202, "replace-key": 202, "PATCH": 202, "DELETE": 202}),
        (State.SUSPENDED, {"start": 202, "stop": 202, "restart": 409, "replace-key": 202, "PATCH": 202, "DELETE": 202}),
        (State.FAILED, {"start": 402, "stop": 409, "restart": 409, "replace-key": 409, "PATCH": 202, "DELETE": 202}),
        (State.DELETED, {"start": 409, "stop": 409, "restart": 409, "replace-key": 409, "PATCH": 409, "DELETE": 409}),
    ],
)
def test_every_state_answers_every_action(
    http: TestClient, scene: Scene, key_of: Keys, state: State, answers: dict[str, int]
) -> None:
    for action, status in answers.items():
        begun = scene.put_in(state)
        path, me = f"/api/instances/{begun.instance.id}", key_of(begun)
        if action in ("PATCH", "DELETE"):
            answer = http.request(
                action, path, json={"assistant_name": "Eve"} if action == "PATCH" else None, headers=me
            )
        else:
            answer = http.post(f"{path}/{action}", headers=me)
        assert answer.status_code == status, (state, action, answer.text)
        if status >= 400:
            assert_error(answer, status)
            assert scene.instance(begun.instance.id).state == state
            assert scene.instance(begun.instance.id).name == "Ada"


def test_logs_and_chat_say_so_when_the_runtime_is_down(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me, path = key_of(ada), f"/api/instances/{ada.instance.id}"
    (scene.world.root / "DOWN").touch()
    assert_error(http.post(f"{path}/chat", json={"message": "hi"}, headers=me), 503, "unavailable")
    scene.world.stop({"folder": ada.instance.id, "port": 0}, 0)
    (scene.world.root / "DOWN").unlink()
    assert_error(http.post(f"{path}/chat", json={"message": "hi"}, headers=me), 503, "unavailable")


def test_a_change_is_looked_at_first_and_leaves_own_files_alone(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me, path = key_of(ada), f"/api/instances/{ada.instance.id}"
    (scene.world.root / ada.instance.id / "state/workspace/SOUL.md").write_text("Mine.\n")
    before = scene.counts()
    seen = http.post(f"{path}/review", json={"assistant_name": "Bea"}, headers=me).json()
    assert seen["fields"] == [{"name": "name", "before": "Ada", "after": "Bea"}]
    assert {one["name"]: one["is_own"] for one in seen["files"]}["SOUL.md"] is True
    assert scene.counts() == before
    done = http.patch(path, json={"assistant_name": "Bea"}, headers=me).json()
    assert (done["changed"], done["kept_files"]) == (["name"], ["SOUL.md"])
    same = http.patch(path, json={"assistant_name": "Bea"}, headers=me).json()
    assert (same["operation"], same["changed"]) == (None, [])
    assert_error(http.post(f"{path}/review", json={"model": "gpt-0"}, headers=me), 400, "validation_failed")


def test_the_log_is_filtered(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    me, path = key_of(ada), f"/api/instances/{ada.instance.id}/logs"
    (entry,) = http.get(path, headers=me).json()["entries"]
    assert entry == {"at": None, "level": "info", "source": "", "text": "folder gateway: nothing to say"}
    assert http.get(path, params={"level": "warn"}, headers=me).json()["lines"] == []
    assert http.get(path, params={"q": "NOTHING gateway"}, headers=me).json()["lines"] != []
    assert_error(http.get(path, params={"level": "loud"}, headers=me), 400, "validation_failed")
