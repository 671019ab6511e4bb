"""The `clawhaven` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from clawhaven import __version__
from clawhaven.cli import (
    account,
    admin,
    apikey,
    auth,
    backups,
    billing,
    channels,
    instances,
    integrations,
    programs,
    server,
    skills,
)
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Format, Output
from clawhaven.cli.session import Options

WITH_VALUE = ("--format", "--api-url", "--api-key")
FLAGS = ("--quiet", "--verbose")

app = typer.Typer(
    name="clawhaven",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run an OpenClaw hosting business, and use one.",
    epilog="Exit codes: 0 done, 1 failure, 2 usage, 3 not signed in or not allowed, 4 not found, 5 at capacity.",
)
app.add_typer(auth.app, name="auth")
app.add_typer(account.app, name="account")
app.add_typer(instances.app, name="instances")
app.add_typer(channels.app, name="channels")
app.add_typer(channels.telegram, name="telegram")
app.add_typer(skills.app, name="skills")
app.add_typer(apikey.app, name="apikey")
app.add_typer(backups.app, name="backups")
app.add_typer(programs.app, name="programs")
app.add_typer(integrations.app, name="integrations")
app.add_typer(billing.app, name="billing")
app.add_typer(admin.app, name="admin")
server.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clawhaven {__version__}")
        raise typer.Exit


@app.callback()
def prepare(
    ctx: typer.Context,
    form: Annotated[Format, typer.Option("--format", help="How answers are printed.")] = Format.TABLE,
    quiet: Annotated[bool, typer.Option("--quiet", help="Answers only; of a table the first column.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say each request that is made.")] = False,
    api_url: Annotated[
        str | None, typer.Option(envvar="CLAWHAVEN_API_URL", help="The site. Default: the one you signed in to.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="CLAWHAVEN_API_KEY", show_envvar=True, help="An API key; `-` reads it from stdin."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run an OpenClaw hosting business, and use one."""
    ctx.obj = Options(Output(form, quiet, verbose), api_url, api_key)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Global options may stand anywhere before `--`: move them to the front, where the parser wants them."""
    front, rest = [], []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in FLAGS or word.startswith(tuple(f"{option}=" for option in WITH_VALUE)):
            front.append(word)
        elif word in WITH_VALUE:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            rest.append(word)
    return [*front, *rest]


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    hoisted = hoist(arguments)
    try:
        app(args=hoisted, prog_name="clawhaven", standalone_mode=True)
    except Failure as failure:
        _output_for(hoisted).failure(failure)
        return int(failure.exit_code)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.FAILED if end.code else ExitCode.DONE
    return ExitCode.DONE


def main() -> None:
    """Entry point."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough; nothing more may be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.FAILED
    sys.exit(code)


def _output_for(hoisted: Sequence[str]) -> Output:
    """How to print a failure: the options that `hoist` has put in front."""
    words, form, is_verbose = iter(hoisted), "", False
    for word in words:
        if word in WITH_VALUE:
            value = next(words, "")
            form = value if word == "--format" else form
        elif word.startswith("--format="):
            form = word.partition("=")[2]
        elif word == "--verbose":
            is_verbose = True
        elif not word.startswith("--"):
            break
    return Output(Format(form) if form in set(Format) else Format.TABLE, is_verbose=is_verbose)
