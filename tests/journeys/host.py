"""A whole installation in a process of its own, with the outside world stood in for: what kill -9 is tried on.

python -m tests.journeys.host '{"world": "…", "boot_seconds": 0.2, "api": true}'   (settings come from the environment)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
import threading
from pathlib import Path

import uvicorn

from clawhaven import wiring
from clawhaven.api.app import create_app
from clawhaven.context import Context
from clawhaven.core import logs
from clawhaven.core.memory import collect_rarely
from clawhaven.core.settings import Settings
from clawhaven.worker import working
from tests.fakes.world import FolderGateway, FolderRuntime


def build(options: dict[str, object]) -> Context:
    """The Context with folders for gateways."""
    settings = Settings(log_format="text", log_level="INFO")
    logs.configure(settings.log_level, settings.log_format)
    wiring.migrate(settings)
    runtime = FolderRuntime(Path(str(options["world"])), float(str(options.get("boot_seconds", 0))))
    ctx = wiring.build(settings)
    return dataclasses.replace(
        ctx, runtimes={"folder": wiring.Guarded(runtime)}, gateway=wiring.Guarded(FolderGateway(runtime))
    )


def main() -> None:
    """Serve the API with a worker, or only a worker, until told to stop."""
    options = json.loads(sys.argv[1])
    ctx = build(options)
    if not options.get("api", True):
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        with working(ctx):
            collect_rarely()
            print("ready", flush=True)
            stop.wait()
        return

    with working(ctx) if options.get("worker", True) else contextlib.nullcontext():
        app = create_app(ctx)
        collect_rarely()
        given = ctx.settings
        uvicorn.run(app, host=given.platform_host, port=given.platform_port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
