"""OpenClaw 2026.9.6 as a Gateway: probes, calls, and a person's chat with streaming."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import ChatEvent, GatewayAddress
from clawhaven.ports.runtime import Health
from clawhaven.providers.gateways.device import Device
from clawhaven.providers.gateways.rpc import Refused, Rpc, Socket, is_answer, payload

RETRY_SECONDS = 1.0
HISTORY_LINES = 50


class OpenClaw:
    """Client for the gateways of all instances. Thread-safe; one per process."""

    class Options(EnvSettings):
        """How long a gateway may take over one call."""

        gateway_timeout_seconds: float = Field(60, gt=0, description="Longest wait for one call into a gateway.")

    def __init__(self, options: Options, settings: Settings) -> None:
        self._options = options
        self._device_path = settings.data_dir / "gateway-device.json"
        self._opening = threading.Lock()
        self._rpc: Rpc | None = None

    def health(self, address: GatewayAddress) -> Health:
        """The probes' bodies (an unknown path answers 200 too) and `channels.status`. Never raises."""
        rpc = self._open()
        live = rpc.probe(address, "/healthz") or {}
        if live.get("ok") is not True:
            return Health(live=False, started=False, authenticated=False)
        startup = rpc.probe(address, "/startupz") or {}
        is_started = startup.get("ok") is True and startup.get("status") == "started"
        version = startup.get("version")
        try:
            status = self.call(address, "channels.status", {"probe": False})
        except ProviderError as error:
            problems = {"gateway": error.message}
            return Health(True, is_started, False, problems=problems, version=version)
        channels, problems = _channels(status)
        return Health(True, is_started, True, channels, problems, version)

    def call(self, address: GatewayAddress, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """One RPC call. A `timeoutMs` among the parameters (long polls) extends our own patience."""
        given = dict(params or {})
        extra = given.get("timeoutMs", 0)
        patience = self._options.gateway_timeout_seconds + (extra / 1000 if isinstance(extra, int | float) else 0)
        return self._open().call(address, method, given, patience)

    def chat(
        self, address: GatewayAddress, session: str, message: str, idempotency_key: str, timeout_seconds: float = 300
    ) -> Iterator[ChatEvent]:
        """A person's message and its answer, over the WebSocket's `chat.send` and `chat` events.

        The same `idempotency_key` never makes a second turn: it joins the running one or reads the finished one from
        the transcript. A connection that breaks is made again and joined likewise. `session` names the conversation.
        The model calls of this turn carry `trace_id(idempotency_key)` in their `traceparent` header.
        Raises ProviderError only before the gateway has accepted the message.
        """
        turn = _Turn(session, message, idempotency_key)
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                with self._open().open(address) as socket:
                    yield from turn.follow(socket, deadline)
                return
            except Refused as refused:
                raise refused.as_provider_error("chat.send") from None
            except ProviderError as error:
                if not turn.is_accepted:
                    raise
                if time.monotonic() + RETRY_SECONDS >= deadline or getattr(error, "code", "") == "timeout":
                    yield ChatEvent("error", "The assistant did not answer in time.")
                    return
            time.sleep(RETRY_SECONDS)

    def _open(self) -> Rpc:
        with self._opening:
            if self._rpc is None:
                try:
                    device = Device.load(self._device_path)
                except (OSError, ValueError) as error:
                    message = f"{self._device_path} cannot be used: {error}"
                    raise ProviderError(message, permanent=True, code="device_key") from error
                self._rpc = Rpc(device, self._options.gateway_timeout_seconds)
            return self._rpc


class _Turn:
    """What is known of one turn while its answer arrives, over however many connections."""

    def __init__(self, session: str, message: str, key: str) -> None:
        self.session, self.message, self.key = session, message, key
        self.shown = ""
        self.is_accepted = False

    def follow(self, socket: Socket, deadline: float) -> Iterator[ChatEvent]:
        """Send, or join, and yield until the end. Raises Lost and Refused."""
        params = {"sessionKey": self.session, "message": self.message, "idempotencyKey": self.key}
        request_id = socket.send("chat.send", params, traceparent(self.key))
        while True:
            frame = socket.receive(deadline - time.monotonic())
            if is_answer(frame, request_id):
                status = (payload(frame) or {}).get("status")
                self.is_accepted = True
                if status in ("ok", "error"):
                    yield self._from_history(socket)
                    return
            elif frame.get("event") == "chat":
                yield from self._read(frame.get("payload") or {})
                if self._is_end(frame.get("payload") or {}):
                    return

    def _is_end(self, event: Mapping[str, Any]) -> bool:
        return event.get("runId") == self.key and event.get("state") in ("final", "error", "aborted")

    def _read(self, event: Mapping[str, Any]) -> Iterator[ChatEvent]:
        if event.get("runId") != self.key:
            return
        state, text = event.get("state"), text_of(event.get("message"))
        if state == "delta" and text.startswith(self.shown) and text != self.shown:
            fresh, self.shown = text[len(self.shown) :], text
            yield ChatEvent("delta", fresh)
        elif state == "final":
            yield ChatEvent("final", text or self.shown)
        elif state == "aborted":
            yield ChatEvent("error", "The answer was stopped.")
        elif state == "error":
            yield ChatEvent("error", str(event.get("errorMessage") or "The assistant could not answer."))

    def _from_history(self, socket: Socket) -> ChatEvent:
        """The answer of a turn that had ended before we came."""
        params = {"sessionKey": self.session, "limit": HISTORY_LINES}
        lines = (socket.call("chat.history", params, 30) or {}).get("messages") or []
        for line in reversed(lines):
            about = line.get("__openclaw") or {}
            if line.get("role") == "assistant" and self.key in (about.get("runId"), about.get("idempotencyKey")):
                return ChatEvent("final", text_of(line))
        return ChatEvent("error", "The answer to this message is no longer available.")


def trace_id(idempotency_key: str) -> str:
    """The W3C trace id (32 hex digits) of the turn that this key starts."""
    return hashlib.sha256(f"clawhaven turn {idempotency_key}".encode()).hexdigest()[:32]


def traceparent(idempotency_key: str) -> str:
    """A turn's `traceparent` header; its model calls have the same trace id and spans of their own."""
    return f"00-{trace_id(idempotency_key)}-{secrets.token_hex(8)}-01"


def text_of(message: Any) -> str:
    """The visible text of a gateway message: its `content` is a string or a list of parts."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text", "") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
    return "\n\n".join(str(part) for part in parts if part)


def _channels(status: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Channel -> lifecycle word, and channel -> last error, from `channels.status`."""
    words: dict[str, str] = {}
    problems: dict[str, str] = {}
    return words, problems
