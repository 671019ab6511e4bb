"""Telegram's Bot API on loopback, for tests: real HTTP, long polls, offsets, conflicts, Telegram's own error texts.

As a module:      with TelegramServer() as server: bot = server.add_bot(token); server.say(bot, 7, "hi")
As a program:     python -m tests.live.telegram_server --port 8081 --bot 123456789:AAAA…=my_test_bot
                  POST /control/say {token, user_id, text}; GET /control/sent?token=… ; GET /control/calls?token=…

Shapes and limits follow Bot API 10.1. Two pollers at once: the older one ends with 409, as with Telegram.
"""

from __future__ import annotations

import argparse
import email
import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.live.telegram_methods import METHODS, Bot, Fault, Refused, Sent

_PATH = re.compile(r"/bot([^/]+)/([^/?]+)")
_TOKEN = re.compile(r"[0-9]{6,12}:[A-Za-z0-9_-]{30,64}")


class TelegramServer:
    """Any number of bots behind one loopback address. Every method may be called from any thread."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._changed = threading.Condition()
        self._bots: dict[str, Bot] = {}
        self._http = _Http((host, port), _Door)
        self._http.telegram = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._is_closing = threading.Event()
        self.url = f"http://{host}:{self._http.server_address[1]}"

    def __enter__(self) -> TelegramServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closing.set()
            self._changed.notify_all()
        self._http.shutdown()
        self._http.server_close()

    # What a test does

    def add_bot(
        self, token: str, username: str = "haven_test_bot", first_name: str = "Haven", is_bot: bool = True
    ) -> Bot:
        """Register a bot; its id is the number before the colon."""
        if not _TOKEN.fullmatch(token):
            raise ValueError("not the shape of a bot token")
        with self._changed:
            return self._bots.setdefault(
                token, Bot(token, username, first_name, is_bot, self._changed, self._is_closing)
            )

    def revoke(self, bot: Bot) -> None:
        """Forget the token: every call with it gets 401."""
        with self._changed:
            self._bots.pop(bot.token, None)

    def say(
        self, bot: Bot, user_id: int, text: str, username: str | None = None, chat_type: str = "private"
    ) -> dict[str, Any]:
        """A person writes; returns the update. In a group the chat's id is `-user_id`."""
        person: dict[str, Any] = {"id": user_id, "is_bot": False, "first_name": f"Person {user_id}"}
        if username:
            person["username"] = username
        chat: dict[str, Any] = {
            "id": user_id,
            "type": "private",
            **{k: person[k] for k in ("first_name", "username") if k in person},
        }
        if chat_type != "private":
            chat = {"id": -user_id, "type": chat_type, "title": f"Group {user_id}"}
        with self._changed:
            message: dict[str, Any] = {
                "message_id": bot.number_message(),
                "from": person,
                "chat": chat,
                "date": int(time.time()),
                "text": text,
            }
            if command := re.match(r"/[A-Za-z0-9_]+(@\w+)?", text):
                message["entities"] = [{"type": "bot_command", "offset": 0, "length": command.end()}]
            update = {"update_id": bot.next_update_id, "message": message}
            bot.next_update_id += 1
            bot.chats[chat["id"]] = chat
            bot.updates.append(update)
            self._changed.notify_all()
        return update

    def sent(self, bot: Bot, chat_id: int | None = None) -> list[Sent]:
        """Messages the bot sent and did not delete, oldest first."""
        with self._changed:
            return [one for one in bot.sent if not one.is_deleted and chat_id in (None, one.chat_id)]

    def wait_sent(self, bot: Bot, count: int = 1, timeout: float = 10, chat_id: int | None = None) -> list[Sent]:
        """The sent messages as soon as there are `count`; TimeoutError after `timeout` seconds."""
        self.wait(lambda: len(self.sent(bot, chat_id)) >= count, timeout, f"{count} messages")
        return self.sent(bot, chat_id)

    def wait_polling(self, bot: Bot, timeout: float = 10) -> None:
        """Return as soon as somebody waits in a long poll for this bot."""
        self.wait(lambda: bot.polling > 0, timeout, "a poller")

    def wait(self, condition: Callable[[], bool], timeout: float, what: str = "it") -> None:
        """Wait for `condition`, looked at after each change; TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"waited {timeout} s for {what}")

    def calls(self, bot: Bot) -> list[str]:
        """Names of the methods called with this bot's token, in order."""
        with self._changed:
            return [name for name, _ in bot.calls]

    def unread(self, bot: Bot) -> list[dict[str, Any]]:
        """Updates no poller has confirmed yet."""
        with self._changed:
            return list(bot.updates)

    def fail(
        self,
        bot: Bot,
        method: str,
        status: int,
        description: str = "Internal Server Error",
        times: int = 1,
        **parameters: Any,
    ) -> None:
        """Answer the next `times` calls of `method` with this error (`retry_after=3` …); status 0 hangs up."""
        with self._changed:
            bot.faults.append(Fault(method.lower(), status, description, times, parameters or None))

    # What a bot does

    def answer(self, token: str, method: str, params: dict[str, Any]) -> Any:
        """The result of one call; raises Refused."""
        with self._changed:
            if not _TOKEN.fullmatch(token):
                raise Refused(404, "Not Found")
            bot = self._bots.get(token)
            if bot is None:
                raise Refused(401, "Unauthorized")
            bot.calls.append((method, params))
            self._changed.notify_all()
            for fault in bot.faults:
                if fault.method == method.lower() and fault.times > 0:
                    fault.times -= 1
                    raise Refused(fault.status, fault.description, fault.parameters)
            action = METHODS.get(method.lower())
            if action is None:
                raise Refused(404, "Not Found: method not found")
            result = action(bot, params)
            self._changed.notify_all()
            return result

    def control(self, verb: str, params: dict[str, Any]) -> Any:
        """The same verbs for another process; raises KeyError for an unknown verb or bot."""
        bot = self._bots[str(params["token"])]
        if verb == "say":
            extra = {key: params[key] for key in ("username", "chat_type") if key in params}
            return self.say(bot, int(params["user_id"]), str(params["text"]), **extra)
        if verb == "sent":
            return [{"chat_id": one.chat_id, "message_id": one.message_id, "text": one.text} for one in self.sent(bot)]
        return {"calls": self.calls}[verb](bot)


def _read_params(query: str, kind: str, body: bytes) -> dict[str, Any]:
    """Parameters of a GET, a JSON, a form or a multipart body, as Telegram takes all four."""
    params: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if not body:
        return params
    if kind.startswith("application/json"):
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        params.update(found)
    elif kind.startswith("multipart/form-data"):
        for part in email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).walk():
            name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
            if name and isinstance(content, bytes):
                params[str(name)] = content.decode()
    else:
        params.update(parse_qsl(body.decode(), keep_blank_values=True))
    return params


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    telegram: TelegramServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A poller that went away is nothing to report."""


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the path holds a token."""

    def _serve(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        status = 200
        answer: dict[str, Any] = {"ok": True}
        try:
            params = _read_params(address.query, self.headers.get("content-type", ""), body)
            if address.path.startswith("/control/"):
                answer["result"] = self.server.telegram.control(address.path.removeprefix("/control/"), params)
            elif found := _PATH.fullmatch(unquote(address.path)):
                answer["result"] = self.server.telegram.answer(found[1], found[2], params)
            else:
                raise Refused(404, "Not Found")
        except Refused as refused:
            status = refused.status
            answer = {"ok": False, "error_code": status, "description": refused.description}
            if refused.parameters:
                answer["parameters"] = refused.parameters
        except (ValueError, KeyError):
            status, answer = (
                400,
                {"ok": False, "error_code": 400, "description": "Bad Request: can't parse the request"},
            )
        if not status:
            self.close_connection = True
            return
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Telegram's Bot API on loopback, for tests")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--bot", action="append", default=[], metavar="TOKEN=USERNAME")
    arguments = parser.parse_args()
    with TelegramServer(arguments.port) as server:
        for entry in arguments.bot:
            token, _, username = entry.partition("=")
            server.add_bot(token, username or "haven_test_bot")
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
