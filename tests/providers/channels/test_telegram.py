"""The Telegram channel against a Bot API server on loopback."""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import ValidationError

from clawhaven.core.settings import Settings
from clawhaven.ports.channel import BotInfo, OwnerClaim
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.channels.telegram import Telegram
from tests.live.telegram_methods import Bot
from tests.live.telegram_server import TelegramServer

TOKEN = "123456789:AAF0hKZ3xyt-_ABCDEFGHIJKLMNOPQRSTUV"
CREDENTIALS = {"telegram_bot_token": TOKEN}
CLAIM = "kq3-CLAIM_token-0123456789abcdefghijklmnopqr"
OWNER, STRANGER = 424242, 777


@pytest.fixture
def server() -> Iterator[TelegramServer]:
    with TelegramServer() as running:
        yield running


@pytest.fixture
def bot(server: TelegramServer) -> Bot:
    return server.add_bot(TOKEN, "alex_assistant_bot", "Alex")


def make(url: str = "https://api.telegram.org") -> Telegram:
    """The channel, pointed at `url`."""
    return Telegram(Telegram.Options(_env_file=None, telegram_api_url=url), Settings(_env_file=None))


@pytest.fixture
def channel(server: TelegramServer, bot: Bot) -> Telegram:
    return make(server.url)


def refusal(channel: Telegram, token: str = TOKEN) -> ProviderError:
    """What probing `token` raises."""
    with pytest.raises(ProviderError) as caught:
        channel.probe({"telegram_bot_token": token})
    return caught.value


def test_probe_tells_who_the_bot_is(channel: Telegram) -> None:
    assert channel.probe(CREDENTIALS) == BotInfo(
        id="123456789", username="alex_assistant_bot", display_name="Alex", url="https://t.me/alex_assistant_bot"
    )


@pytest.mark.parametrize(
    "token",
    [
        "",
        "hello",
        "123456789",
        "123456789:short",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN + "/getMe",
        TOKEN.replace(":", "/"),
        "../" + TOKEN,
        "12345678901234567890:" + "A" * 35,
    ],
)
def test_what_has_not_the_shape_of_a_token_is_not_sent(
    channel: Telegram, server: TelegramServer, bot: Bot, token: str
) -> None:
    error = refusal(channel, token)
    assert (error.permanent, error.code) == (True, "invalid_bot_token")
    assert server.calls(bot) == []


def test_a_token_telegram_does_not_know(channel: Telegram, server: TelegramServer, bot: Bot) -> None:
    error = refusal(channel, "987654321:" + "B" * 35)
    assert (error.permanent, error.code) == (True, "invalid_bot_token")
    server.revoke(bot)
    assert refusal(channel).code == "invalid_bot_token"


def test_telegrams_404_is_an_invalid_token(channel: Telegram, server: TelegramServer, bot: Bot) -> None:
    server.fail(bot, "getMe", 404, "Not Found")
    assert refusal(channel).permanent


class _WebServer(BaseHTTPRequestHandler):
    """Some web server that is not Telegram's."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def test_another_servers_404_is_a_wrong_address_not_a_wrong_token() -> None:
    with HTTPServer(("127.0.0.1", 0), _WebServer) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        error = refusal(make(f"http://127.0.0.1:{other.server_address[1]}"))
    assert (error.permanent, error.code) == (False, "unexpected_answer")


def test_a_person_is_not_a_bot(server: TelegramServer) -> None:
    server.add_bot(TOKEN, "somebody", is_bot=False)
    error = refusal(make(server.url))
    assert (error.permanent, error.code) == (True, "invalid_bot_token")


@pytest.mark.parametrize(
    ("status", "code"), [(429, "rate_limited"), (500, "telegram_down"), (502, "telegram_down"), (0, "telegram_down")]
)
def test_trouble_is_worth_a_retry(channel: Telegram, server: TelegramServer, bot: Bot, status: int, code: str) -> None:
    server.fail(bot, "getMe", status, "trouble")
    error = refusal(channel)
    assert (error.permanent, error.code) == (False, code)
    assert channel.probe(CREDENTIALS).id == "123456789"


def test_nobody_there_is_worth_a_retry() -> None:
    error = refusal(make("http://127.0.0.1:9"))
    assert (error.permanent, error.code) == (False, "telegram_down")


def test_the_token_is_in_no_log_and_no_error(
    channel: Telegram, server: TelegramServer, bot: Bot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx2")  # the product logs less of it
    channel.probe(CREDENTIALS)
    server.fail(bot, "getMe", 500, "trouble")
    errors = [refusal(channel), refusal(make("http://127.0.0.1:9")), refusal(channel, TOKEN + "!")]
    assert any("/bot<token>/getMe" in record.getMessage() for record in caplog.records), "httpx2 still logs addresses"
    texts = [caplog.text, repr(channel), repr(channel.__dict__)]
    for error in errors:
        assert error.__cause__ is None
        assert error.__context__ is None
        texts += [str(error), repr(error), "".join(traceback.format_exception(error))]
    assert [text for text in texts if TOKEN in text] == []


def test_an_address_that_is_none_is_refused_at_the_start() -> None:
    for address in ("ftp://x", "api.telegram.org", "http://", "http://x/?a=b"):
        with pytest.raises(ValidationError):
            Telegram.Options(_env_file=None, telegram_api_url=address)


def test_config_for_known_owners() -> None:
    made = make().config(CREDENTIALS, "allowlist", ("424242", "7"), "cell")
    assert made.config == {
        "enabled": True,
        "botToken": {"source": "file", "provider": "cell", "id": "/telegram/botToken"},
        "dmPolicy": "allowlist",
        "allowFrom": ["424242", "7"],
        "groupPolicy": "allowlist",
        "configWrites": False,
    }
    assert made.secrets == {"/telegram/botToken": TOKEN}
    assert TOKEN not in json.dumps(made.config)


def test_config_before_an_owner_is_known_serves_nobody() -> None:
    waiting = make().config(CREDENTIALS, "allowlist", (), "cell").config
    assert (waiting["enabled"], waiting["dmPolicy"], waiting["allowFrom"]) == (False, "disabled", [])
    pairing = make().config(CREDENTIALS, "pairing", (), "cell").config
    assert (pairing["enabled"], pairing["dmPolicy"], pairing["allowFrom"]) == (True, "pairing", [])


def test_only_open_serves_everybody() -> None:
    channel = make()
    everybody = {
        policy: "*" in channel.config(CREDENTIALS, policy, ("7",), "cell").config["allowFrom"]
        for policy in ("allowlist", "pairing", "open", "disabled")
    }
    assert everybody == {"allowlist": False, "pairing": False, "open": True, "disabled": False}


def test_another_api_address_reaches_the_gateway() -> None:
    made = make("http://127.0.0.1:8443/").config(CREDENTIALS, "pairing", (), "cell")
    assert made.config["apiRoot"] == "http://127.0.0.1:8443"


@pytest.mark.parametrize(
    ("policy", "owner"), [("everyone", "7"), ("allowlist", "*"), ("allowlist", "@me"), ("open", "-7")]
)
def test_config_refuses_what_it_does_not_know(policy: str, owner: str) -> None:
    with pytest.raises(ValueError, match=r"policy|owner"):
        make().config(CREDENTIALS, policy, (owner,), "cell")


def test_the_claim_link(channel: Telegram) -> None:
    link = channel.claim_link(channel.probe(CREDENTIALS), CLAIM)
    assert link == f"https://t.me/alex_assistant_bot?start={CLAIM}"
    for wrong in ("", "a b", "x" * 65, "a&b"):
        with pytest.raises(ValueError, match="start token"):
            channel.claim_link(channel.probe(CREDENTIALS), wrong)
        with pytest.raises(ValueError, match="start token"):
            channel.claim_owner(CREDENTIALS, wrong, 0, 0)


def test_whoever_opens_the_link_becomes_the_owner(channel: Telegram, server: TelegramServer, bot: Bot) -> None:
    claims: list[OwnerClaim] = []
    waiting = threading.Thread(target=lambda: claims.append(channel.claim_owner(CREDENTIALS, CLAIM, 0, 20)))
    waiting.start()
    server.wait_polling(bot)
    update = server.say(bot, OWNER, f"/start {CLAIM}", username="alex")
    waiting.join(30)
    assert claims == [OwnerClaim(str(OWNER), "alex", update["update_id"] + 1)]
    channel.confirm_claim(CREDENTIALS, claims[0].next_offset, str(OWNER))
    (answer,) = server.wait_sent(bot)
    assert answer.chat_id == OWNER


def test_a_claim_that_is_not_recorded_is_neither_answered_nor_used_up(
    channel: Telegram, server: TelegramServer, bot: Bot
) -> None:
    server.say(bot, STRANGER, "let me in")
    start = server.say(bot, OWNER, f"/start {CLAIM}")
    hello = server.say(bot, OWNER, "hello")
    first = channel.claim_owner(CREDENTIALS, CLAIM, 0, 0)
    assert server.sent(bot) == []
    assert start in server.unread(bot)
    assert channel.claim_owner(CREDENTIALS, CLAIM, 0, 0) == first  # killed before its record, begun again
    for _ in range(2):
        channel.confirm_claim(CREDENTIALS, first.next_offset, str(OWNER))
        assert server.unread(bot) == [hello]
    assert {message.chat_id for message in server.sent(bot)} == {OWNER}


def test_a_claim_that_could_not_be_used_up_is_not_called_done(
    channel: Telegram, server: TelegramServer, bot: Bot
) -> None:
    server.say(bot, OWNER, f"/start {CLAIM}")
    found = channel.claim_owner(CREDENTIALS, CLAIM, 0, 0)
    server.fail(bot, "getUpdates", 502, "trouble")
    with pytest.raises(ProviderError) as caught:
        channel.confirm_claim(CREDENTIALS, found.next_offset, str(OWNER))
    assert not caught.value.permanent
    assert server.sent(bot) == []


@pytest.mark.parametrize("user_id", ["", "0", "-100200", "@alex", "1 OR 1"])
def test_nobody_is_told_under_an_id_that_is_none(
    channel: Telegram, server: TelegramServer, bot: Bot, user_id: str
) -> None:
    with pytest.raises(ValueError, match="user id"):
        channel.confirm_claim(CREDENTIALS, 1, user_id)
    assert server.calls(bot) == []


def test_nobody_else_is_owner_or_gets_an_answer(channel: Telegram, server: TelegramServer, bot: Bot) -> None:
    server.say(bot, STRANGER, "hello")
    server.say(bot, STRANGER, "/start")
    server.say(bot, STRANGER, "/start " + CLAIM[:-1])
    server.say(bot, STRANGER, f"/start {CLAIM} ")
    server.say(bot, STRANGER, f"/START {CLAIM}")
    server.say(bot, STRANGER, f"/start {CLAIM}", chat_type="supergroup")
    last = server.say(bot, STRANGER, "/start \ud800é")
    found = channel.claim_owner(CREDENTIALS, CLAIM, 0, 0)
    assert found == OwnerClaim(None, None, last["update_id"] + 1)
    assert server.sent(bot) == []


def test_the_gateway_gets_what_comes_after_the_claim_and_nothing_before(
    channel: Telegram, server: TelegramServer, bot: Bot
) -> None:
    server.say(bot, STRANGER, "let me in")
    server.say(bot, OWNER, f"/start {CLAIM}")
    hello = server.say(bot, OWNER, "hello")
    found = channel.claim_owner(CREDENTIALS, CLAIM, 0, 0)
    channel.confirm_claim(CREDENTIALS, found.next_offset, str(found.user_id))
    assert server.unread(bot) == [hello]


def test_a_long_backlog_is_read_in_pieces(channel: Telegram, server: TelegramServer, bot: Bot) -> None:
    for number in range(150):
        server.say(bot, STRANGER, f"spam {number}")
    server.say(bot, OWNER, f"/start {CLAIM}")
    first = channel.claim_owner(CREDENTIALS, CLAIM, 0, 0)
    assert first.user_id is None
    assert channel.claim_owner(CREDENTIALS, CLAIM, first.next_offset, 0).user_id == str(OWNER)


def test_a_claim_stands_though_its_answer_fails(channel: Telegram, server: TelegramServer, bot: Bot) -> None:
    server.say(bot, OWNER, f"/start {CLAIM}")
    server.fail(bot, "sendMessage", 403, "Forbidden: bot was blocked by the user")
    found = channel.claim_owner(CREDENTIALS, CLAIM, 0, 0)
    channel.confirm_claim(CREDENTIALS, found.next_offset, str(OWNER))
    assert (found.user_id, server.sent(bot), server.unread(bot)) == (str(OWNER), [], [])


def test_a_webhook_in_the_way_is_removed_without_losing_messages(
    channel: Telegram, server: TelegramServer, bot: Bot
) -> None:
    bot.webhook_url = "https://somebody.example/hook"
    server.say(bot, OWNER, f"/start {CLAIM}")
    assert channel.claim_owner(CREDENTIALS, CLAIM, 0, 0).user_id == str(OWNER)
    assert bot.webhook_url == ""


def test_two_readers_are_a_conflict_that_is_explained(channel: Telegram, server: TelegramServer, bot: Bot) -> None:
    errors: list[ProviderError] = []

    def wait() -> None:
        try:
            channel.claim_owner(CREDENTIALS, CLAIM, 0, 20)
        except ProviderError as error:
            errors.append(error)

    older = threading.Thread(target=wait)
    older.start()
    server.wait_polling(bot)
    assert channel.claim_owner(CREDENTIALS, CLAIM, 0, 0).user_id is None
    older.join(30)
    assert [(error.permanent, error.code) for error in errors] == [(False, "bot_in_use")]


def test_a_revoked_token_ends_the_waiting(channel: Telegram, server: TelegramServer, bot: Bot) -> None:
    server.revoke(bot)
    with pytest.raises(ProviderError) as caught:
        channel.claim_owner(CREDENTIALS, CLAIM, 0, 0)
    assert caught.value.permanent
