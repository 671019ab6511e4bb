"""Telegram bots. Source: Telegram Bot API 10.1 (getMe, getUpdates, sendMessage, deleteWebhook).

A bot token is part of every request's path, so it must not reach a log, an exception or a repr from here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx2
from pydantic import Field as Setting
from pydantic import field_validator

from clawhaven.core.languages import N_
from clawhaven.core.secrets import same
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.core.tls import authorities
from clawhaven.ports.channel import BotInfo, ChannelConfig, Field, OwnerClaim
from clawhaven.ports.errors import ProviderError

DEFAULT_API_URL: Final = "https://api.telegram.org"
TOKEN_PATTERN: Final = r"^[0-9]{6,12}:[A-Za-z0-9_-]{30,64}$"  # noqa: S105 - a pattern; today's tokens have 8-10 and 35
SECRET_PATH: Final = "/telegram/botToken"  # noqa: S105 - where the gateway finds it, not the secret

_USERNAME: Final = re.compile(r"[A-Za-z0-9_]{3,32}")
_USER_ID: Final = re.compile(r"[1-9][0-9]{0,15}")
_START_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 10.0
_LONGEST_POLL_SECONDS: Final = 50
_CLAIMED: Final = (
    "Done: this assistant is yours now and answers nobody else. Give it a moment to start, then say hello."
)


class _Redaction(logging.Filter):
    """httpx2 logs the address of every request at INFO; Telegram's hold the token."""

    _token = re.compile(r"/bot[0-9]+:[A-Za-z0-9_-]+")

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if self._token.search(text):
            record.msg, record.args = self._token.sub("/bot<token>", text), ()
        return True


logging.getLogger("httpx2").addFilter(_Redaction())


class Telegram:
    """Implements ports.channel.ClaimableChannel."""

    name = "telegram"
    label = "Telegram"
    pairing: Literal["none", "qr", "code"] = "code"
    fields = (
        Field(
            name="telegram_bot_token",
            label=N_("Bot token"),
            is_secret=True,
            pattern=TOKEN_PATTERN,
            help=N_("Open @BotFather in Telegram, send /newbot, follow the questions and copy the token it gives you."),
            help_url="https://core.telegram.org/bots/tutorial#obtain-your-bot-token",
        ),
    )

    class Options(EnvSettings):
        """Settings of the Telegram channel."""

        telegram_api_url: str = Setting(DEFAULT_API_URL, description="Telegram's Bot API, or a server of your own.")

        @field_validator("telegram_api_url")
        @classmethod
        def _check_address(cls, value: str) -> str:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError("TELEGRAM_API_URL must be an http or https address")
            return value.rstrip("/")

    def __init__(self, options: Options, settings: Settings) -> None:
        self._api_url = options.telegram_api_url

    def probe(self, credentials: Mapping[str, str]) -> BotInfo:
        """Ask Telegram whose token this is (getMe).

        ProviderError: permanent `invalid_bot_token` when Telegram does not know it or it is no bot's; transient
        `rate_limited` or `telegram_down` otherwise.
        """
        me = self._call(_token(credentials), "getMe")
        if not isinstance(me, dict) or not isinstance(me.get("id"), int):
            raise _unexpected()
        username = str(me.get("username") or "")
        if me.get("is_bot") is not True or not _USERNAME.fullmatch(username):
            raise ProviderError("This token does not belong to a bot.", permanent=True, code="invalid_bot_token")
        name = str(me.get("first_name") or username)
        return BotInfo(id=str(me["id"]), username=username, display_name=name, url=f"https://t.me/{username}")

    def config(
        self, credentials: Mapping[str, str], dm_policy: str, owners: tuple[str, ...], secrets_provider: str
    ) -> ChannelConfig:
        """The gateway's `channels.telegram`, in which a stranger can never cause a model call unless asked for.

        `allowlist` serves `owners` only; without any the channel is off, so that `claim_owner` may read the bot's
        messages. `pairing` serves `owners` and gives others a code to be approved. `open` serves everybody.
        `disabled` serves nobody. ValueError for another policy or an owner that is not a user id.
        """
        if dm_policy not in ("allowlist", "pairing", "open", "disabled"):
            raise ValueError(f"There is no DM policy {dm_policy!r}.")
        if any(not _USER_ID.fullmatch(owner) for owner in owners):
            raise ValueError("An owner on Telegram is a numeric user id.")
        is_waiting = dm_policy == "allowlist" and not owners
        config: dict[str, Any] = {
            "enabled": not is_waiting,
            "botToken": {"source": "file", "provider": secrets_provider, "id": SECRET_PATH},
            "dmPolicy": "disabled" if is_waiting else dm_policy,
            "allowFrom": ["*"] if dm_policy == "open" else list(owners),
            "groupPolicy": "allowlist",  # with no `groups` beside it every group is blocked
            "configWrites": False,
        }
        if self._api_url != DEFAULT_API_URL:
            config["apiRoot"] = self._api_url
        return ChannelConfig(config=config, secrets={SECRET_PATH: _token(credentials)})

    def claim_link(self, bot: BotInfo, token: str) -> str:
        """The one-time link that makes its opener send `/start <token>` to the bot. ValueError for another shape."""
        if not _START_TOKEN.fullmatch(token):
            raise ValueError("A start token has 1 to 64 letters, digits, - or _.")
        return f"{bot.url}?start={token}"

    def claim_owner(
        self, credentials: Mapping[str, str], token: str, offset: int, timeout_seconds: int = 25
    ) -> OwnerClaim:
        """One long poll for `/start <token>` in a private chat. It finds only: nobody gets an answer.

        Only while the gateway's own Telegram channel is off: Telegram allows one reader per bot. Messages before
        `offset` are used up; the claim itself and what follows stay with Telegram until `confirm_claim`, so that
        whoever dies before the claim is recorded finds it again, with any offset that a look has given.
        ProviderError: as `probe`, and transient `bot_in_use` when another program reads this bot's messages.
        """
        if not _START_TOKEN.fullmatch(token):
            raise ValueError("A start token has 1 to 64 letters, digits, - or _.")
        wait = max(0, min(timeout_seconds, _LONGEST_POLL_SECONDS))
        # No allowed_updates: Telegram would remember the choice for the gateway's own polls.
        updates = self._poll(_token(credentials), {"offset": offset, "timeout": wait}, wait)
        next_offset = offset
        for update in updates:
            next_offset = max(next_offset, int(update["update_id"]) + 1)
            sender = _claimant(update, token)
            if sender is not None:
                return OwnerClaim(str(sender["id"]), _username(sender), next_offset)
        return OwnerClaim(None, None, next_offset)

    def confirm_claim(self, credentials: Mapping[str, str], next_offset: int, user_id: str) -> None:
        """Use up the claim's message, or the gateway would read "/start …" as its first, and tell the owner.

        After the claim is recorded and before the gateway's own channel is on. A repeat sends the sentence again.
        ProviderError: as `claim_owner`; none when only the sentence could not be delivered.
        ValueError for a user id that is none.
        """
        if not _USER_ID.fullmatch(user_id):
            raise ValueError("An owner on Telegram is a numeric user id.")
        bot = _token(credentials)
        self._poll(bot, {"offset": next_offset, "timeout": 0, "limit": 1}, 0)
        self._tell(bot, int(user_id))

    def _poll(self, bot: str, params: dict[str, Any], wait: int) -> list[dict[str, Any]]:
        try:
            found = self._call(bot, "getUpdates", params, wait)
        except ProviderError as error:
            if error.code != "webhook_set":
                raise
            found = None
        if found is None:  # the bot came with somebody's webhook; the gateway would remove it as well
            self._call(bot, "deleteWebhook", {"drop_pending_updates": False})
            found = self._call(bot, "getUpdates", params, wait)
        if not isinstance(found, list) or not all(
            isinstance(update, dict) and isinstance(update.get("update_id"), int) for update in found
        ):
            raise _unexpected()
        return found

    def _tell(self, bot: str, chat_id: int) -> None:
        try:
            self._call(bot, "sendMessage", {"chat_id": chat_id, "text": _CLAIMED})
        except ProviderError as error:  # the claim stands whether or not its answer arrived
            logging.getLogger(__name__).info("telegram: a claim's answer was not sent: %s", error.code)

    def _call(self, bot: str, method: str, params: Mapping[str, Any] | None = None, wait: int = 0) -> Any:
        """The `result` of one call. Errors carry neither the token nor an exception that knows the address."""
        timeout = httpx2.Timeout(_ANSWER_SECONDS + wait, connect=_CONNECT_SECONDS)
        trouble = ""
        answer: httpx2.Response | None = None
        try:
            with httpx2.Client(timeout=timeout, follow_redirects=False, verify=authorities()) as client:
                url = f"{self._api_url}/bot{bot}/{method}"
                answer = client.get(url) if params is None else client.post(url, json=dict(params))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            trouble = type(error).__name__
        if answer is None:
            raise ProviderError(f"Telegram cannot be reached ({trouble}).", code="telegram_down")
        return _result(answer)


def _token(credentials: Mapping[str, str]) -> str:
    token = credentials.get("telegram_bot_token", "")
    if not re.fullmatch(TOKEN_PATTERN, token):
        raise ProviderError(
            "This is not a Telegram bot token; @BotFather's look like 123456789:ABC….",
            permanent=True,
            code="invalid_bot_token",
        )
    return token


def _result(answer: httpx2.Response) -> Any:
    try:
        body = answer.json()
    except ValueError:
        body = None
    is_telegrams = isinstance(body, dict) and isinstance(body.get("ok"), bool)
    if is_telegrams and body["ok"] and answer.status_code == 200:
        return body.get("result")
    status = answer.status_code
    if status == 401 or (status == 404 and is_telegrams):  # another server's 404 is a wrong address, not a wrong token
        raise ProviderError("Telegram does not know this bot token.", permanent=True, code="invalid_bot_token")
    if status == 429:
        raise ProviderError("Telegram asks us to wait.", code="rate_limited")
    if status == 409 and is_telegrams:
        if "webhook" in str(body.get("description")).lower():
            raise ProviderError("This bot has a webhook, which keeps its messages from us.", code="webhook_set")
        raise ProviderError(
            "Another program is reading this bot's messages; Telegram allows one at a time.", code="bot_in_use"
        )
    if status >= 500:
        raise ProviderError(f"Telegram is in trouble ({status}).", code="telegram_down")
    if is_telegrams and 400 <= status < 500:
        raise ProviderError(f"Telegram refused the call ({status}).", permanent=True, code="telegram_refused")
    raise _unexpected()


def _unexpected() -> ProviderError:
    return ProviderError("TELEGRAM_API_URL did not answer as Telegram does.", code="unexpected_answer")


def _claimant(update: Mapping[str, Any], token: str) -> dict[str, Any] | None:
    """Who sent `/start <token>`: a person, in a private chat; None for every other update."""
    message = update.get("message")
    if not isinstance(message, dict):
        return None
    chat, sender, text = message.get("chat"), message.get("from"), message.get("text")
    if not isinstance(chat, dict) or not isinstance(sender, dict) or not isinstance(text, str):
        return None
    is_private = chat.get("type") == "private" and chat.get("id") == sender.get("id")
    if not is_private or sender.get("is_bot") is not False or not isinstance(sender.get("id"), int):
        return None
    return sender if text.isascii() and same(text, f"/start {token}") else None


def _username(sender: Mapping[str, Any]) -> str | None:
    username = sender.get("username")
    return username if isinstance(username, str) and _USERNAME.fullmatch(username) else None
