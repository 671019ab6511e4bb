"""Connecting a bot: checked at its network, one bot for one assistant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.billing.plans import Catalogue
from clawhaven.instances.states import State
from tests.api.conftest import assert_error
from tests.workflows.scene import TOKEN, Scene, ScriptedTelegram

Keys = Callable[..., dict[str, str]]


def test_connect_list_replace_and_take_away(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    path, me = f"/api/instances/{ada.instance.id}", key_of(ada)
    offered = http.get(f"{path}/channels", headers=me).json()
    assert offered["items"] == []
    assert offered["available"][0]["fields"][0]["name"] == "telegram_bot_token"
    made = http.put(f"{path}/channels/telegram", json={"telegram_bot_token": f" {TOKEN}\n"}, headers=me)
    assert (made.status_code, made.json()["status"]) == (200, "waiting_for_owner")
    assert TOKEN not in made.text
    assert scene.count("operation", "kind = 'configure'") == 1
    first = made.json()["claim_url"]
    again = http.post(f"{path}/telegram/connect", json={"telegram_bot_token": TOKEN}, headers=me).json()
    assert again["claim_url"] != first
    assert scene.count("channel_connection") == 1
    heard = http.post(f"{path}/channels/telegram/claim", headers=me)
    assert (heard.status_code, heard.json()["claim_url"]) == (202, again["claim_url"])
    assert http.delete(f"{path}/channels/telegram", headers=me).status_code == 204
    assert_error(http.post(f"{path}/channels/telegram/claim", headers=me), 404, "not_found")
    assert http.get(f"{path}/channels", headers=me).json()["items"] == []


def test_one_bot_serves_one_assistant(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada, eve = scene.live("ada@example.com"), scene.live("eve@example.com")
    scene.connected(ada)
    url, body = f"/api/instances/{eve.instance.id}/channels/telegram", {"telegram_bot_token": TOKEN}
    assert_error(http.put(url, json=body, headers=key_of(eve)), 409, "bot_in_use", "telegram_bot_token")
    reissued = {"telegram_bot_token": TOKEN.replace("A", "C")}
    assert_error(http.put(url, json=reissued, headers=key_of(eve)), 409, "bot_in_use")
    assert scene.count("channel_connection") == 1
    http.delete(f"/api/instances/{ada.instance.id}/channels/telegram", headers=key_of(ada))
    assert http.put(url, json=body, headers=key_of(eve)).status_code == 200


def test_what_the_network_says_is_passed_on(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    url, me = f"/api/instances/{ada.instance.id}/channels", key_of(ada)
    refused = {"telegram_bot_token": ScriptedTelegram.REFUSED}
    assert_error(http.put(f"{url}/telegram", json=refused, headers=me), 400, "invalid_bot_token", "telegram_bot_token")
    down = {"telegram_bot_token": ScriptedTelegram.DOWN}
    assert_error(http.put(f"{url}/telegram", json=down, headers=me), 503, "unavailable", "telegram_bot_token")
    for channel in ("irc", "Telegram", "..%2Ftelegram", "{{7*7}}"):
        answer = http.put(f"{url}/{channel}", json={"telegram_bot_token": TOKEN}, headers=me)
        assert answer.status_code == (404 if "%2F" in channel else 400), channel
    for body in ({}, {"token": TOKEN}, {"telegram_bot_token": ""}, {"telegram_bot_token": "١٢٣٤٥٦٧:" + "A" * 35}):
        assert_error(http.put(f"{url}/telegram", json=body, headers=me), 400, "invalid_bot_token")
    assert scene.count("channel_connection") == 0


def test_a_draft_takes_a_bot_and_a_deleted_one_does_not(http: TestClient, scene: Scene, key_of: Keys) -> None:
    body = {"telegram_bot_token": TOKEN}
    gone = scene.put_in(State.DELETED)
    url = f"/api/instances/{gone.instance.id}/channels/telegram"
    assert_error(http.put(url, json=body, headers=key_of(gone)), 400, "validation_failed", "instance_id")
    draft = scene.put_in(State.PENDING)
    assert http.put(
        f"/api/instances/{draft.instance.id}/channels/telegram", json=body, headers=key_of(draft)
    ).is_success
    assert scene.count("operation") == 0


def test_a_plan_that_names_its_channels_has_no_others(scene: Scene, key_of: Keys) -> None:
    ada = scene.live()
    named = {plan.id: dataclasses.replace(plan, channels=("whatsapp",)) for plan in scene.ctx.plans}
    app = create_app(dataclasses.replace(scene.ctx, plans=Catalogue(named)))
    url = f"/api/instances/{ada.instance.id}/channels/telegram"
    with TestClient(app, base_url=scene.ctx.settings.base_url) as http:
        refused = http.put(url, json={"telegram_bot_token": TOKEN}, headers=key_of(ada))
    assert "has these channels: whatsapp" in assert_error(refused, 400, "validation_failed", "channel")["message"]
    assert scene.count("channel_connection") == 0
