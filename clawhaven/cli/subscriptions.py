"""`clawhaven billing plan|invoices|payment-method|portal|reactivate`: what is paid for, changing and ending it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clawhaven.cli.channels import INSTANCE, YES
from clawhaven.cli.client import Api, items_of, part
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, moment, money
from clawhaven.cli.session import confirm, current

plan = typer.Typer(no_args_is_help=True, help="Your plan: look, change, cancel, take the cancellation back.")

SUBSCRIPTION = Annotated[str | None, typer.Option("--subscription", help="Which one, where there are several (sub_…).")]


def _coupon(one: dict[str, Any]) -> str:
    off = f"{one['percent']} %" if one.get("percent") else money(one.get("amount_micros"))
    return f"{one.get('code')}: {off}" + (f" until {moment(one['until'])}" if one.get("until") else "")


SUBSCRIPTIONS = (
    Column("ID", ("id",)),
    Column("PLAN", ("plan",)),
    Column("STATE", ("state",)),
    Column("PRICE", ("amount_micros",), money),
    Column("PAID UNTIL", ("period_end",), moment),
    Column("ENDS THEN", ("is_ending",), lambda word: "yes" if word else "no"),
    Column("NEW PRICE", ("new_price_micros",), money),
    Column("COUPON", ("coupon",), _coupon),
    Column("SUSPENDED FOR", ("trouble",), lambda one: str(one["cause"]) if one.get("state") == "suspended" else "-"),
    Column("PAY HERE", ("pay_url",)),
)
INVOICES = (
    Column("NUMBER", ("number", "id")),
    Column("AT", ("at",), moment),
    Column("STATE", ("state",)),
    Column("AMOUNT", ("amount_micros",), money),
    Column("FOR", ("description",)),
    Column("DOCUMENT", ("pdf_url", "url")),
)
METHODS = (
    Column("VENDOR", ("provider",)),
    Column("CARD", ("brand",)),
    Column("ENDS IN", ("last4",)),
    Column("MONTH", ("expires_month",), str),
    Column("YEAR", ("expires_year",), str),
)
RETURNED = (
    Column("Go on here", ("checkout_url",)),
    Column("Assistant", ("instance_id",)),
    Column("Status", ("status",)),
)


def register(app: typer.Typer) -> None:
    """Add these commands to `clawhaven billing`."""
    app.add_typer(plan, name="plan")
    app.command("invoices")(invoices)
    app.command("payment-method")(payment_method)
    app.command("portal")(portal)
    app.command("reactivate")(reactivate)


def invoices(ctx: typer.Context) -> None:
    """Your invoices and receipts, with the addresses to download them."""
    session = current(ctx)
    session.output.rows(session.api().get("/billing/invoices"), INVOICES, "No invoice yet.")


def payment_method(ctx: typer.Context) -> None:
    """What is charged while you are away, at each payment provider that can tell."""
    session = current(ctx)
    answer = session.api().get("/billing/payment-method")
    session.output.rows(answer, METHODS, "None is saved.")
    if isinstance(answer, dict) and answer.get("portals"):
        session.output.note(f"To change it: clawhaven billing portal [--vendor {'|'.join(answer['portals'])}]")


def portal(
    ctx: typer.Context,
    vendor: Annotated[str | None, typer.Option(help="Whose page, where there are several providers.")] = None,
) -> None:
    """The payment provider's page for your payment method; its address lives for minutes."""
    session = current(ctx)
    answer = session.api().post("/billing/portal", {"provider": vendor} if vendor else {})
    session.output.text(answer, str(answer.get("url")))


def reactivate(
    ctx: typer.Context,
    instance: INSTANCE,
    to: Annotated[str | None, typer.Option("--plan", help="Another plan than it had.")] = None,
) -> None:
    """Get a payment page for an assistant whose plan has ended and whose data is still there."""
    session = current(ctx)
    session.output.facts(session.api().post(f"/instances/{part(instance)}/reactivate", {"plan": to}), RETURNED)


@plan.command()
def show(ctx: typer.Context) -> None:
    """Your subscriptions."""
    session = current(ctx)
    session.output.rows(session.api().get("/billing/subscriptions"), SUBSCRIPTIONS, "You have no plan.")


@plan.command()
def change(
    ctx: typer.Context,
    to: Annotated[str, typer.Argument(metavar="PLAN", help="See `clawhaven billing plans`.")],
    subscription: SUBSCRIPTION = None,
    yes: YES = False,
) -> None:
    """Move to another plan now; the rest of the period is prorated."""
    _act(ctx, subscription, "plan", {"plan": to}, f"Change to the plan {to} now?", yes)


@plan.command()
def cancel(ctx: typer.Context, subscription: SUBSCRIPTION = None, yes: YES = False) -> None:
    """End the plan with its period; until then everything runs."""
    _act(ctx, subscription, "cancel", {}, "Cancel the plan at the end of its period?", yes)


@plan.command()
def resume(ctx: typer.Context, subscription: SUBSCRIPTION = None) -> None:
    """Take a cancellation back."""
    _act(ctx, subscription, "resume", {}, "", True)


@plan.command("accept-price")
def accept_price(ctx: typer.Context, subscription: SUBSCRIPTION = None, yes: YES = False) -> None:
    """Take today's price of your plan instead of the one you bought it at."""
    _act(ctx, subscription, "accept-price", {}, "Take the new price from now on?", yes)


def _act(
    ctx: typer.Context, chosen: str | None, action: str, body: dict[str, Any], question: str, is_sure: bool
) -> None:
    session = current(ctx)
    api = session.api()
    wanted = chosen or _only(api)
    confirm(question, is_sure)
    answer = api.post(f"/billing/subscriptions/{part(wanted)}/{action}", body)
    session.output.facts(answer, tuple(Column(one.heading.capitalize(), one.keys, one.write) for one in SUBSCRIPTIONS))


def _only(api: Api) -> str:
    """The account's one living subscription. Raises Failure when there is none, or more than one."""
    living = [one for one in items_of(api.get("/billing/subscriptions")) if one.get("state") != "canceled"]
    if not living:
        raise Failure("You have no plan that runs.", ExitCode.NOT_FOUND, code="not_found")
    if len(living) > 1:
        ids = ", ".join(f"{one['id']} ({one['plan']})" for one in living)
        raise Failure(f"There are several: {ids}.", ExitCode.USAGE, code="usage", hint="Name one with --subscription.")
    return str(living[0]["id"])
