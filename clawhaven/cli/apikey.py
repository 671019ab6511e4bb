"""`clawhaven apikey`: your own key at a model vendor, for an assistant on an own-key plan."""

from __future__ import annotations

from typing import Annotated

import typer

from clawhaven.cli.channels import INSTANCE, YES
from clawhaven.cli.client import part
from clawhaven.cli.output import Column, moment
from clawhaven.cli.session import confirm, current, read_secret

app = typer.Typer(no_args_is_help=True, help="Your own model key of an assistant (own-key plans).")

VENDOR = Annotated[
    str, typer.Option(help="Whose key it is: anthropic, openai. Needed only where the key does not tell.")
]
KEY = (
    Column("Vendor", ("vendor",)),
    Column("Key", ("hint",)),
    Column("Accepted at", ("checked_at",), moment),
)


@app.command("set")
def set_key(ctx: typer.Context, instance: INSTANCE, vendor: VENDOR = "") -> None:
    """Test a key at its vendor and keep it, sealed. It is asked for unseen, or read from stdin; never an argument."""
    session = current(ctx)
    api = session.api()
    body = {"api_key": read_secret("Model key", None), **({"vendor": vendor} if vendor else {})}
    session.output.facts(api.put(f"/instances/{part(instance)}/api-key", body), KEY)


@app.command("show")
def show_key(ctx: typer.Context, instance: INSTANCE) -> None:
    """Whose key the assistant has, and its last characters."""
    session = current(ctx)
    answer = session.api().get(f"/instances/{part(instance)}/api-key")
    session.output.facts(answer, KEY)
    if isinstance(answer, dict) and not answer.get("is_set"):
        session.output.note(f"No key yet. Set one: clawhaven apikey set {instance}")


@app.command("remove")
def remove_key(ctx: typer.Context, instance: INSTANCE, yes: YES = False) -> None:
    """Forget the key; the assistant cannot answer until there is another."""
    session = current(ctx)
    api = session.api()
    confirm("Remove this assistant's model key?", yes)
    session.output.text(api.delete(f"/instances/{part(instance)}/api-key"), "The key is removed.")
