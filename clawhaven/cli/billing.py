"""`clawhaven billing`: what there is, what was used, and every line of the books."""

from __future__ import annotations

import typer

from clawhaven.cli import spending, subscriptions, topup
from clawhaven.cli.channels import ALL, CURSOR
from clawhaven.cli.output import Column, count, moment, money
from clawhaven.cli.session import current

app = typer.Typer(no_args_is_help=True, help="Your money: balance, top-ups, plan, invoices, usage, ledger.")
topup.register(app)
subscriptions.register(app)
spending.register_billing(app)

BALANCE = (
    Column("Balance", ("balance_micros",), money),
    Column("Set aside (calls under way, disputes)", ("held_micros",), money),
    Column("Set aside for disputes alone", ("disputed_micros",), money),
    Column("Can be used", ("available_micros",), money),
    Column("Level", ("level",)),
    Column("Usage the plan included", ("included_usage_micros",), money),
)
LEDGER = (
    Column("AT", ("at",), moment),
    Column("ACCOUNT", ("account",)),
    Column("KIND", ("kind",)),
    Column("AMOUNT", ("amount_micros",), money),
    Column("BALANCE", ("balance_after_micros",), money),
    Column("NOTE", ("note",)),
)


PLANS = (
    Column("ID", ("id",)),
    Column("NAME", ("name",)),
    Column("PRICE", ("price_micros",), money),
    Column("PER", ("interval",)),
    Column("MODEL ACCESS", ("access",), lambda word: str(word).replace("_", " ")),
    Column("SAVES", ("savings.percent",), lambda percent: f"{percent} %"),
    Column("ASSISTANTS", ("limits.instances",), count),
    Column("MESSAGES/HOUR", ("limits.messages_per_hour",), count),
    Column("TOKENS/DAY", ("limits.tokens_per_day",), count),
    Column("CREDIT", ("included_credit_micros",), lambda micros: money(micros) if micros else "-"),
    Column("TRIAL", ("trial_days",), lambda days: f"{days} days" if days else "-"),
    Column("SUMMARY", ("summary",)),
)


@app.command()
def plans(ctx: typer.Context) -> None:
    """The plans this site offers; needs no sign-in."""
    session = current(ctx)
    session.output.rows(session.api(is_open=True).get("/plans"), PLANS)


@app.command()
def balance(ctx: typer.Context) -> None:
    """What is on your account."""
    session = current(ctx)
    session.output.facts(session.api().get("/billing/balance"), BALANCE)


@app.command()
def ledger(ctx: typer.Context, cursor: CURSOR = None, everything: ALL = False) -> None:
    """Every movement on your account, newest first."""
    current(ctx).page("/billing/ledger", LEDGER, cursor, everything, "No movement yet.")
