"""A running proxy on a loopback port, and a vendor that answers by script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from aiohttp import web

from clawhaven import ledger, metering
from clawhaven.accounts.models import Account, User
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.money import MICROS_PER_DOLLAR
from clawhaven.core.secrets import KeyRing, hash_token
from clawhaven.core.settings import Settings
from clawhaven.integrations import attachments
from clawhaven.metering import GrantTerms, PlanMode, PriceTable, UsageRow, builtin_prices
from clawhaven.ports.upstream import Upstream
from clawhaven.providers.upstreams.anthropic import Anthropic
from clawhaven.providers.upstreams.openai import OpenAI
from clawhaven.providers.upstreams.sandbox import Sandbox
from clawhaven.proxy import create_app
from clawhaven.proxy.front import FrontServer
from clawhaven.proxy.processes import event_loop_factory
from clawhaven.workflows import integrations
from tests.conftest import free_port
from tests.fakes.google_server import GoogleServer
from tests.workflows.scene import Scene, set_up

KEY = "chk_test_0123456789abcdef"
Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedVendor:
    """A vendor's server that does what `script` says and remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.script: Script = self._say_nothing
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    @property
    def body(self) -> dict[str, Any]:
        """The last request's body."""
        decoded: dict[str, Any] = json.loads(self.requests[-1][2])
        return decoded

    async def _say_nothing(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=500, text="no script")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(
            (request.path_qs, {k.lower(): v for k, v in request.headers.items()}, await request.read())
        )
        return await self.script(request)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        waiting = asyncio.all_tasks(self._loop)
        for task in waiting:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()


def json_script(value: Any, status: int = 200, **headers: str) -> Script:
    """Answer every request with this JSON."""

    async def script(_: web.Request) -> web.StreamResponse:
        return web.json_response(value, status=status, headers=headers)

    return script


def stream_script(*chunks: bytes, pause: float = 0, cut: bool = False, hang: float = 0) -> Script:
    """Stream these chunks; then end, or cut the connection, or hang silently before the end."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(pause)
        if hang:
            await asyncio.sleep(hang)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return script


@dataclass
class House:
    """One installation with a running proxy. Satisfies ProxyContext."""

    settings: Settings
    db: Database
    clock: Clock
    keys: KeyRing
    upstreams: dict[str, Upstream]
    vendor: ScriptedVendor
    prices: PriceTable = field(default_factory=builtin_prices)
    url: str = ""
    account: str = ""
    instance: str = "ins_1"
    _server: FrontServer | None = None
    _thread: threading.Thread | None = None
    terms: dict[str, Any] = field(default_factory=dict)

    def serve(self) -> None:
        port, is_up = free_port(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port, is_up), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{port}"
        assert is_up.wait(10)

    def _run(self, port: int, is_up: threading.Event) -> None:
        async def serve() -> None:
            listener = socket.create_server(("127.0.0.1", port), backlog=2048)
            self._server = FrontServer(create_app(self), listener, stop_seconds=1)
            asyncio.get_running_loop().call_soon(is_up.set)
            await self._server.serve()

        with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
            runner.run(serve())

    def stop(self) -> None:
        assert self._server
        assert self._thread
        with contextlib.suppress(RuntimeError):  # it has stopped already
            self._server.loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(25)
        assert not self._thread.is_alive()

    def grant(self, mode: PlanMode = PlanMode.METERED, dollars: int = 100, **terms: Any) -> None:
        """Give the instance a grant of this kind and the account so much money."""
        now = self.clock.now()
        included = mode is PlanMode.INCLUDED
        with self.db.tx() as db:
            if db.get(Account, "acc_1") is None:
                db.add(User(id="usr_1", email="one@example.com", created_at=now))
                db.flush()
                db.add(Account(id="acc_1", owner_id="usr_1", slug="one", created_at=now))
                db.flush()
            kind = "included" if included else "wallet"
            self.account = ledger.open_account(db, kind, "acc_1", None if included else 0, now=now)
            if dollars and not included:
                amount = dollars * MICROS_PER_DOLLAR
                key = f"topup:{self.account}"
                ledger.credit(db, key=key, ledger_account_id=self.account, amount_micros=amount, now=now)
            if mode is PlanMode.OWN_KEY:
                sealed = self.keys.seal("sk-customers-own", metering.OWN_KEY_PURPOSE)
                terms = {"own_key_upstream": "anthropic", "own_key_sealed": sealed, **terms}
            else:
                terms = {"ledger_account_id": self.account, **terms}
            given = {"key_hash": hash_token(KEY), "is_active": True, **terms}
            metering.put_grant(db, GrantTerms(self.instance, "acc_1", plan_mode=mode, **given), now=now)

    def calls(self) -> list[UsageRow]:
        """Every call, newest first."""
        with self.db.read() as db:
            return list(metering.list_usage(db, "acc_1").calls)

    def last_call(self, *, is_closed: bool = True) -> UsageRow:
        """The newest call; by default once it has ended."""
        deadline = time.monotonic() + 15
        while True:
            found = self.calls()
            if found and (not is_closed or found[0].state != "open"):
                return found[0]
            assert time.monotonic() < deadline, "the call did not end"
            time.sleep(0.02)

    def balance(self) -> ledger.Balance:
        with self.db.read() as db:
            return ledger.balance(db, self.account)

    def assert_books_balance(self) -> None:
        """Nothing held, everything adds up, and the wallet paid exactly what its calls cost."""
        with self.db.read() as db:
            assert ledger.check_books(db) == []
        assert self.balance().held_micros == 0
        assert 100 * MICROS_PER_DOLLAR - self.balance().balance_micros == sum(row.price_micros for row in self.calls())

    def post(self, path: str, body: dict[str, Any] | bytes, key: str = KEY, **headers: str) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
        return httpx2.post(self.url + path, content=content, headers=sent, timeout=30)


@pytest.fixture
def vendor() -> Iterator[ScriptedVendor]:
    server = ScriptedVendor()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def house(settings: Settings, db: Database, clock: Clock, vendor: ScriptedVendor) -> Iterator[House]:
    """A proxy with the sandbox model and both vendors pointed at the scripted server; the instance may spend $100."""
    quick = settings.model_copy(update={"upstream_silence_seconds": 2, "base_url": "https://haven.example"})
    url = f"http://127.0.0.1:{vendor.port}"
    upstreams: dict[str, Upstream] = {
        "sandbox": Sandbox(Sandbox.Options(), quick),
        "anthropic": Anthropic(
            Anthropic.Options(anthropic_api_key="sk-ant-operator", anthropic_api_url=url),
            quick,  # type: ignore[arg-type]
        ),
        "openai": OpenAI(OpenAI.Options(openai_api_key="sk-operator", openai_api_url=f"{url}/v1"), quick),  # type: ignore[arg-type]
    }
    made = House(quick, db, clock, KeyRing([b"k" * 32]), upstreams, vendor)
    made.grant()
    made.serve()
    yield made
    made.stop()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    """The stand-in for Google, which the installation is set to."""
    with GoogleServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def scene(google: GoogleServer, settings: Any, clock: Any) -> Iterator[Scene]:
    """An installation that customers may connect Google to."""
    with set_up(settings, clock) as made:
        google.return_url = integrations.return_url(made.ctx, "google")
        yield made


@pytest.fixture
def token(scene: Scene, google: GoogleServer) -> str:
    """What the gateway of an assistant shows that may read its owner's Google account."""
    ada, ctx = scene.live(), scene.ctx
    back = google.allow(integrations.begin(ctx, "google", ada.instance.account_id, None, "user:x", "/"))
    integrations.complete(ctx, "google", ada.instance.account_id, None, back["state"], back["code"], "user:x")
    with ctx.db.tx() as db:
        integrations.attach(db, ctx, ada.instance.id, "google", "user:x")
        return attachments.token_of(attachments.list_of(db, ada.instance.id)[0], ctx.keys)
