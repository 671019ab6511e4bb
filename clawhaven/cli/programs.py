"""`clawhaven programs`: keys with which your own programs call the models of an assistant's plan."""

from __future__ import annotations

from typing import Annotated

import typer

from clawhaven.cli.channels import INSTANCE, YES
from clawhaven.cli.client import part
from clawhaven.cli.output import Column, moment
from clawhaven.cli.session import confirm, current

app = typer.Typer(no_args_is_help=True, help="Use an assistant's models in your own programs.")

KEYS = (
    Column("ID", ("id",)),
    Column("NAME", ("name",)),
    Column("BEGINS WITH", ("prefix",)),
    Column("MADE", ("created_at",), moment),
    Column("LAST USED", ("last_used_at",), moment),
)


@app.command("list")
def list_keys(ctx: typer.Context, instance: INSTANCE) -> None:
    """Keys in force, and the addresses for the clients of Anthropic and OpenAI."""
    session = current(ctx)
    found = session.api().get(f"/instances/{part(instance)}/program-keys")
    session.output.rows(found, KEYS, "No key yet.")
    at = found.get("base_urls") if isinstance(found, dict) else None
    if isinstance(at, dict):
        session.output.note(f"base_url of the anthropic client: {at.get('anthropic')}")
        session.output.note(f"base_url of the openai client: {at.get('openai')}")


@app.command("make-key")
def make_key(
    ctx: typer.Context, instance: INSTANCE, name: Annotated[str, typer.Argument(help="What it is for.")]
) -> None:
    """A new key. It is printed this once, on a line of its own.

    Your API key needs the scope `keys` for it: `clawhaven auth login --keys`.
    """
    session = current(ctx)
    made = session.api().create(f"/instances/{part(instance)}/program-keys", {"name": name})
    secret = made.get("key") if isinstance(made, dict) else None
    session.output.text(made, str(secret or ""))
    session.output.note("Keep it now: it is never shown again.")


@app.command("revoke-key")
def revoke_key(
    ctx: typer.Context,
    instance: INSTANCE,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")],
    yes: YES = False,
) -> None:
    """End a key with its next call."""
    session = current(ctx)
    api = session.api()
    confirm("Revoke this key? Programs that use it stop working.", yes)
    session.output.text(api.delete(f"/instances/{part(instance)}/program-keys/{part(key)}"), "The key is revoked.")
