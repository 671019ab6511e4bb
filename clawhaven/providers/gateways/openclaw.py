"""OpenClaw 2026.9.6 as a Gateway: probes, calls, and a person's chat with streaming."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import ChatEvent, GatewayAddress, Said
from clawhaven.ports.runtime import Health
from clawhaven.providers.gateways.device import Device
from clawhaven.providers.gateways.exchange import LONGEST_PROBLEM, plain
from clawhaven.providers.gateways.rpc import Refused, Rpc, Socket, is_answer, mapping, payload

RETRY_SECONDS = 1.0
FAILED = "The assistant could not answer."
HISTORY_LINES = 50
HISTORY_SECONDS = 15.0
"""So long a page waits for a conversation."""

LATEST_MILLIS = 253_402_000_000_000
"""The year 9999: what comes after it is no time."""

QUEUED = ChatEvent("final", "")
"""An end without a word: the message waits behind a turn that is still running, and gets a run of its own later."""

STATUS_SECONDS = 15.0
"""So long a look at a gateway's health waits for its channels, whatever other calls may take."""

LONGEST_WORD = 40
"""Characters of a gateway's word (a channel, a state, a version) that go on to the books."""

QUEUE_SECONDS = 10
"""So long after an empty end an idle gateway may still begin the run."""

RECOVERY_SECONDS = 60
"""So long after its restart an idle gateway may still take up an interrupted turn."""


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

    def has_started(self, address: GatewayAddress) -> bool | None:
        """`/startupz` alone. It costs the gateway 10 ms, `health` a hundred. Never raises."""
        startup = self._open().probe(address, "/startupz")
        return None if startup is None else _has_started(startup)

    def health(self, address: GatewayAddress) -> Health:
        """The probes' bodies (an unknown path answers 200 too) and `channels.status`. Never raises."""
        rpc = self._open()
        live = rpc.probe(address, "/healthz") or {}
        if live.get("ok") is not True:
            return Health(live=False, started=False, authenticated=False)
        startup = rpc.probe(address, "/startupz") or {}
        is_started = _has_started(startup)
        version = plain(startup.get("version"), LONGEST_WORD) or None
        patience = min(STATUS_SECONDS, self._options.gateway_timeout_seconds)
        try:
            channels, problems = _channels(rpc.call(address, "channels.status", {"probe": False}, patience))
        except ProviderError as error:
            problems = {"gateway": plain(error.message, LONGEST_PROBLEM)}
            return Health(True, is_started, False, problems=problems, version=version)
        except (AttributeError, TypeError, ValueError, KeyError, RecursionError) as error:
            problems = {"gateway": f"channels.status is not what OpenClaw answers ({type(error).__name__})"}
            return Health(True, is_started, False, problems=problems, version=version)
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

    def history(self, address: GatewayAddress, session: str, most: int) -> Sequence[Said]:
        """`chat.history` over the WebSocket. Raises ProviderError."""
        told = self._open().call(address, "chat.history", {"sessionKey": session, "limit": most}, HISTORY_SECONDS)
        return [said for line in _lines(mapping(told)) if (said := _said(line)) is not None][-most:]

    def trace_id(self, idempotency_key: str) -> str:
        """The trace id that the model calls of this turn carry; see `trace_id` below."""
        return trace_id(idempotency_key)

    def _open(self) -> Rpc:
        with self._opening:
            if self._rpc is None:
                try:
                    device = Device.load(self._device_path)
                except (OSError, ValueError) as error:
                    message = f"{self._device_path} cannot be used: {error}"
                    raise ProviderError(message, permanent=True, code="device_key") from error
                self._rpc = Rpc(device)
            return self._rpc


class _Turn:
    """What is known of one turn while its answer arrives, over however many connections."""

    def __init__(self, session: str, message: str, key: str) -> None:
        self.session, self.message, self.key = session, message, key
        self.shown = ""
        self.boot_id = ""
        self.is_accepted = False

    def follow(self, socket: Socket, deadline: float) -> Iterator[ChatEvent]:
        """Send, or join, and yield until the end. Raises Lost and Refused."""
        if self.is_accepted and socket.boot_id != self.boot_id:
            # After a restart in mid-turn OpenClaw goes on by itself, as a run of its own in the same session.
            yield self._await_answer(socket, deadline, RECOVERY_SECONDS)
            return
        self.boot_id = socket.boot_id
        params = {
            "sessionKey": self.session,
            "message": self.message,
            "idempotencyKey": self.key,
            # Otherwise a message that comes while an answer is being written is drawn into that answer.
            "queueMode": "followup",
        }
        request_id = socket.send("chat.send", params, traceparent(self.key))
        while True:
            frame = socket.receive(deadline - time.monotonic())
            if is_answer(frame, request_id):
                status = mapping(payload(frame)).get("status")
                self.is_accepted = True
                if status in ("ok", "error"):
                    yield self._from_history(socket)
                    return
            elif frame.get("event") == "chat" and (event := self._read(mapping(frame.get("payload")))) is not None:
                if event == QUEUED:
                    yield self._await_answer(socket, deadline, QUEUE_SECONDS)
                    return
                yield event
                if event.kind != "delta":
                    return

    def _read(self, event: Mapping[str, Any]) -> ChatEvent | None:
        if event.get("runId") != self.key:
            return None
        state, text = event.get("state"), text_of(event.get("message"))
        if state == "delta" and text.startswith(self.shown) and text != self.shown:
            fresh, self.shown = text[len(self.shown) :], text
            return ChatEvent("delta", fresh)
        if state == "final":
            return ChatEvent("final", text or self.shown)  # QUEUED when both are empty
        if state == "aborted":
            return ChatEvent("error", "The answer was stopped.")
        if state == "error":
            return ChatEvent("error", plain(event.get("errorMessage"), LONGEST_PROBLEM) or FAILED)
        return None

    def _from_history(self, socket: Socket) -> ChatEvent:
        """The answer of a turn that had ended before we came."""
        for line in reversed(_lines(self._history(socket))):
            about = mapping(line.get("__openclaw"))
            if line.get("role") == "assistant" and self.key in (about.get("runId"), about.get("idempotencyKey")):
                return ChatEvent("final", text_of(line))
        return ChatEvent("error", "The answer to this message is no longer available.")

    def _await_answer(self, socket: Socket, deadline: float, patience_seconds: float) -> ChatEvent:
        """The answer as the transcript gets it, from a run whose id is not ours."""
        idle_since: float | None = None
        while time.monotonic() < deadline:
            history = self._history(socket)
            is_busy = bool(mapping(history.get("sessionInfo")).get("hasActiveRun"))
            answer, is_over = _answer_to(f"{self.key}:user", _lines(history))
            if answer and (is_over or not is_busy):
                return ChatEvent("final", answer)
            idle_since = None if is_busy else idle_since or time.monotonic()
            if idle_since is not None and time.monotonic() - idle_since > patience_seconds:
                break
            time.sleep(RETRY_SECONDS)
        return ChatEvent("error", "The assistant did not answer this message. Please ask again.")

    def _history(self, socket: Socket) -> Mapping[str, Any]:
        params = {"sessionKey": self.session, "limit": HISTORY_LINES}
        return mapping(socket.call("chat.history", params, 30))


def _has_started(startup: Mapping[str, Any]) -> bool:
    return startup.get("ok") is True and startup.get("status") == "started"


def _said(line: Mapping[str, Any]) -> Said | None:
    """What a person or the assistant said; None for tools, asides and what the gateway told the model by itself."""
    role, text = line.get("role"), text_of(line).replace("\0", "")
    if role not in ("user", "assistant") or not text.strip() or (role == "user" and text.startswith("[System]")):
        return None
    at = line.get("timestamp")
    is_known = isinstance(at, int | float) and 0 < at < LATEST_MILLIS
    return Said(role == "user", text, datetime.fromtimestamp(at / 1000, UTC) if is_known else None)  # type: ignore[operator]


def _lines(history: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    lines = history.get("messages")
    return [line for line in lines if isinstance(line, Mapping)] if isinstance(lines, list) else []


def _answer_to(user_key: str, lines: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """The assistant's newest text after the person's line with this key, and whether another person's line follows."""
    answer, is_after = "", False
    for line in lines:
        if line.get("idempotencyKey") == user_key:
            is_after = True
        elif is_after and line.get("role") == "assistant":
            answer = text_of(line) or answer
        elif is_after and line.get("role") == "user" and not text_of(line).startswith("[System]"):
            return answer, True
    return answer, False


def trace_id(idempotency_key: str) -> str:
    """The W3C trace id (32 hex digits) of the turn that this key starts."""
    return hashlib.sha256(f"clawhaven turn {idempotency_key}".encode()).hexdigest()[:32]


def traceparent(idempotency_key: str) -> str:
    """A turn's `traceparent` header; its model calls have the same trace id and spans of their own."""
    return f"00-{trace_id(idempotency_key)}-{secrets.token_hex(8)}-01"


def text_of(message: Any) -> str:
    """The visible text of a gateway message: its `content` is a string or a list of parts."""
    content = mapping(message).get("content")
    if isinstance(content, str):
        return _whole(content)
    if not isinstance(content, list):
        return ""
    parts = [part.get("text", "") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
    return _whole("\n\n".join(str(part) for part in parts if part))


def _whole(text: str) -> str:
    """Without half characters: the gateway cuts text anywhere, also in the middle of an emoji's two halves."""
    return text.encode("utf-8", "ignore").decode("utf-8")


def _channels(status: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Channel -> lifecycle word, and channel -> last error, from `channels.status`.

    A channel with several accounts is as well as the worst of its enabled ones. AttributeError, TypeError and the
    like for another shape.
    """
    words: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, accounts in (status.get("channelAccounts") or {}).items():
        channel = plain(name, LONGEST_WORD)
        for account in accounts:
            if account.get("enabled") is False:
                words.setdefault(channel, "disabled")
                continue
            word = plain(account.get("lifecycle"), LONGEST_WORD)
            word = word or ("ready" if account.get("connected") else "stopped")
            if words.get(channel) in (None, "disabled", "ready"):
                words[channel] = word
            if account.get("lastError"):
                problems[channel] = plain(account["lastError"], LONGEST_PROBLEM) or "an error"
    return words, problems
