"""A Telegram bot of a real gateway: claimed by its owner's link, deaf to strangers before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.live.demo import Demo
from tests.live.telegram_server import TelegramServer

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

TOKEN = "123456789:AAF0hKZ3xyt-_ABCDEFGHIJKLMNOPQRSTUV"
OWNER, STRANGER = 424242, 777


@pytest.fixture
def telegram() -> Iterator[TelegramServer]:
    with TelegramServer() as running:
        yield running


@pytest.fixture
def demo(tmp_path: Path, telegram: TelegramServer) -> Iterator[Demo]:
    with Demo(tmp_path, TELEGRAM_API_URL=telegram.url) as made:
        yield made


def test_the_owner_is_served_and_strangers_cost_nothing(demo: Demo, telegram: TelegramServer) -> None:
    bot = telegram.add_bot(TOKEN, "ada_assistant_bot", "Ada")
    demo.start()
    unknown = demo.sign_up("eve@example.com", telegram_bot_token=TOKEN[:-1] + "X")
    assert (unknown.status_code, unknown.json()["error"]) == (400, "invalid_bot_token")
    ada = demo.join("ada@example.com", telegram_bot_token=TOKEN)
    second = demo.sign_up("bob@example.com", telegram_bot_token=TOKEN)
    assert (second.status_code, second.json()["error"]) == (409, "bot_in_use")
    ada.pay()
    ada.wait_for("active")

    channel = ada.get(f"{ada.path}/channels")["items"][0]
    assert (channel["status"], channel["bot_username"]) == ("waiting_for_owner", "ada_assistant_bot")
    claim = parse_qs(urlsplit(channel["claim_url"]).query)["start"][0]
    telegram.wait_polling(bot, 60)
    telegram.say(bot, STRANGER, "/start")
    telegram.say(bot, STRANGER, f"/start {claim[:-1]}", username="mallory")
    telegram.say(bot, STRANGER, "let me in")
    telegram.say(bot, STRANGER, f"/start {claim}", chat_type="group")
    telegram.wait(lambda: not bot.updates, 60, "the strangers' messages to be read")
    assert ada.get(f"{ada.path}/channels")["items"][0]["status"] == "waiting_for_owner"
    assert telegram.sent(bot) == []
    assert demo.count("usage") == 0

    telegram.say(bot, OWNER, f"/start {claim}", username="ada")
    (told,) = telegram.wait_sent(bot, 1, 60)
    assert told.chat_id == OWNER
    demo.wait(lambda: ada.get(f"{ada.path}/channels")["items"][0]["status"] == "connected", "the claim")
    assert ada.get(f"{ada.path}/channels")["items"][0]["claim_url"] is None
    asked = bot.poll
    demo.wait(lambda: "setMyCommands" in telegram.calls(bot) and bot.poll > asked, "the gateway to read the bot", 120)

    def answers(word: str) -> bool:
        return any(word in one.text and "sandbox model" in one.text for one in telegram.sent(bot, OWNER))

    telegram.say(bot, OWNER, "a first question", username="ada")
    telegram.wait(lambda: answers("a first question"), 120, "the first answer")
    demo.wait(lambda: demo.count("usage", "is_turn AND state = 'closed'") == 1, "its usage")
    calls = demo.count("usage")
    assert ada.get("/api/billing/usage")["total"]["price_micros"] > 0

    # The bot's messages are read in order, so the owner's second answer comes after the strangers were dealt with.
    telegram.say(bot, STRANGER, "and now?", username="mallory")
    telegram.say(bot, STRANGER, f"/start {claim}", username="mallory")
    telegram.say(bot, STRANGER, "a group for everybody", chat_type="group")
    telegram.say(bot, OWNER, "a second question", username="ada")
    telegram.wait(lambda: answers("a second question"), 120, "the second answer")
    demo.wait(lambda: demo.count("usage", "state = 'closed'") == 2 * calls, "its usage")
    assert demo.count("usage", "is_turn") == 2
    assert {one.chat_id for one in telegram.sent(bot)} == {OWNER}
    assert demo.rows("SELECT owner_external_id FROM channel_connection") == [(str(OWNER),)]
    assert demo.problems() == []

    assert ada.request("DELETE", ada.path).status_code == 202
    ada.wait_for("deleted")
    ada.wait_idle()
    freed = demo.sign_up("bob@example.com", telegram_bot_token=TOKEN)
    assert freed.status_code == 201, freed.text


def test_a_restart_while_waiting_for_the_owner_changes_nothing(demo: Demo, telegram: TelegramServer) -> None:
    bot = telegram.add_bot(TOKEN, "ada_assistant_bot", "Ada")
    demo.start()
    ada = demo.join("ada@example.com", telegram_bot_token=TOKEN)
    ada.pay()
    ada.wait_for("active")
    claim = parse_qs(urlsplit(ada.get(f"{ada.path}/channels")["items"][0]["claim_url"]).query)["start"][0]
    telegram.wait_polling(bot, 60)
    assert demo.stop() == 0
    assert demo.relatives() == []
    telegram.say(bot, STRANGER, "anybody home?")
    telegram.say(bot, OWNER, f"/start {claim}", username="ada")
    telegram.say(bot, OWNER, "a question in the dark", username="ada")
    demo.start()
    telegram.wait(
        lambda: any("a question in the dark" in one.text for one in telegram.sent(bot, OWNER)), 300, "the answer"
    )
    assert {one.chat_id for one in telegram.sent(bot)} == {OWNER}
    demo.wait(lambda: demo.count("usage", "state = 'closed'") == demo.count("usage"), "its usage")
    assert demo.count("usage", "is_turn") == 1
    ada.wait_idle()
    assert demo.keepers() == 1
