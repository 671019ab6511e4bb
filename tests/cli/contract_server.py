"""A small real HTTP server that answers the API's contract: what the client sent is kept, answers can be replaced."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "chk_goodkeygoodkeygoodkey"
INSTANCE = "ins_abc"
ME = {"user": {"id": "usr_1", "email": "ada@example.com"}, "account": {"id": "acc_1", "slug": "ada-example-com"}}
ASSISTANT: dict[str, Any] = {
    "id": INSTANCE,
    "name": "Ada's helper",
    "persona": "personal",
    "custom_instructions": "Be kind.",
    "plan": "personal",
    "model": "sandbox-1",
    "runtime": "process",
    "status": "active",
    "suspended_for": [],
    "failure": None,
    "url": "http://127.0.0.1:8080/instances/ins_abc",
    "channels": [],
    "operation": None,
    "health": None,
    "created_at": "2026-11-21T03:29:14.123456+00:00",
    "paid_at": None,
    "active_at": None,
}
BOT = {
    "channel": "telegram",
    "bot_username": "ada_bot",
    "bot_url": "https://t.me/ada_bot",
    "status": "waiting_for_owner",
    "owner": None,
    "claim_url": "https://t.me/ada_bot?start=once",
}
PLAN: dict[str, Any] = {
    "id": "yearly",
    "name": "Own key, yearly",
    "summary": "Paid per year.",
    "price_micros": 299_000_000,
    "interval": "year",
    "access": "own_key",
    "savings": {"amount_micros": 49_000_000, "percent": 14, "compared_with": "monthly"},
    "trial_days": 0,
    "included_credit_micros": 0,
    "limits": {"instances": 1, "messages_per_hour": None, "tokens_per_day": 1_000_000, "calls_in_flight": 8},
}
MOVEMENT = {
    "id": 1,
    "account": "wallet",
    "kind": "payment",
    "note": "Payment for Personal",
    "amount_micros": 29_000_000,
    "balance_after_micros": 29_000_000,
    "at": "2026-11-21T03:29:14+00:00",
}
CALL = {
    "id": "call_1",
    "model": "sandbox-1",
    "state": "closed",
    "source": "person",
    "input_tokens": 1234,
    "output_tokens": 56,
    "cache_read_tokens": 0,
    "price_micros": 4200,
    "started_at": "2026-11-21T03:29:14+00:00",
}


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class Raw:
    """An answer that is not the API's JSON."""

    body: bytes
    content_type: str = "text/html"
    location: str | None = None
    delay_seconds: float = 0
    is_cut: bool = False


Answer = tuple[int, Any] | Callable[[Seen], tuple[int, Any]]


def operation(kind: str, state: str = "queued", steps: tuple[tuple[str, str], ...] = (), **more: Any) -> dict[str, Any]:
    """An operation in the API's shape."""
    shown = [{"name": name, "state": word, "at": None} for name, word in steps]
    return {"id": "op_1", "instance_id": INSTANCE, "kind": kind, "state": state, "steps": shown, **more}


def problem(code: str, message: str, **details: Any) -> dict[str, Any]:
    """An error in the API's shape."""
    return {"error": code, "message": message, "details": details}


def _page(items: list[Any]) -> Callable[[Seen], tuple[int, Any]]:
    def answer(seen: Seen) -> tuple[int, Any]:
        if seen.query.get("cursor") == "two":
            return 200, {"items": items[1:], "next_cursor": None}
        return 200, {"items": items[:1], "next_cursor": "two"}

    return answer


class ContractServer:
    """Answers every call of the client. `answers[(method, path)]` replaces one; `seen` is what arrived."""

    def __init__(self) -> None:
        one = f"/api/instances/{INSTANCE}"
        made = {"instance_id": INSTANCE, "status": "pending", "checkout_url": "http://pay/1", "status_url": "http://s"}
        self.open_paths = {"/api/auth/link", "/api/auth/link/redeem", "/api/plans", "/api/personas"}
        self.open_paths.add("/api/config/validate")
        self.answers: dict[tuple[str, str], Answer] = {
            ("POST", "/api/auth/link"): (202, {"message": "on its way"}),
            ("POST", "/api/auth/link/redeem"): (200, {"message": "Signed in."}),
            ("GET", "/api/auth/me"): (200, ME),
            ("POST", "/api/auth/keys"): (201, {"id": "key_1", "name": "x", "prefix": "chk_good", "key": KEY}),
            ("DELETE", "/api/auth/keys/key_1"): (204, None),
            ("GET", "/api/plans"): (
                200,
                {"items": [PLAN]},
            ),
            ("GET", "/api/personas"): (200, {"items": ["personal", "dev"]}),
            ("GET", "/api/instances"): (200, {"items": [ASSISTANT], "next_cursor": None}),
            ("POST", "/api/instances"): (201, made),
            ("GET", one): (200, ASSISTANT),
            ("PATCH", one): (202, {"operation": operation("configure")}),
            ("DELETE", one): (202, {"operation": operation("delete")}),
            ("POST", f"{one}/start"): (202, {"operation": operation("resume")}),
            ("POST", f"{one}/stop"): (202, {"operation": operation("suspend")}),
            ("POST", f"{one}/restart"): (202, {"operation": operation("restart")}),
            ("POST", f"{one}/replace-key"): (202, {"operation": operation("replace_key")}),
            ("GET", f"{one}/operations/op_1"): (200, operation("restart", "done", (("wait_ready", "done"),))),
            ("GET", f"{one}/events"): (
                200,
                {"items": [{"at": "2026-11-21T03:29:14", "kind": "active", "message": "Up."}]},
            ),
            ("GET", f"{one}/logs"): (200, {"lines": ["one", "two"]}),
            ("GET", f"{one}/usage"): (200, {"items": [CALL], "next_cursor": None}),
            ("POST", f"{one}/chat"): lambda seen: (200, _reply(seen)),
            ("GET", f"{one}/channels"): (200, {"items": [BOT], "available": []}),
            ("PUT", f"{one}/channels/telegram"): (200, BOT),
            ("DELETE", f"{one}/channels/telegram"): (204, None),
            ("POST", "/api/config/validate"): (200, {"bot_username": "ada_bot", "bot_url": "https://t.me/ada_bot"}),
            ("GET", "/api/billing/balance"): (
                200,
                {"balance_micros": 12_340_000, "held_micros": 3_000_000, "disputed_micros": 1_250_000},
            ),
            ("GET", "/api/billing/usage"): (200, {"total": {"calls": 3, "price_micros": 4200}}),
            ("GET", "/api/billing/ledger"): _page([MOVEMENT, {**MOVEMENT, "id": 2, "note": "Second page"}]),
        }
        self.seen: list[Seen] = []
        server = self
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _answering(server))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)

    def answer(self, seen: Seen) -> tuple[int, Any]:
        """What this request is answered with."""
        self.seen.append(seen)
        found = self.answers.get((seen.method, seen.path))
        given = seen.headers.get("authorization")
        is_signed = given == f"Bearer {KEY}" or (
            given is None and "clawhaven_session=s" in seen.headers.get("cookie", "")
        )
        if seen.path not in self.open_paths and not is_signed:
            return 401, problem("unauthorized", "This API key is not valid.")
        if found is None:
            return 404, problem("not_found", "There is no such thing, or it is not yours.")
        return found(seen) if callable(found) else found


def _reply(seen: Seen) -> dict[str, Any]:
    usage = {"calls": 1, "input_tokens": 1234, "output_tokens": 56, "price_micros": 4200}
    return {"reply": f"You said: {seen.body['message']}", "usage": usage}


def _answering(server: ContractServer) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            seen = Seen(
                self.command,
                parts.path,
                {name: values[0] for name, values in parse_qs(parts.query).items()},
                json.loads(raw) if raw else None,
                {name.lower(): value for name, value in self.headers.items()},
            )
            status, body = server.answer(seen)
            self._send(status, body, sets_cookie=seen.path == "/api/auth/link/redeem" and status == 200)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _send(self, status: int, body: Any, *, sets_cookie: bool) -> None:
            if isinstance(body, Raw):
                time.sleep(body.delay_seconds)
                content, kind = body.body, body.content_type
            else:
                content, kind = (b"" if body is None else json.dumps(body).encode()), "application/json"
            self.send_response(status)
            if status != 204:
                self.send_header("content-type", kind)
                self.send_header(
                    "content-length", str(len(content) + (10 if isinstance(body, Raw) and body.is_cut else 0))
                )
            if isinstance(body, Raw) and body.location:
                self.send_header("location", body.location)
            if sets_cookie:
                self.send_header("set-cookie", "clawhaven_session=s; HttpOnly; Path=/")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # a client that waits no longer
                self.wfile.write(content)
            if isinstance(body, Raw) and body.is_cut:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: tests read what was seen."""

    return Answering
