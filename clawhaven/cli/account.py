"""`clawhaven account`: where you are signed in, API keys, and everything to take along.

A new address is for the browser alone: see `api.deps.refuse_keys`. The end of the account is confirmed by mail.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clawhaven.cli.client import part
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, moment
from clawhaven.cli.session import current

app = typer.Typer(no_args_is_help=True, help="Your own account. Its address is changed in the browser.")

SESSIONS = (
    Column("ID", ("id",)),
    Column("BROWSER", ("device", "user_agent")),
    Column("LAST USED", ("last_used_at",), moment),
    Column("SINCE", ("created_at",), moment),
)
KEYS = (
    Column("ID", ("id",)),
    Column("NAME", ("name",)),
    Column("BEGINS WITH", ("prefix",)),
    Column("MAY", ("scopes",), lambda scopes: ", ".join(map(str, scopes))),
    Column("MADE", ("created_at",), moment),
    Column("LAST USED", ("last_used_at",), moment),
)


@app.command()
def sessions(ctx: typer.Context) -> None:
    """Browsers that are signed in."""
    session = current(ctx)
    session.output.rows(session.api().get("/auth/sessions"), SESSIONS, "No browser is signed in.")


@app.command("end-session")
def end_session(
    ctx: typer.Context,
    session_id: Annotated[str | None, typer.Argument(metavar="SESSION", help="From `account sessions`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Sign every browser out.")] = False,
) -> None:
    """Sign a browser out, or all of them."""
    if every == (session_id is not None):
        raise Failure("Name one session, or give --all.", ExitCode.USAGE, code="usage")
    session = current(ctx)
    path = "/auth/sessions" if session_id is None else f"/auth/sessions/{part(session_id)}"
    session.output.text(session.api().delete(path), "Signed out.")


@app.command()
def keys(ctx: typer.Context) -> None:
    """API keys in force."""
    session = current(ctx)
    session.output.rows(session.api().get("/auth/keys"), KEYS, "No key yet.")


@app.command("make-key")
def make_key(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write, keys; operators: admin. May be repeated.")
    ] = None,
) -> None:
    """A new API key. Its secret is printed this once, on a line of its own.

    The key you use needs the scope `keys` for it (`clawhaven auth login --keys`); what it made ends with it.
    """
    session = current(ctx)
    made = session.api().create("/auth/keys", {"name": name, "scopes": scope or ["read", "write"]})
    secret = made.get("key") if isinstance(made, dict) else None
    session.output.text(made, str(secret or ""))
    session.output.note("Keep it now: it is never shown again.")


@app.command("revoke-key")
def revoke_key(ctx: typer.Context, key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")]) -> None:
    """End an API key at once."""
    session = current(ctx)
    session.output.text(session.api().delete(f"/auth/keys/{part(key)}"), "The key is revoked.")


@app.command()
def delete(
    ctx: typer.Context,
    confirm: Annotated[str | None, typer.Option(help="The account's own address. Default: asked for.")] = None,
) -> None:
    """Delete your account for good. A link is mailed to you first; nothing happens until it is opened."""
    session = current(ctx)
    typed = confirm if confirm is not None else typer.prompt("Type the address of the account", err=True)
    answer = session.api().ask("DELETE", "/auth/me", body={"confirm": typed})
    session.output.text(answer, str(answer.get("message", "")) if isinstance(answer, dict) else "")


@app.command()
def keep(ctx: typer.Context) -> None:
    """Forget the mailed link that would delete your account."""
    session = current(ctx)
    session.output.text(session.api().delete("/auth/deletion"), "Nothing is deleted.")


@app.command()
def export(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Option("--file", help="Where to write it. Default: stdout.")] = None,
) -> None:
    """Everything of your account as JSON: profile, assistants with their texts, usage, ledger, invoices, history."""
    session = current(ctx)
    text = session.api().download("/auth/export")
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error}.", code="unwritable") from None
    session.output.note(f"Written to {file}.")
