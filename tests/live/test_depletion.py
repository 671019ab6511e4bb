"""What a person reads from the real gateway when the money is used up; and that paying mends it at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from clawhaven.billing import plans
from tests.live.demo import Customer, Demo
from tests.live.telegram_server import TelegramServer

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

TOKEN = "123456789:AAF0hKZ3xyt-_ABCDEFGHIJKLMNOPQRSTUV"
OWNER = 424242
TOPUP_MICROS = 25_000_000
MOST_MESSAGES = 12
LOCK_WORDS = re.compile(r"(?i)unauthori[sz]ed|auth profile|cooldown|rate.?limit|something went wrong|try again later")
"""What OpenClaw tells people when it takes a refusal for a broken key or an overloaded model."""


@pytest.fixture
def telegram() -> Iterator[TelegramServer]:
    with TelegramServer() as running:
        yield running


def top_up(customer: Customer) -> None:
    """Through the payment page, until the money is there."""
    before = customer.get("/api/billing/balance")["balance_micros"]
    opened = customer.request("POST", "/api/billing/topup", json={"amount_micros": TOPUP_MICROS})
    assert opened.status_code == 201, opened.text
    paid = customer.demo.http.post(opened.json()["checkout_url"], data={"outcome": "paid"})
    assert paid.status_code == 303, paid.text
    customer.demo.wait(
        lambda: customer.get("/api/billing/balance")["balance_micros"] == before + TOPUP_MICROS, "the top-up"
    )


def test_a_wallet_runs_out_on_telegram_and_the_message_after_the_topup_is_answered(
    tmp_path: Path, telegram: TelegramServer
) -> None:
    bot = telegram.add_bot(TOKEN, "ada_assistant_bot", "Ada")
    with Demo(tmp_path, TELEGRAM_API_URL=telegram.url, WALLET_MINIMUM="9.50") as demo:
        demo.start()
        ada = demo.join("ada@example.com", plan="metered", telegram_bot_token=TOKEN)
        ada.pay()
        ada.wait_for("active")
        claim = parse_qs(urlsplit(ada.get(f"{ada.path}/channels")["items"][0]["claim_url"]).query)["start"][0]
        telegram.wait_polling(bot, 60)
        telegram.say(bot, OWNER, f"/start {claim}", username="ada")
        demo.wait(lambda: ada.get(f"{ada.path}/channels")["items"][0]["status"] == "connected", "the claim")
        asked = bot.poll
        demo.wait(lambda: "setMyCommands" in telegram.calls(bot) and bot.poll > asked, "the gateway", 120)

        def say(words: str) -> str:
            """A message of the owner's, and what came back to it."""
            known = len(telegram.sent(bot, OWNER))
            telegram.say(bot, OWNER, words, username="ada")
            telegram.wait(lambda: len(telegram.sent(bot, OWNER)) > known, 120, f"an answer to {words!r}")
            return "\n".join(one.text for one in telegram.sent(bot, OWNER)[known:])

        assert "question number 0" in say("question number 0")
        told = ""
        for number in range(1, MOST_MESSAGES):
            answer = say(f"question number {number}")
            if "/topup" in answer:
                told = answer
                break
            assert f"question number {number}" in answer
        link = f"http://127.0.0.1:{demo.port}/topup"
        assert link in told, "nobody told the owner where to top up"
        assert "balance is used up" in told
        assert not LOCK_WORDS.search(told)
        calls = demo.count("usage")
        assert link in say("are you there?")
        assert demo.count("usage") == calls, "a refusal was booked as a call"

        top_up(ada)
        answer = say("the very next question")
        assert "the very next question" in answer
        assert "sandbox model" in answer
        assert not LOCK_WORDS.search(answer)
        demo.wait(lambda: demo.count("usage", "state = 'open'") == 0, "its usage")
        assert ada.get("/api/billing/balance")["balance_micros"] >= 9_500_000
        assert demo.problems() == []


def own_plans(folder: Path) -> Path:
    """The plans as shipped, with two messages an hour for those whose model is included."""
    text = Path(plans.__file__).with_name("plans.toml").read_text()
    changed = text.replace("messages_per_hour = 100", "messages_per_hour = 2", 1)
    assert changed != text
    path = folder / "plans.toml"
    path.write_text(changed)
    return path


def replies(customer: Customer, words: str) -> tuple[str, Any]:
    """What the assistant says in the web chat, and the usage it showed."""
    found = customer.chat(words)
    return found["reply"], found["usage"]


def test_a_cap_and_a_missing_key_are_told_in_the_chat_and_mended_by_what_they_say(tmp_path: Path) -> None:
    with Demo(tmp_path, PLANS_FILE=str(own_plans(tmp_path))) as demo:
        demo.start()
        capped = demo.join("capped@example.com")
        capped.pay()
        keyless = demo.join("keyless@example.com", plan="monthly")
        keyless.pay()
        capped.wait_for("active")

        assert "the first" in replies(capped, "the first")[0]
        assert "the second" in replies(capped, "the second")[0]
        told, usage = replies(capped, "the third")
        assert "limit of 2 messages an hour" in told
        assert f"http://127.0.0.1:{demo.port}/usage" in told
        assert not LOCK_WORDS.search(told)
        assert not usage or usage["price_micros"] == 0

        keyless.wait_for("active")
        told, _ = replies(keyless, "hello")
        place = f"http://127.0.0.1:{demo.port}/instances/{keyless.instance_id}/configuration#api-key"
        assert place in told
        assert not LOCK_WORDS.search(told)
        assert demo.count("usage", f"instance_id = '{keyless.instance_id}'") == 0
        given = keyless.request("PUT", f"{keyless.path}/api-key", json={"api_key": "sk-sandbox-her-own-key"})
        assert given.status_code == 200, given.text
        keyless.wait_idle()

        def is_answered() -> bool:
            """The gateway takes a moment to follow to a model of the key's vendor."""
            found = keyless.request("POST", f"{keyless.path}/chat", json={"message": "with a key now"})
            return found.status_code == 200 and "with a key now" in found.json()["reply"]

        demo.wait(is_answered, "an answer with the key", 60)
        mine = f"instance_id = '{keyless.instance_id}' AND state = 'closed'"
        demo.wait(lambda: demo.count("usage", mine), "its usage")
        assert demo.count("usage", f"{mine} AND price_micros = 0 AND plan_mode = 'own_key'") == demo.count(
            "usage", mine
        )
        assert demo.problems() == []
