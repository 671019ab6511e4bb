"""The server side of the command line: serve, worker, proxy, migrate, doctor, demo."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from clawhaven import wiring
from clawhaven.context import Context
from clawhaven.core import logs
from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.wiring import ConfigurationError
from clawhaven.workflows import inspection, prices


def register(app: typer.Typer) -> None:
    """Add the server commands to the command line."""
    for command in (serve, worker, proxy, migrate, doctor, demo):
        app.command()(command)


def serve(
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Web, API and proxy only; workers run elsewhere.")
    ] = False,
) -> None:
    """Run the web site, the API, the model proxy and (unless told otherwise) a worker in this process."""
    from clawhaven.cli import hosting

    ctx = start()
    hosting.serve(ctx, with_worker=not no_worker)


def worker() -> None:
    """Run workflows and schedules only."""
    from clawhaven.worker import run

    ctx = start()
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    try:
        run(ctx, stop)
    except RuntimeError as error:
        give_up(str(error))


def proxy(
    bind: Annotated[str, typer.Option(help="host:port to listen on.")] = "127.0.0.1:8081",
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Processes that talk to clients; one more counts. Default: one less than CPUs."
        ),
    ] = None,
) -> None:
    """Run the model proxy only."""
    from clawhaven.cli import hosting

    settings = read_settings()
    start(settings).db.close()
    hosting.serve_proxy(settings, bind, processes or max(1, (os.cpu_count() or 1) - 1))


def migrate() -> None:
    """Bring the database to this version's schema."""
    settings = read_settings()
    wiring.migrate(settings)
    print("The database is up to date.")


def doctor() -> None:
    """Say what is missing, and the line that mends it. Exit code 1 when something is."""
    settings = read_settings()
    table = Table("check", "state", "what to do")
    problems = wiring.check(settings)
    for problem in problems:
        table.add_row("settings", "wrong", problem)
    if not problems:
        ctx = wiring.build(settings)
        for check in inspection.inspect(ctx):
            table.add_row(check.what, check.state, check.advice)
            problems += [] if check.is_ok else [check.what]
    Console().print(table)
    if problems:
        raise typer.Exit(1)


def demo(
    port: Annotated[int, typer.Option(help="Port of the web site.")] = 8080,
    data: Annotated[Path, typer.Option(help="Folder that keeps the demo's data.")] = Path("./var/demo"),
) -> None:
    """Run the whole product on embedded defaults: no account anywhere. Ctrl-C stops everything it started."""
    from clawhaven.cli import hosting
    from clawhaven.workflows import preparation

    settings = read_settings(platform_port=port, data_dir=data, log_level="WARNING", log_format="text")
    if settings.is_production:
        give_up("`demo` is for trying things out; ENVIRONMENT=production needs `serve`.")
    hosting.refuse_taken_port(settings)
    ctx = start(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # undoes what is under way, as Ctrl-C does
    print("Preparing the assistant's software (the first time this downloads OpenClaw) …", flush=True)
    for name, runtime in ctx.runtimes.items():
        missing = runtime.missing()
        try:
            preparation.prepare(ctx, name)
        except ProviderError as error:
            fixes = "".join(f"\n  {one.what}: {one.fix}" for one in missing)
            give_up(f"The runtime {name} cannot be prepared: {error.message}{fixes}")
    hosting.serve(ctx, with_worker=True, is_demo=True)


def read_settings(**given: object) -> Settings:
    """The settings of this server, `given` ones before all others. Ends the command with a list when some are wrong."""
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        give_up("The settings are wrong:\n  " + "\n  ".join(lines))


def start(settings: Settings | None = None) -> Context:
    """The installation, its database migrated. Ends the command with a list when it cannot start."""
    chosen = settings or read_settings()
    logs.configure(chosen.log_level, chosen.log_format)
    try:
        ctx = wiring.build(chosen)
    except ConfigurationError as error:
        give_up(str(error))
    wiring.migrate(chosen)
    return prices.begin(ctx)


def give_up(message: str) -> NoReturn:
    """Say why, and end the command with exit code 1."""
    print(message, file=sys.stderr)
    raise typer.Exit(1)
