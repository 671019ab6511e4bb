"""The two doors of an OpenClaw gateway: admin HTTP RPC and the WebSocket (gateway protocol 4).

Vendor sources: the package's own docs/plugins/admin-http-rpc.md and docs/gateway/protocol/, and experiment.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import GatewayAddress
from clawhaven.providers.gateways.device import CLIENT_ID, CLIENT_MODE, PLATFORM, ROLE, Device
from clawhaven.providers.gateways.exchange import LONGEST_PROBLEM, Answer, fetch, new_client, plain, read_json

HTTP_METHODS = frozenset(
    [
        "commands.list",
        "health",
        "status",
        "logs.tail",
        "usage.status",
        "usage.cost",
        "gateway.restart.request",
        "gateway.suspend.prepare",
        "gateway.suspend.status",
        "gateway.suspend.resume",
        "config.get",
        "config.schema",
        "config.schema.lookup",
        "config.set",
        "config.patch",
        "config.apply",
        "channels.status",
        "channels.start",
        "channels.stop",
        "channels.logout",
        "web.login.start",
        "web.login.wait",
        "models.list",
        "models.authStatus",
        "agents.list",
        "agents.create",
        "agents.update",
        "agents.delete",
        "cron.status",
        "cron.list",
        "cron.get",
        "cron.runs",
        "cron.add",
        "cron.update",
        "cron.remove",
        "cron.run",
        "device.pair.list",
        "device.pair.approve",
        "device.pair.reject",
        "device.pair.remove",
        "tasks.list",
        "tasks.get",
        "tasks.cancel",
        "doctor.memory.status",
        "update.status",
    ]
)
"""What admin HTTP RPC offers in 2026.9.6; everything else goes over the WebSocket."""

SCOPES = ("operator.admin",)
FORWARDED_FOR = "192.0.2.1"
"""Sent where the gateway trusts proxies: it refuses requests without the header, and loopback addresses in it."""

PROBE_SECONDS = 5.0
OPEN_TIMEOUT_SECONDS = 15
LARGEST_FRAME_BYTES = 8 * 1024 * 1024


class Refused(Exception):
    """The gateway answered a request with an error of its own."""

    def __init__(self, told: Any) -> None:
        error = mapping(told)
        self.code = plain(error.get("code"), LONGEST_PROBLEM)
        super().__init__(plain(error.get("message"), LONGEST_PROBLEM) or self.code or "refused")
        self.details = mapping(error.get("details"))
        self.is_retryable = bool(error.get("retryable")) or self.code == "UNAVAILABLE"

    def as_provider_error(self, method: str) -> ProviderError:
        """The same for those who know no gateway."""
        code = "not_ready" if self.is_retryable else "gateway_refused"
        return ProviderError(f"{method}: {self}", permanent=not self.is_retryable, code=code)


class Forwarding:
    """Which gateways want X-Forwarded-For; learned from their refusals."""

    def __init__(self) -> None:
        self._wanted: dict[str, bool] = {}

    def headers(self, url: str) -> dict[str, str]:
        """The header for this gateway, or nothing."""
        return {"X-Forwarded-For": FORWARDED_FOR} if self._wanted.get(url) else {}

    def learn(self, url: str, headers: Mapping[str, str], body: bytes) -> bool:
        """After a 403: True when the other way is worth a try."""
        if b"proxy_attribution_required" not in body:
            return False
        self._wanted[url] = "X-Forwarded-For" not in headers
        return True


class Rpc:
    """Calls into gateways. Every failure is a ProviderError: `unreachable`, `not_ready`, `gateway_refused`, …"""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._http = new_client()
        self.forwarding = Forwarding()

    def probe(self, address: GatewayAddress, path: str) -> dict[str, Any] | None:
        """The JSON body of a probe, whatever its status; None when it is no JSON object or nobody answers."""
        try:
            body = self._request(address, "GET", path, None, PROBE_SECONDS).read_json()
        except (ProviderError, ValueError):
            return None
        return body if isinstance(body, dict) else None

    def call(self, address: GatewayAddress, method: str, params: Mapping[str, Any], timeout_seconds: float) -> Any:
        """One call over the cheapest door. Raises ProviderError."""
        try:
            if method in HTTP_METHODS:
                return self._call_http(address, method, params, timeout_seconds)
            with self.open(address) as socket:
                return socket.call(method, params, timeout_seconds)
        except Refused as refused:
            raise refused.as_provider_error(method) from None

    def _call_http(
        self, address: GatewayAddress, method: str, params: Mapping[str, Any], timeout_seconds: float
    ) -> Any:
        body = {"method": method, "params": dict(params)}
        answer = self._request(address, "POST", "/api/v1/admin/rpc", body, timeout_seconds)
        if answer.status == 401:
            raise ProviderError("The gateway does not know our token", permanent=True, code="gateway_unauthorized")
        try:
            reply = answer.read_json()
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or "ok" not in reply:
            message = f"{method}: answer {answer.status} is not from admin HTTP RPC"
            raise ProviderError(message, code="not_ready")
        if reply["ok"] is not True:
            raise Refused(reply.get("error"))
        return reply.get("payload")

    def _request(self, address: GatewayAddress, verb: str, path: str, body: Any, timeout_seconds: float) -> Answer:
        url = address.url.rstrip("/")
        deadline = time.monotonic() + timeout_seconds
        for _ in range(2):
            headers = {"Authorization": f"Bearer {address.token}", **self.forwarding.headers(url)}
            answer = fetch(self._http, verb, url + path, body, headers, deadline - time.monotonic())
            if answer.status != 403 or not self.forwarding.learn(url, headers, answer.content):
                break
        return answer

    @contextmanager
    def open(self, address: GatewayAddress) -> Iterator[Socket]:
        """A signed-in WebSocket. A gateway that has never met us is told so over HTTP once. Raises ProviderError."""
        for attempt in range(3):
            socket = self._connect(address)
            try:
                socket.sign_in(self._device, address.token)
                break
            except Refused as refused:
                socket.close()
                if refused.details.get("code") != "PAIRING_REQUIRED" or attempt == 2:
                    raise refused.as_provider_error("connect") from None
                self._approve(address, str(refused.details.get("requestId")))
            except ProviderError:
                socket.close()
                raise
        try:
            yield socket
        finally:
            socket.close()

    def _approve(self, address: GatewayAddress, request_id: str) -> None:
        try:
            self._call_http(address, "device.pair.approve", {"requestId": request_id}, 30)
        except Refused as refused:
            # Of two connections at once the other one may have approved us; the next try tells.
            if refused.code == "UNAVAILABLE":
                raise refused.as_provider_error("device.pair.approve") from None

    def _connect(self, address: GatewayAddress) -> Socket:
        url = address.url.rstrip("/")
        for attempt in range(2):
            headers = self.forwarding.headers(url)
            try:
                connection = connect(
                    url.replace("http", "ws", 1),
                    additional_headers=headers,
                    open_timeout=OPEN_TIMEOUT_SECONDS,
                    close_timeout=2,
                    max_size=LARGEST_FRAME_BYTES,
                    compression=None,
                    proxy=None,
                )
            except InvalidStatus as error:
                if attempt or not self.forwarding.learn(url, headers, bytes(error.response.body or b"")):
                    raise ProviderError(f"{url}: {error}", code="not_ready") from None
            except (OSError, InvalidHandshake, WebSocketException) as error:
                raise ProviderError(f"{url}: {error or type(error).__name__}", code="unreachable") from None
            else:
                return Socket(connection)
        raise ProviderError(f"{url}: the gateway refuses us with and without X-Forwarded-For", code="not_ready")


class Lost(ProviderError):
    """The connection ended, or nothing came in time."""


class Socket:
    """One open WebSocket of a gateway."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.boot_id = ""
        """Changes whenever the gateway starts; empty before `sign_in`."""

    def close(self) -> None:
        """Close; never raises for a connection that is gone."""
        self._connection.close()

    def send(self, method: str, params: Mapping[str, Any], traceparent: str | None = None) -> str:
        """Send a request; returns its id. Raises Lost."""
        request_id = str(uuid.uuid4())
        frame: dict[str, Any] = {"type": "req", "id": request_id, "method": method, "params": dict(params)}
        if traceparent is not None:
            frame["traceparent"] = traceparent
        try:
            self._connection.send(json.dumps(frame))
        except (OSError, WebSocketException) as error:
            raise Lost(f"the gateway closed the connection: {error}", code="unreachable") from None
        return request_id

    def receive(self, timeout_seconds: float) -> dict[str, Any]:
        """The next frame. Raises Lost, with code `timeout` when nothing came, or the time was over before."""
        if timeout_seconds <= 0:  # a gateway that never stops talking would always have a next frame
            raise Lost("the gateway did not answer in time", code="timeout")
        try:
            frame = read_json(self._connection.recv(timeout=timeout_seconds))
        except TimeoutError:
            raise Lost("the gateway did not answer in time", code="timeout") from None
        except (OSError, WebSocketException) as error:
            raise Lost(f"the gateway closed the connection: {error}", code="unreachable") from None
        except ValueError:
            raise Lost("the gateway sent no JSON", code="not_ready") from None
        return frame if isinstance(frame, dict) else {}

    def call(self, method: str, params: Mapping[str, Any], timeout_seconds: float) -> Any:
        """Send a request and wait for its answer. Raises Refused and Lost."""
        request_id = self.send(method, params)
        deadline = time.monotonic() + timeout_seconds
        while True:
            frame = self.receive(deadline - time.monotonic())
            if is_answer(frame, request_id):
                return payload(frame)

    def sign_in(self, device: Device, token: str) -> None:
        """Answer the challenge. Raises Refused and Lost."""
        challenge = mapping(self.receive(OPEN_TIMEOUT_SECONDS).get("payload"))
        nonce, signed_at = str(challenge.get("nonce", "")), challenge.get("ts", 0)
        if not isinstance(signed_at, int):
            raise Lost("the gateway's challenge has no time", code="not_ready")
        hello = self.call(
            "connect",
            {
                "minProtocol": 4,
                "maxProtocol": 4,
                "client": {"id": CLIENT_ID, "version": "1.0.0", "platform": PLATFORM, "mode": CLIENT_MODE},
                "role": ROLE,
                "scopes": list(SCOPES),
                "caps": [],
                "auth": {"token": token},
                "device": device.proof(SCOPES, signed_at, token, nonce),
            },
            OPEN_TIMEOUT_SECONDS,
        )
        self.boot_id = str(mapping(mapping(hello).get("server")).get("bootId", ""))


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a JSON object, else an empty one: a gateway can send anything anywhere."""
    return value if isinstance(value, Mapping) else {}


def is_answer(frame: Mapping[str, Any], request_id: str) -> bool:
    """True for the response to this request."""
    return frame.get("type") == "res" and frame.get("id") == request_id


def payload(frame: Mapping[str, Any]) -> Any:
    """What a response carries. Raises Refused."""
    if frame.get("ok") is not True:
        raise Refused(frame.get("error"))
    return frame.get("payload")
