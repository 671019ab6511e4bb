"""`clawhaven instances files`: what an assistant reads at the beginning of every conversation."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clawhaven.cli.channels import INSTANCE
from clawhaven.cli.client import part
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, count, moment
from clawhaven.cli.session import current, read_text

app = typer.Typer(no_args_is_help=True, help="The files of an assistant: SOUL.md, USER.md, AGENTS.md, IDENTITY.md.")

FILES = (
    Column("FILE", ("name",)),
    Column("CHARACTERS", ("characters",), count),
    Column("AT MOST", ("limit",), count),
    Column("STATUS", ("status",), lambda word: str(word).replace("_", " ")),
)
VERSIONS = (
    Column("NUMBER", ("number",)),
    Column("AT", ("at",), moment),
    Column("FROM", ("author",)),
    Column("WRITTEN", ("written_at",), moment),
    Column("PROBLEM", ("problem",)),
)

NAME = Annotated[str, typer.Argument(metavar="FILE", help="SOUL.md, USER.md, AGENTS.md or IDENTITY.md.")]
NUMBER = Annotated[int, typer.Argument(min=1, help="See `clawhaven instances files history`.")]
SOURCE = Annotated[
    str | None, typer.Option("--from", metavar="FILE", help="The new text, from a file; `-`: stdin. Left out: show it.")
]
BASE = Annotated[str | None, typer.Option(help="Its digest when you read it: refused once it says something else.")]


@app.command("list")
def list_files(ctx: typer.Context, instance: INSTANCE) -> None:
    """The files, with what the assistant reads of each at most."""
    session = current(ctx)
    session.output.rows(session.api().get(_at(instance)), FILES)


@app.command()
def get(ctx: typer.Context, instance: INSTANCE, name: NAME) -> None:
    """Print a file."""
    _show(ctx, f"{_at(instance)}/{part(name)}")


@app.command()
def put(
    ctx: typer.Context,
    instance: INSTANCE,
    name: NAME,
    source: Annotated[str, typer.Option("--from", metavar="FILE", help="The new text; `-`: stdin.")],
    base: BASE = None,
) -> None:
    """Replace a file. The assistant reads it with the next message; the old text stays in the history."""
    _put(ctx, instance, name, source, base)


@app.command()
def history(ctx: typer.Context, instance: INSTANCE, name: NAME) -> None:
    """The texts a file had, newest first."""
    session = current(ctx)
    session.output.rows(session.api().get(f"{_at(instance)}/{part(name)}/versions"), VERSIONS, "No change yet.")


@app.command()
def version(ctx: typer.Context, instance: INSTANCE, name: NAME, number: NUMBER) -> None:
    """Print a text of the history."""
    _show(ctx, f"{_at(instance)}/{part(name)}/versions/{number}")


@app.command()
def restore(ctx: typer.Context, instance: INSTANCE, name: NAME, number: NUMBER) -> None:
    """Make a file what it was; what it says now goes to the history."""
    session = current(ctx)
    answer = session.api().post(f"{_at(instance)}/{part(name)}/versions/{number}/restore")
    session.output.text(answer, _told(answer))


def soul(ctx: typer.Context, instance: INSTANCE, source: SOURCE = None, base: BASE = None) -> None:
    """Print who an assistant is (its SOUL.md), or replace it. For the other files: `clawhaven instances files`."""
    if source is None:
        _show(ctx, f"{_at(instance)}/SOUL.md")
    else:
        _put(ctx, instance, "SOUL.md", source, base)


def _at(instance: str) -> str:
    return f"/instances/{part(instance)}/files"


def _show(ctx: typer.Context, path: str) -> None:
    session = current(ctx)
    answer = session.api().get(path)
    session.output.text(answer, str(answer.get("content", "")).rstrip("\n") if isinstance(answer, dict) else "")


def _put(ctx: typer.Context, instance: str, name: str, source: str, base: str | None) -> None:
    session = current(ctx)
    text = read_text(None, source)
    if text is None:
        raise Failure("No text was given.", ExitCode.USAGE, code="usage", hint="Give a file to --from.")
    body: dict[str, Any] = {"content": text, **({"base": base} if base else {})}
    answer = session.api().put(f"{_at(instance)}/{part(name)}", body)
    session.output.text(answer, _told(answer))


def _told(answer: Any) -> str:
    is_new = isinstance(answer, dict) and answer.get("is_changed")
    return "It is being written; the assistant reads it with the next message." if is_new else "Nothing was changed."
