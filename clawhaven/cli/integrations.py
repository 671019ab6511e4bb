"""`clawhaven integrations`: accounts at other vendors, such as Google, that your assistants may read."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clawhaven.cli.channels import INSTANCE, YES
from clawhaven.cli.client import items_of, part
from clawhaven.cli.output import Column, moment
from clawhaven.cli.session import confirm, current

app = typer.Typer(no_args_is_help=True, help="Accounts, such as Google, that your assistants may read.")

VENDOR = Annotated[str, typer.Argument(metavar="VENDOR", help="Whose account: google.")]
ONTO = Annotated[str, typer.Option("--vendor", help="Whose account.")]


def _parts(parts: Any) -> str:
    return ", ".join(str(one["label"]) for one in parts if one["is_granted"]) or "-"


INTEGRATIONS = (
    Column("Vendor", ("vendor",)),
    Column("Account", ("address",)),
    Column("May be read", ("parts",), _parts),
    Column("Connected", ("connected_at",), moment),
    Column("Connect again", ("lapsed_at",), lambda at: f"yes, since {moment(at)}"),
    Column("Assistants", ("instance_ids",), lambda ids: ", ".join(map(str, ids))),
)
ATTACHED = (
    Column("Vendor", ("vendor",)),
    Column("Integration", ("integration_id",)),
    Column("Since", ("attached_at",), moment),
)


@app.command("list")
def list_integrations(
    ctx: typer.Context,
    instance: Annotated[str | None, typer.Argument(metavar="INSTANCE", help="Only what this assistant reads.")] = None,
) -> None:
    """What is connected, and who reads it."""
    session = current(ctx)
    if instance is not None:
        found = session.api().get(f"/instances/{part(instance)}/integrations")
        session.output.rows(found, ATTACHED, "This assistant reads nothing.")
        return
    answer = session.api().get("/integrations")
    session.output.rows(answer, INTEGRATIONS)
    if off := [str(one["label"]) for one in items_of(answer) if not one["is_available"]]:
        session.output.note(f"Not switched on by the operator of this site: {', '.join(off)}.")


@app.command("connect")
def connect(ctx: typer.Context, vendor: VENDOR) -> None:
    """Print the address of the vendor's consent page. Open it in a browser in which you are signed in here."""
    session = current(ctx)
    answer = session.api().post(f"/integrations/{part(vendor)}/connect")
    session.output.text(answer, str(answer["authorize_url"]))
    session.output.note("Open this address in a browser in which you are signed in here. It is good for half an hour.")


@app.command("revoke")
def revoke(ctx: typer.Context, vendor: VENDOR, yes: YES = False) -> None:
    """Disconnect: forgotten here and at the vendor, and taken from every assistant."""
    session = current(ctx)
    api = session.api()
    confirm(f"Disconnect {vendor}? No assistant will read it any more.", yes)
    session.output.text(api.delete(f"/integrations/{part(vendor)}"), "Disconnected.")


@app.command("attach")
def attach(ctx: typer.Context, instance: INSTANCE, vendor: ONTO = "google") -> None:
    """Let an assistant read what you have connected."""
    session = current(ctx)
    path = f"/instances/{part(instance)}/integrations/attach"
    session.output.rows(session.api().post(path, {"vendor": vendor}), ATTACHED)


@app.command("detach")
def detach(ctx: typer.Context, instance: INSTANCE, vendor: ONTO = "google") -> None:
    """Let it read no more."""
    session = current(ctx)
    path = f"/instances/{part(instance)}/integrations/detach"
    session.output.rows(session.api().post(path, {"vendor": vendor}), ATTACHED, "This assistant reads nothing.")
