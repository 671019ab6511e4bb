"""The proxy alone, in several processes: this one counts, the others (fronts) talk to clients and vendors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from typing import Any

import uvicorn

from clawhaven.core.logs import get_logger
from clawhaven.proxy.app import create_app
from clawhaven.proxy.counter import Counter, flusher_of
from clawhaven.proxy.desk import ProxyContext
from clawhaven.proxy.front import FrontServer
from clawhaven.proxy.lone import lone_counter
from clawhaven.proxy.metrics import METER
from clawhaven.proxy.remote import CountingServer, RemoteCounter

Build = Callable[[], ProxyContext]
"""Makes a process's own context. It is pickled, so it must be a function of a module."""

log = get_logger(__name__)


def serve(build: Build, host: str, port: int, fronts: int, *, is_ready: Callable[[], None] = lambda: None) -> int:
    """Serve until SIGINT or SIGTERM; the exit code. A front that dies ends all of it: whoever started us starts anew.

    Clients under way have five seconds to get their answers; what they used is settled before this returns.
    """
    listener = _listen(host, port)
    ctx = build()
    METER.share(ctx.settings.data_dir)
    flusher = flusher_of(ctx)
    server = CountingServer(Counter(ctx), flusher)
    pairs = [socket.socketpair() for _ in range(fronts)]
    spawning = multiprocessing.get_context("spawn")
    children = [spawning.Process(target=_front, args=(build, listener, theirs)) for _, theirs in pairs]
    for child, (ours, theirs) in zip(children, pairs, strict=True):
        child.start()
        theirs.close()
        server.add(ours)
    listener.close()
    is_told = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: is_told.set())
    is_ready()
    _collect_rarely()
    try:
        server.serve(_Supervision(children, is_told))
    finally:
        for child in children:
            child.terminate()
            child.join()
        flusher.close()
        ctx.db.close()
    return 0 if is_told.is_set() else 1


class _Supervision:
    """Looked at between batches: passes on the word to stop, and lets no front stay when another has died."""

    def __init__(self, children: list[SpawnProcess], is_told: threading.Event) -> None:
        self._children, self._is_told, self._has_passed_on = children, is_told, False

    def __call__(self) -> None:
        has_died = any(child.exitcode is not None for child in self._children)
        if (self._is_told.is_set() or has_died) and not self._has_passed_on:
            self._has_passed_on = True
            if has_died and not self._is_told.is_set():
                log.error("front_died", exit_codes=[child.exitcode for child in self._children])
            for child in self._children:
                child.terminate()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener


def _front(build: Build, listener: socket.socket, counter: socket.socket) -> None:
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        runner.run(_serve_front(build(), listener, counter))


async def _serve_front(ctx: ProxyContext, listener: socket.socket, counter: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    server: FrontServer | None = None
    is_told = False

    def stop() -> None:
        nonlocal is_told
        is_told = True
        if server is not None:
            server.stop()

    _collect_rarely()
    _, remote = await loop.create_connection(lambda: RemoteCounter(stop, lone_counter(ctx)), sock=counter)
    server = FrontServer(create_app(ctx, remote), listener)
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop)
    if is_told:
        server.stop()
    await server.serve()
    ctx.db.close()


def _collect_rarely() -> None:
    """What is there at the start stays: the collector need not look through it thousands of times (4 % of the time)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def bare_config(app: Any, **place: Any) -> uvicorn.Config:
    """How the proxy is served: what costs time at every request and tells nobody anything is off."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        **place,
    )


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest event loop that is there."""
    return uvicorn.Config(lambda: None).get_loop_factory()
