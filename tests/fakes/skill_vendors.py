"""Brave Search and ElevenLabs on loopback: they take the keys they know and write down whom they were asked with.

What they answer to strange keys is what people report of the real ones:
https://github.com/nearai/ironclaw/issues/2780 (Brave, 422) and https://github.com/danielmiessler/LifeOS/issues/667
(ElevenLabs, 401).
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

BRAVE_KEY = "BSAgoodgoodgoodgood-1234"
VOICE_KEY = "sk_goodgoodgoodgoodgood5678"
MUTE_KEY = "sk_mutemutemutemutemute0000"
"""One that may not speak."""
SHY_KEY = "sk_shyshyshyshyshyshyshy1111"
"""One that may speak, and not say whose it is."""


class SkillVendors:
    """`with SkillVendors() as vendors:` then point BRAVE_API_URL and ELEVENLABS_API_URL at `vendors.url`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        """(path without its query, key) of every request."""
        self.is_down = False
        self._http = _Http(("127.0.0.1", 0), _Door)
        self._http.vendors = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> SkillVendors:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    vendors: SkillVendors


class _Door(BaseHTTPRequestHandler):
    server: _Http

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        key = self.headers.get("x-subscription-token") or self.headers.get("xi-api-key") or ""
        self.server.vendors.asked.append((path, key))
        if self.server.vendors.is_down:
            self._answer(503, {})
        elif path == "/res/v1/web/search":
            self._search(key)
        elif path == "/v1/user":
            self._whose(key)
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        path, key = self.path.partition("?")[0], self.headers.get("xi-api-key") or ""
        self.server.vendors.asked.append((path, key))
        if not path.startswith("/v1/text-to-speech/") or key not in (VOICE_KEY, SHY_KEY):
            self._answer(401, {"detail": {"status": "invalid_api_key", "message": "Invalid API key"}})
            return
        self._send(200, "audio/mpeg", b"ID3" + bytes(4000))

    def _search(self, key: str) -> None:
        if key == BRAVE_KEY:
            found = {"title": "Soup of the day", "url": "https://example.com/soup", "description": "With leek."}
            self._answer(200, {"web": {"results": [found]}})
        else:
            detail = {"code": "SUBSCRIPTION_TOKEN_INVALID", "status": 422, "detail": "The token is invalid."}
            self._answer(422, {"type": "ErrorResponse", "error": detail})

    def _whose(self, key: str) -> None:
        if key == VOICE_KEY:
            self._answer(200, {"user_id": "u1"})
            return
        lacking = {MUTE_KEY: "text_to_speech", SHY_KEY: "user_read"}.get(key)
        message = f"The API key you used is missing the permission {lacking} to execute this operation."
        detail = {"status": "missing_permissions", "message": message} if lacking else {"status": "invalid_api_key"}
        self._answer(401, {"detail": detail})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
