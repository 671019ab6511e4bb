"""Putting the doors into one process: one listener for people, one (optional) for instances' model calls."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from clawhaven import wiring
from clawhaven.accounts import apikeys, links, signup
from clawhaven.api.app import create_app as create_api
from clawhaven.context import Context
from clawhaven.core import logs
from clawhaven.core.logs import get_logger
from clawhaven.core.memory import collect_rarely
from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.proxy import processes
from clawhaven.proxy.app import create_app as create_proxy
from clawhaven.web.app import create_app as create_web
from clawhaven.worker import working
from clawhaven.workflows import prices

log = get_logger("clawhaven.serve")

DEMO_USERS = (("demo@example.com", False), ("operator@example.com", True))


class Doors:
    """One ASGI application: /proxy/… goes to the model proxy, /api/… to the API, the rest to the web."""

    def __init__(self, ctx: Context) -> None:
        self.proxy = create_proxy(ctx)
        self.api: ASGIApp = create_api(ctx)
        self.web: ASGIApp = create_web(ctx)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith("/proxy/"):
            raw = scope.get("raw_path", path.encode())
            inner = {**scope, "path": path[len("/proxy") :], "raw_path": raw[len("/proxy") :]}
            await self.proxy(inner, receive, send)
        elif path == "/api" or path.startswith("/api/"):
            await self.api(scope, receive, send)
        else:
            await self.web(scope, receive, send)


class QuietServer(uvicorn.Server):
    """Leaves the signals to us: uvicorn raises them again after its own end and would skip our clean-up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(ctx: Context, *, with_worker: bool, is_demo: bool = False) -> None:
    """Serve until SIGINT or SIGTERM. The demo also stops every gateway at its end; otherwise they go on."""
    settings = ctx.settings
    try:
        runner = asyncio.Runner(loop_factory=processes.event_loop_factory())
        with working(ctx) if with_worker else contextlib.nullcontext(), runner:
            runner.run(_serve(ctx, is_demo))
        if is_demo:
            stop_gateways(ctx)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        ctx.db.close()
    log.info("stopped", address=settings.base_url)


def serve_proxy(settings: Settings, bind: str, fronts: int) -> None:
    """Only the model proxy, until SIGINT or SIGTERM."""
    host, port = parse_bind(bind)
    try:
        code = processes.serve(partial(_build, settings), host, port, fronts)
    except OSError as error:
        print(f"The proxy cannot listen on {bind}: {error.strerror}.", file=sys.stderr)
        code = 1
    if code:
        raise SystemExit(code)


def _build(settings: Settings) -> Context:
    logs.configure(settings.log_level, settings.log_format)
    return prices.begin(wiring.build(settings))


async def _serve(ctx: Context, is_demo: bool) -> None:
    settings = ctx.settings
    doors = Doors(ctx)
    servers = [_server(doors, settings.platform_host, settings.platform_port)]
    servers += [_server(create_proxy(ctx), host, port, is_bare=True) for host, port in proxy_listeners(ctx)]
    collect_rarely()
    async with _announcing(ctx, servers[0], is_demo):
        try:
            await _run(servers)
        finally:
            await doors.proxy.close()


@contextlib.asynccontextmanager
async def _announcing(ctx: Context, server: uvicorn.Server, is_demo: bool) -> AsyncIterator[None]:
    async def announce() -> None:
        while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.05)
        print(f"ready {ctx.settings.base_url}", flush=True)
        if is_demo:
            for line in await asyncio.to_thread(seed, ctx):
                print(line, flush=True)

    task = asyncio.create_task(announce())
    try:
        yield
    finally:
        task.cancel()


async def _run(servers: list[uvicorn.Server]) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop)

    async def run_one(server: uvicorn.Server) -> None:
        try:
            await server.serve()
        finally:
            stop()

    await asyncio.gather(*(run_one(server) for server in servers))


def _server(app: ASGIApp, host: str, port: int, *, is_bare: bool = False) -> uvicorn.Server:
    return QuietServer(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="auto" if is_bare else "off",
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=65_536,
        )
    )


def proxy_listeners(ctx: Context) -> list[tuple[str, int]]:
    """Further addresses for the proxy alone: PROXY_BIND, or where a runtime's containers reach this host."""
    if ctx.settings.proxy_bind:
        return [parse_bind(ctx.settings.proxy_bind)]
    found = []
    for runtime in ctx.runtimes.values():
        if hasattr(runtime, "proxy_listen_address"):
            found.append(runtime.proxy_listen_address())
    return found


def parse_bind(bind: str) -> tuple[str, int]:
    """`127.0.0.1:8081` or `[::1]:8081`; raises SystemExit with a sentence otherwise."""
    host, _, port = bind.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SystemExit(f"{bind!r} is not host:port")
    return host.strip("[]"), int(port)


def refuse_taken_port(settings: Settings) -> None:
    """Raises SystemExit with a sentence when something else listens on the web port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.platform_host, settings.platform_port))
        except OSError as error:
            reason = error.strerror
            raise SystemExit(
                f"Port {settings.platform_port} cannot be used ({reason}). Choose another: make demo PORT=8090"
            ) from None


def seed(ctx: Context) -> list[str]:
    """Sign-ins for the demo: a customer and the operator, each with a one-time link and an API key for scripts."""
    lines = []
    now = ctx.clock.now()
    for email, is_operator in DEMO_USERS:
        with ctx.db.tx() as db:
            owner = signup.find_owner(db, email) or signup.register(
                db, email, now, is_operator=is_operator, verified_at=now
            )
            links.verify(db, owner.user.id, now)
            link = links.issue(db, owner.user.id, now)
            lines.append(f"sign in as {email}: {ctx.settings.base_url}/sign-in/{link}")
            for known in apikeys.list_keys(db, owner.account.id):
                if known.name == "demo":
                    apikeys.revoke(db, owner.account.id, known.id, now)
            scopes = ["read", "write", apikeys.ADMIN] if is_operator else ["read", "write"]
            _, secret = apikeys.issue(db, owner, "demo", scopes, now, is_operator=is_operator)
            lines.append(f"API key of {email}: {secret}")
    lines.append(f"mails are written to {ctx.settings.data_dir / 'mail.log'}")
    return lines


def stop_gateways(ctx: Context) -> None:
    """Stop every gateway of this installation; their data stays."""
    for runtime in ctx.runtimes.values():
        try:
            for instance_id in runtime.list():
                placement = runtime.find(instance_id)
                if placement is not None:
                    runtime.stop(placement, 5)
        except ProviderError as error:
            log.warning("a gateway could not be stopped", error=error.message)
