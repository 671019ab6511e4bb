"""`clawhaven backups`: copies of an assistant, out of the house and back."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clawhaven.cli.channels import INSTANCE, WAIT, WITHIN, YES
from clawhaven.cli.client import part
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, moment
from clawhaven.cli.session import confirm, current

app = typer.Typer(no_args_is_help=True, help="Backups of an assistant: made every night, and whenever you want one.")


def size(number: Any) -> str:
    """Bytes as people read them."""
    if not isinstance(number, int):
        return ""
    return f"{number / 1_000_000:.1f} MB" if number >= 100_000 else f"{number / 1000:.1f} kB"


ROWS = (
    Column("ID", ("id",)),
    Column("MADE", ("at",), moment),
    Column("WHY", ("made_for",)),
    Column("STATUS", ("status",)),
    Column("SIZE", ("size_bytes",), size),
    Column("OPENCLAW", ("openclaw_version",)),
    Column("PROBLEM", ("problem",)),
)

BACKUP = Annotated[str, typer.Argument(metavar="BACKUP", help="See `clawhaven backups list`.")]
OUTPUT = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where to; `-`: stdout. Default: what the server calls it, here.")
]
FORCE = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


@app.command("list")
def list_backups(ctx: typer.Context, instance: INSTANCE) -> None:
    """The backups of an assistant, newest first."""
    session = current(ctx)
    session.output.rows(session.api().get(_at(instance)), ROWS, "No backup yet.")


@app.command()
def create(ctx: typer.Context, instance: INSTANCE, wait: WAIT = False, timeout: WITHIN = 300) -> None:
    """Make a backup now. The assistant is not stopped for it."""
    session = current(ctx)
    api = session.api()
    answer = api.post(_at(instance))
    session.finish(api, instance, answer, waits=wait, timeout=timeout, said="The backup is being made.")


@app.command()
def download(
    ctx: typer.Context, instance: INSTANCE, backup: BACKUP, output: OUTPUT = None, force: FORCE = False
) -> None:
    """Save a backup as a plain .tar.gz of an OpenClaw home. Keep it as safe as a password."""
    session = current(ctx)
    path = f"{_at(instance)}/{part(backup)}/download"
    with session.api().stream(path) as (name, pieces):
        if output is not None and str(output) == "-":
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        place = output or Path(name)
        place = place / name if place.is_dir() else place
        if place.exists() and not force:
            raise Failure(f"{place} is there already.", ExitCode.USAGE, code="usage", hint="Give --force or -o.")
        fresh = place.with_name(f".{place.name}.part")
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                for piece in pieces:
                    file.write(piece)
            fresh.replace(place)
        except OSError as error:
            raise Failure(f"{place} cannot be written: {error.strerror}.", code="not_written") from None
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink()
    session.output.text({"file": str(place), "size_bytes": place.stat().st_size}, f"Saved as {place}.")


@app.command()
def restore(
    ctx: typer.Context, instance: INSTANCE, backup: BACKUP, yes: YES = False, wait: WAIT = False, timeout: WITHIN = 600
) -> None:
    """Bring a backup back: the assistant knows what it knew then. A copy of now is made first."""
    session = current(ctx)
    api = session.api()
    confirm(f"Replace what {instance} knows now by this backup?", yes)
    answer = api.post(f"{_at(instance)}/{part(backup)}/restore")
    session.finish(api, instance, answer, waits=wait, timeout=timeout, said="The backup is being brought back.")


@app.command()
def remove(ctx: typer.Context, instance: INSTANCE, backup: BACKUP, yes: YES = False) -> None:
    """Remove a backup that was made by hand."""
    session = current(ctx)
    api = session.api()
    confirm(f"Remove the backup {backup} for good?", yes)
    session.output.text(api.delete(f"{_at(instance)}/{part(backup)}"), "The backup is being removed.")


def _at(instance: str) -> str:
    return f"/instances/{part(instance)}/backups"
