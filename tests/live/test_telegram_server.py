"""The test server behaves as Telegram's documentation says, so that tests built on it mean something."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.live.telegram_methods import Bot
from tests.live.telegram_server import TelegramServer

TOKEN = "123456789:AAF0hKZ3xyt-_ABCDEFGHIJKLMNOPQRSTUV"


@pytest.fixture
def server() -> Iterator[TelegramServer]:
    with TelegramServer() as running:
        yield running


@pytest.fixture
def bot(server: TelegramServer) -> Bot:
    return server.add_bot(TOKEN)


@pytest.fixture
def client(server: TelegramServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as made:
        yield made


def call(client: httpx2.Client, method: str, token: str = TOKEN, **params: Any) -> dict[str, Any]:
    """The whole answer of one JSON call."""
    answer = client.post(f"/bot{token}/{method}", json=params)
    body: dict[str, Any] = answer.json()
    assert body["ok"] is (answer.status_code == 200)
    assert body["ok"] or body["error_code"] == answer.status_code
    return body


def test_who_am_i(client: httpx2.Client, bot: Bot) -> None:
    me = call(client, "getMe")["result"]
    assert {"id": 123456789, "is_bot": True, "first_name": "Haven", "username": "haven_test_bot"}.items() <= me.items()
    assert call(client, "GETME")["ok"]


def test_unknown_tokens_and_methods(client: httpx2.Client, bot: Bot) -> None:
    assert call(client, "getMe", "1234567:" + "x" * 35)["error_code"] == 401
    assert call(client, "getMe", "nonsense")["error_code"] == 404
    assert call(client, "getFileContents")["error_code"] == 404
    assert client.get("/").status_code == 404


def test_four_ways_to_pass_parameters(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    server.say(bot, 7, "hi")
    path, params = f"/bot{TOKEN}/sendMessage", {"chat_id": "7", "text": "grüße & co"}
    answers = [
        client.get(path, params=params),
        client.post(path, json=params),
        client.post(path, data=params),
        client.post(path, files={name: (None, value) for name, value in params.items()}),
    ]
    assert [answer.json()["result"]["text"] for answer in answers] == ["grüße & co"] * 4
    assert len(server.sent(bot)) == 4
    broken = client.post(path, content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["ok"]) == (400, False)


def test_updates_come_until_they_are_confirmed(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    ids = [server.say(bot, 7, f"message {number}", username="alex")["update_id"] for number in range(3)]
    for _ in range(2):
        assert [one["update_id"] for one in call(client, "getUpdates")["result"]] == ids
    assert [one["update_id"] for one in call(client, "getUpdates", limit=1)["result"]] == ids[:1]
    assert [one["update_id"] for one in call(client, "getUpdates", offset=ids[1])["result"]] == ids[1:]
    assert [one["update_id"] for one in call(client, "getUpdates", offset=-1)["result"]] == ids[2:]
    assert call(client, "getUpdates", offset=ids[2] + 1)["result"] == []
    assert server.unread(bot) == []


def test_the_shape_of_a_message(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    server.say(bot, 7, "/start abc", username="alex")
    server.say(bot, 8, "hello all", chat_type="group")
    private, group = (one["message"] for one in call(client, "getUpdates")["result"])
    assert private["from"] == {"id": 7, "is_bot": False, "first_name": "Person 7", "username": "alex"}
    assert private["chat"] == {"id": 7, "type": "private", "first_name": "Person 7", "username": "alex"}
    assert private["entities"] == [{"type": "bot_command", "offset": 0, "length": 6}]
    assert (group["chat"]["id"], group["chat"]["type"], group["from"]["id"]) == (-8, "group", 8)
    assert isinstance(private["date"], int)
    assert private["message_id"] != group["message_id"]


def test_a_long_poll_ends_with_the_first_message(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    found: list[Any] = []
    poller = threading.Thread(target=lambda: found.extend(call(client, "getUpdates", timeout=20)["result"]))
    poller.start()
    server.wait_polling(bot)
    server.say(bot, 7, "hi")
    poller.join(30)
    assert [one["message"]["text"] for one in found] == ["hi"]


def test_the_older_of_two_pollers_gets_a_conflict(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    older: list[dict[str, Any]] = []
    poller = threading.Thread(target=lambda: older.append(call(client, "getUpdates", timeout=20)))
    poller.start()
    server.wait_polling(bot)
    assert call(client, "getUpdates")["ok"]
    poller.join(30)
    assert older[0]["error_code"] == 409
    assert "terminated by other getUpdates request" in older[0]["description"]


def test_a_webhook_excludes_polling(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    server.say(bot, 7, "hi")
    call(client, "setWebhook", url="https://example.com/hook")
    assert call(client, "getUpdates")["error_code"] == 409
    info = call(client, "getWebhookInfo")["result"]
    assert info == {"url": "https://example.com/hook", "has_custom_certificate": False, "pending_update_count": 1}
    call(client, "deleteWebhook", drop_pending_updates=False)
    assert len(call(client, "getUpdates")["result"]) == 1
    call(client, "deleteWebhook", drop_pending_updates=True)
    assert call(client, "getUpdates")["result"] == []


def test_messages_are_checked_edited_and_deleted(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    assert "chat not found" in call(client, "sendMessage", chat_id=7, text="first")["description"]
    server.say(bot, 7, "hi")
    assert "empty" in call(client, "sendMessage", chat_id=7, text=" ")["description"]
    assert "too long" in call(client, "sendMessage", chat_id=7, text="x" * 4097)["description"]
    made = call(client, "sendMessage", chat_id=7, text="<b>1 &lt; 2</b>", parse_mode="HTML")["result"]
    assert made["text"] == "1 < 2"
    assert made["from"]["is_bot"] is True
    where = {"chat_id": 7, "message_id": made["message_id"]}
    assert call(client, "editMessageText", **where, text="2")["result"]["text"] == "2"
    assert "not modified" in call(client, "editMessageText", **where, text="2")["description"]
    assert call(client, "setMessageReaction", **where, reaction=[])["result"] is True
    assert [(one.text, one.edits) for one in server.sent(bot)] == [("2", ["1 < 2"])]
    assert call(client, "deleteMessage", **where)["result"] is True
    assert call(client, "deleteMessage", **where)["error_code"] == 400
    assert server.sent(bot) == []


def test_the_rest_the_gateway_calls(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    server.say(bot, 7, "hi")
    commands = [{"command": "new", "description": "New session"}]
    assert call(client, "setMyCommands", commands=commands)["result"] is True
    assert client.get(f"/bot{TOKEN}/setMyCommands", params={"commands": json.dumps(commands)}).json()["ok"]
    assert call(client, "getMyCommands")["result"] == commands
    assert call(client, "deleteMyCommands")["result"] is True
    assert call(client, "getMyCommands")["result"] == []
    assert call(client, "sendChatAction", chat_id=7, action="typing")["result"] is True
    assert "sendChatAction" in server.calls(bot)
    assert call(client, "getChat", chat_id=7)["result"]["type"] == "private"


def test_faults_on_demand(client: httpx2.Client, server: TelegramServer, bot: Bot) -> None:
    server.fail(bot, "getMe", 429, "Too Many Requests: retry after 3", retry_after=3)
    assert call(client, "getMe")["parameters"] == {"retry_after": 3}
    assert call(client, "getMe")["ok"]
    server.fail(bot, "getMe", 0)
    with pytest.raises(httpx2.TransportError):
        client.get(f"/bot{TOKEN}/getMe")


def test_waiting_ends_with_a_timeout(server: TelegramServer, bot: Bot) -> None:
    with pytest.raises(TimeoutError):
        server.wait_sent(bot, timeout=0.01)


def test_as_a_program() -> None:
    command = [sys.executable, "-m", "tests.live.telegram_server", "--port", "0", "--bot", f"{TOKEN}=my_test_bot"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            with httpx2.Client(base_url=program.stdout.readline().strip(), timeout=30) as client:
                assert call(client, "getMe")["result"]["username"] == "my_test_bot"
                said = client.post("/control/say", json={"token": TOKEN, "user_id": 7, "text": "hi"}).json()
                assert said["result"]["message"]["text"] == "hi"
                call(client, "sendMessage", chat_id=7, text="hello")
                sent = client.get("/control/sent", params={"token": TOKEN}).json()["result"]
                assert [one["text"] for one in sent] == ["hello"]
                assert "sendMessage" in client.get("/control/calls", params={"token": TOKEN}).json()["result"]
                assert client.get("/control/nonsense", params={"token": TOKEN}).status_code == 400
        finally:
            program.terminate()
