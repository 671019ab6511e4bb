"""Where one is signed in, and ending it from afar."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient

from clawhaven.accounts import sessions
from clawhaven.api.app import create_app
from clawhaven.api.deps import COOKIE
from clawhaven.core.secrets import hash_token
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

PATH = "/api/auth/sessions"


def browser(scene: Scene, user_id: str, agent: str) -> TestClient:
    """A signed-in browser."""
    with scene.ctx.db.tx() as db:
        token = sessions.open_session(db, user_id, scene.ctx.clock.now(), days=7, user_agent=agent)
    return TestClient(create_app(scene.ctx), base_url=scene.ctx.settings.base_url, cookies={COOKIE: token})


def test_a_browser_sees_and_ends_its_own_persons_sessions(scene: Scene) -> None:
    ada, eve = scene.sign_up("ada@example.com"), scene.sign_up("eve@example.com")
    laptop, phone = (browser(scene, ada.owner.user.id, agent) for agent in ("Laptop", "Phone"))
    stranger = browser(scene, eve.owner.user.id, "Eve's")
    answer = laptop.get(PATH)
    items = {one["user_agent"]: one for one in answer.json()["items"]}
    assert set(items) == {"", "Laptop", "Phone"}
    assert [agent for agent, one in items.items() if one["is_current"]] == ["Laptop"]
    for client in (laptop, phone):
        assert client.cookies[COOKIE] not in answer.text
        assert hash_token(client.cookies[COOKIE]) not in answer.text
    refused = assert_error(stranger.delete(f"{PATH}/{items['Phone']['id']}"), 404, "not_found")
    assert refused == stranger.delete(f"{PATH}/ses_none").json()
    assert phone.get(PATH).status_code == 200
    assert laptop.delete(f"{PATH}/{items['Phone']['id']}").status_code == 204
    assert_error(phone.get(PATH), 401, "unauthorized")
    assert_error(laptop.delete(f"{PATH}/{items['Phone']['id']}"), 404, "not_found")
    assert scene.count("audit_log", "action = 'session.end'") == 1


def test_everywhere_but_here(scene: Scene) -> None:
    ada, eve = scene.sign_up("ada@example.com"), scene.sign_up("eve@example.com")
    laptop, phone = (browser(scene, ada.owner.user.id, agent) for agent in ("Laptop", "Phone"))
    stranger = browser(scene, eve.owner.user.id, "Eve's")
    assert laptop.delete(PATH).json() == {"ended": 2}
    assert laptop.delete(PATH).json() == {"ended": 0}
    assert [client.get(PATH).status_code for client in (laptop, phone, stranger)] == [200, 401, 200]


def test_a_key_ends_sessions_only_with_the_scope_for_it(
    http: TestClient, scene: Scene, key_of: Callable[..., dict[str, str]]
) -> None:
    ada = scene.sign_up()
    reader = key_of(ada, "read")
    assert [one["is_current"] for one in http.get(PATH, headers=reader).json()["items"]] == [False]
    one = http.get(PATH, headers=reader).json()["items"][0]["id"]
    for headers in (reader, key_of(ada)):
        assert_error(http.delete(PATH, headers=headers), 403, "forbidden")
        assert_error(http.delete(f"{PATH}/{one}", headers=headers), 403, "forbidden")
    assert scene.count("login_session") == 1
    assert http.delete(PATH, headers=key_of(ada, "write", "keys")).json() == {"ended": 1}
    assert scene.count("login_session") == 0


def test_another_sites_page_ends_nothing(scene: Scene) -> None:
    ada = scene.sign_up()
    laptop = browser(scene, ada.owner.user.id, "Laptop")
    assert_error(laptop.delete(PATH, headers={"origin": "https://evil.example"}), 403, "forbidden")
    assert scene.count("login_session") == 2
