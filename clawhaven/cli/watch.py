"""`clawhaven admin instances|workflows|retry|audit|check|alerts|close-alert`: the operator's watch, over the API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clawhaven.cli.channels import CURSOR
from clawhaven.cli.client import part
from clawhaven.cli.failures import Failure
from clawhaven.cli.output import Column, count, moment
from clawhaven.cli.session import Session, current


def _details(found: Any) -> str:
    return "; ".join(f"{name}: {value}" for name, value in found.items())


FLEET = (
    Column("ID", ("id",)),
    Column("NAME", ("name",)),
    Column("STATE", ("state",)),
    Column("CUSTOMER", ("email",)),
    Column("SEEN", ("seen.status",)),
    Column("AT", ("seen.at",), moment),
    Column("HOST", ("host", "runtime")),
    Column("WHAT IS WRONG", ("failure", "seen.detail")),
)
RUNS = (
    Column("ID", ("id",)),
    Column("WORKFLOW", ("name",)),
    Column("STATE", ("state",)),
    Column("ABOUT", ("about",)),
    Column("STEP", ("step",)),
    Column("TAKEN UP", ("attempts",), count),
    Column("SINCE", ("began_at",), moment),
    Column("REASON", ("reason",)),
)
AUDIT = (
    Column("AT", ("at",), moment),
    Column("BY", ("email", "actor")),
    Column("WHAT", ("action",)),
    Column("ABOUT", ("subject",)),
    Column("ACCOUNT", ("account_id",)),
    Column("MORE", ("details",), _details),
)
CHECKS = (Column("WHAT", ("what",)), Column("STATE", ("state",)), Column("WHAT TO DO", ("advice",)))
ALERTS = (
    Column("ID", ("id",)),
    Column("AT", ("at",), moment),
    Column("WHAT", ("subject",)),
    Column("MAIL", ("state",)),
)


def register(app: typer.Typer) -> None:
    """Add these commands to `clawhaven admin`."""
    app.command("instances")(list_fleet)
    app.command("workflows")(list_workflows)
    app.command("retry")(retry)
    app.command("audit")(list_audit)
    app.command("check")(check)
    app.command("alerts")(list_alerts)
    app.command("close-alert")(close_alert)


def list_fleet(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="A state, or `trouble`. Default: all but deleted ones.")] = None,
    search: Annotated[str | None, typer.Option(help="A part of a name or an address, or an id.")] = None,
    cursor: CURSOR = None,
) -> None:
    """Every assistant, with what the last look at it saw."""
    session = current(ctx)
    answer = session.api().get("/admin/instances", state=state, search=search, cursor=cursor)
    _rows(session, answer, FLEET, "No assistant like this.")


def list_workflows(
    ctx: typer.Context,
    state: Annotated[str, typer.Option(help="waiting, running, failed or done.")] = "failed",
    cursor: CURSOR = None,
) -> None:
    """Durable work in one state; what has failed says why."""
    session = current(ctx)
    answer = session.api().get("/admin/workflows", state=state, cursor=cursor)
    _rows(session, answer, RUNS, "No work is in this state.")


def retry(
    ctx: typer.Context, run: Annotated[str, typer.Argument(metavar="ID", help="From `admin workflows`.")]
) -> None:
    """Try failed work again from the step that failed."""
    session = current(ctx)
    session.output.text(session.api().post(f"/admin/workflows/{part(run)}/retry"), "It is tried again.")


def list_audit(
    ctx: typer.Context,
    who: Annotated[str | None, typer.Option(help="An address, or the beginning of an actor (`workflow:`).")] = None,
    action: Annotated[str | None, typer.Option(help="The beginning of an action (`instance.`).")] = None,
    account: Annotated[str | None, typer.Option(help="An account's id, or its owner's address.")] = None,
    since: Annotated[str | None, typer.Option(help="Not before, as in 2026-11-21T00:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Before, as in 2026-11-22T00:00:00Z.")] = None,
    cursor: CURSOR = None,
) -> None:
    """Who did what, the newest first."""
    session = current(ctx)
    asked = {"who": who, "action": action, "account": account, "since": since, "until": until}
    _rows(session, session.api().get("/admin/audit", **asked, cursor=cursor), AUDIT, "Nothing on record fits.")


def check(ctx: typer.Context) -> None:
    """What `clawhaven doctor` says on the server. Exit code 1 when something is missing."""
    session = current(ctx)
    answer = session.api().ask("GET", "/admin/check", timeout=120)
    session.output.rows(answer, CHECKS)
    if isinstance(answer, dict) and not answer.get("is_ok", True):
        wrong = [one["what"] for one in answer.get("items", []) if one.get("state") != "ok"]
        named = ", ".join([*(f"setting: {one}" for one in answer.get("problems", [])), *wrong])
        raise Failure(f"Something is missing: {named}.", code="not_ready")


def list_alerts(
    ctx: typer.Context,
    closed: Annotated[bool, typer.Option("--closed", help="Those that are done with.")] = False,
    cursor: CURSOR = None,
) -> None:
    """What was mailed to you because somebody has to look at it."""
    session = current(ctx)
    answer = session.api().get("/admin/alerts", closed="true" if closed else None, cursor=cursor)
    _rows(session, answer, ALERTS, "Nothing to look at.")


def close_alert(
    ctx: typer.Context, alert: Annotated[str, typer.Argument(metavar="ALERT", help="From `admin alerts`.")]
) -> None:
    """Nothing is left to do about it."""
    session = current(ctx)
    session.output.text(session.api().post(f"/admin/alerts/{part(alert)}/close"), "Done with.")


def _rows(session: Session, answer: Any, columns: tuple[Column, ...], empty: str) -> None:
    session.output.rows(answer, columns, empty)
    if isinstance(answer, dict) and answer.get("next_cursor"):
        session.output.note(f"There is more: --cursor {answer['next_cursor']}")
