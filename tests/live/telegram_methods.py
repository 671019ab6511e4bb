"""What Telegram's Bot API answers: one function per method over one bot's state. Bot API 10.1.

Each is called with the bot's `changed` held. `telegram_server` puts them behind HTTP.
"""

from __future__ import annotations

import html
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LONGEST_POLL_SECONDS = 50
LONGEST_TEXT = 4096
_CONFLICT = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
_WEBHOOK = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)


class Refused(Exception):
    """An answer with ok: false."""

    def __init__(self, status: int, description: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(description)
        self.status, self.description, self.parameters = status, description, parameters


@dataclass
class Sent:
    """One message a bot sent. `text` is what the person sees (markup removed); `params` is what was asked for."""

    message_id: int
    chat_id: int
    text: str
    params: dict[str, Any]
    is_deleted: bool = False
    edits: list[str] = field(default_factory=list)


@dataclass
class Fault:
    """An answer to give instead of the real one, `times` more times. Status 0 closes the connection."""

    method: str
    status: int
    description: str
    times: int
    parameters: dict[str, Any] | None


@dataclass
class Bot:
    """One registered bot and all that happened to it."""

    token: str
    username: str
    first_name: str
    is_bot: bool
    changed: threading.Condition
    """Held by whoever reads or changes a bot; notified after each change."""
    is_closing: threading.Event
    updates: list[dict[str, Any]] = field(default_factory=list)
    chats: dict[int, dict[str, Any]] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    webhook_url: str = ""
    commands: list[Any] = field(default_factory=list)
    next_update_id: int = 100_001
    next_message_id: int = 1
    poll: int = 0
    """Number of the newest getUpdates; an older one that still waits has lost."""
    polling: int = 0

    def number_message(self) -> int:
        """A number no message of this bot has yet."""
        self.next_message_id += 1
        return self.next_message_id - 1

    def as_user(self) -> dict[str, Any]:
        """The bot as Telegram's User object."""
        return {
            "id": int(self.token.partition(":")[0]),
            "is_bot": self.is_bot,
            "first_name": self.first_name,
            "username": self.username,
        }


def _get_me(bot: Bot, _params: dict[str, Any]) -> dict[str, Any]:
    abilities = ("can_join_groups", "can_read_all_group_messages", "supports_inline_queries")
    return {**bot.as_user(), **dict.fromkeys(abilities, False), "can_join_groups": True}


def _get_updates(bot: Bot, params: dict[str, Any]) -> list[dict[str, Any]]:
    if bot.webhook_url:
        raise Refused(409, _WEBHOOK)
    offset, limit = _number(params, "offset", 0), _number(params, "limit", 100)
    bot.poll += 1
    mine = bot.poll
    bot.changed.notify_all()
    if offset < 0:
        bot.updates = bot.updates[offset:]
    else:
        bot.updates = [update for update in bot.updates if update["update_id"] >= offset]
    seconds = min(max(0, _number(params, "timeout", 0)), LONGEST_POLL_SECONDS)
    bot.polling += 1
    try:
        bot.changed.wait_for(lambda: bool(bot.updates) or bot.poll != mine or bot.is_closing.is_set(), seconds)
    finally:
        bot.polling -= 1
    if bot.poll != mine:
        raise Refused(409, _CONFLICT)
    return bot.updates[: min(max(1, limit), 100)]


def _send_message(bot: Bot, params: dict[str, Any]) -> dict[str, Any]:
    chat = _chat(bot, params)
    text = _text(params)
    sent = Sent(bot.number_message(), int(chat["id"]), text, params)
    bot.sent.append(sent)
    return _message(bot, chat, sent)


def _edit_message_text(bot: Bot, params: dict[str, Any]) -> dict[str, Any]:
    chat, sent = _chat(bot, params), _own_message(bot, params, "edit")
    text = _text(params)
    if text == sent.text:
        raise Refused(400, "Bad Request: message is not modified")
    sent.edits.append(sent.text)
    sent.text, sent.params = text, params
    return {**_message(bot, chat, sent), "edit_date": int(time.time())}


def _delete_message(bot: Bot, params: dict[str, Any]) -> bool:
    _chat(bot, params)
    _own_message(bot, params, "delete").is_deleted = True
    return True


def _react(bot: Bot, params: dict[str, Any]) -> bool:
    _chat(bot, params)
    return True


def _send_chat_action(bot: Bot, params: dict[str, Any]) -> bool:
    _chat(bot, params)
    if not params.get("action"):
        raise Refused(400, "Bad Request: parameter action is required")
    return True


def _set_commands(bot: Bot, params: dict[str, Any]) -> bool:
    bot.commands = _decoded(params.get("commands")) or []
    return True


def _delete_commands(bot: Bot, _params: dict[str, Any]) -> bool:
    bot.commands = []
    return True


def _get_commands(bot: Bot, _params: dict[str, Any]) -> list[Any]:
    return bot.commands


def _set_webhook(bot: Bot, params: dict[str, Any]) -> bool:
    bot.webhook_url = str(params.get("url", ""))
    return True


def _delete_webhook(bot: Bot, params: dict[str, Any]) -> bool:
    bot.webhook_url = ""
    if str(params.get("drop_pending_updates")).lower() == "true":
        bot.updates.clear()
    return True


def _webhook_info(bot: Bot, _params: dict[str, Any]) -> dict[str, Any]:
    return {"url": bot.webhook_url, "has_custom_certificate": False, "pending_update_count": len(bot.updates)}


def _get_chat(bot: Bot, params: dict[str, Any]) -> dict[str, Any]:
    gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
    required = {"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": dict.fromkeys(gifts, False)}
    return {**_chat(bot, params), **required}


def _chat(bot: Bot, params: dict[str, Any]) -> dict[str, Any]:
    if params.get("chat_id") in (None, ""):
        raise Refused(400, "Bad Request: chat_id is empty")
    chat = bot.chats.get(_number(params, "chat_id", 0))
    if chat is None:  # a bot cannot write first
        raise Refused(400, "Bad Request: chat not found")
    return chat


def _own_message(bot: Bot, params: dict[str, Any], verb: str) -> Sent:
    number, chat = _number(params, "message_id", 0), _number(params, "chat_id", 0)
    for one in bot.sent:
        if (one.message_id, one.chat_id) == (number, chat) and not one.is_deleted:
            return one
    raise Refused(400, f"Bad Request: message to {verb} not found")


def _message(bot: Bot, chat: dict[str, Any], sent: Sent) -> dict[str, Any]:
    return {
        "message_id": sent.message_id,
        "from": bot.as_user(),
        "chat": chat,
        "date": int(time.time()),
        "text": sent.text,
    }


def _text(params: dict[str, Any]) -> str:
    text = params.get("text")
    if not isinstance(text, str) or not text.strip():
        raise Refused(400, "Bad Request: message text is empty")
    if str(params.get("parse_mode", "")).upper() == "HTML":
        text = html.unescape(re.sub(r"</?[A-Za-z][^<>]*>", "", text))
    if len(text) > LONGEST_TEXT:
        raise Refused(400, "Bad Request: message is too long")
    return text


def _number(params: dict[str, Any], name: str, default: int) -> int:
    try:
        return int(params.get(name, default))
    except (TypeError, ValueError):
        raise Refused(400, f"Bad Request: invalid {name} specified") from None


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


METHODS: dict[str, Callable[[Bot, dict[str, Any]], Any]] = {
    "getme": _get_me,
    "getupdates": _get_updates,
    "sendmessage": _send_message,
    "editmessagetext": _edit_message_text,
    "deletemessage": _delete_message,
    "setmessagereaction": _react,
    "sendchataction": _send_chat_action,
    "setmycommands": _set_commands,
    "deletemycommands": _delete_commands,
    "getmycommands": _get_commands,
    "setwebhook": _set_webhook,
    "deletewebhook": _delete_webhook,
    "getwebhookinfo": _webhook_info,
    "getchat": _get_chat,
}
