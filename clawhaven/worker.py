"""Door: a process that runs workflows and schedules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from clawhaven.context import Context
from clawhaven.core.logs import get_logger
from clawhaven.core.memory import collect_rarely
from clawhaven.workflows import health, preparation
from clawhaven.workflows.engine import Engine
from clawhaven.workflows.schedule import SCHEDULES

log = get_logger("clawhaven.worker")


@contextmanager
def working(ctx: Context) -> Iterator[Engine]:
    """Workflows, schedules and the sandbox vendors' own clocks run inside this block."""
    engine = Engine(ctx)
    engine.launch()
    engine.apply_schedules(SCHEDULES)
    with ctx.db.tx() as db:
        health.ask_at_startup(db, ctx, engine.executor_id)
    preparation.begin(ctx)
    stop = threading.Event()
    threads = [
        provider.start(stop)
        for provider in ctx.payments.values()
        if hasattr(provider, "start")  # a sandbox's courier
    ]
    log.info("worker ready", executor=engine.executor_id)
    try:
        yield engine
    finally:
        stop.set()
        engine.close()
        for thread in threads:
            thread.join(timeout=5)


def run(ctx: Context, stop: threading.Event) -> None:
    """Work until `stop` is set."""
    with working(ctx):
        collect_rarely()
        stop.wait()
