"""`clawhaven billing topup|auto-topup|redeem|statement|export`: filling the wallet, and what moved in it."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer

from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, moment, money
from clawhaven.cli.session import current

AMOUNT = Annotated[str, typer.Argument(metavar="DOLLARS", help="As in 25 or 12.50.")]

TOPUP = (
    Column("Pay here", ("checkout_url",)),
    Column("Amount", ("amount_micros",), money),
    Column("Top-up", ("id",)),
    Column("State", ("state",)),
)
AUTO = (
    Column("Tops up by itself", ("enabled",), lambda word: "yes" if word else "no"),
    Column("When below", ("threshold_micros",), money),
    Column("By", ("amount_micros",), money),
    Column("State", ("state",)),
    Column("Problem", ("problem",)),
)
STATEMENT = (
    Column("AT", ("at",), moment),
    Column("KIND", ("kind",)),
    Column("AMOUNT", ("amount_micros",), money),
    Column("BALANCE", ("balance_after_micros",), money),
    Column("NOTE", ("note",)),
)


def register(app: typer.Typer) -> None:
    """Add these commands to `clawhaven billing`."""
    for name, command in (
        ("topup", topup),
        ("auto-topup", auto_topup),
        ("redeem", redeem),
        ("statement", statement),
        ("export", export),
    ):
        app.command(name)(command)


def topup(ctx: typer.Context, amount: AMOUNT) -> None:
    """Get a payment page that fills your balance."""
    session = current(ctx)
    session.output.facts(session.api().create("/billing/topup", {"amount_micros": micros(amount)}), TOPUP)


def auto_topup(
    ctx: typer.Context,
    below: Annotated[str | None, typer.Option(help="Fire when the balance falls below so many dollars.")] = None,
    amount: Annotated[str | None, typer.Option(help="Add so many dollars.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Switch it off.")] = False,
) -> None:
    """Show the automatic top-up; with --below and --amount set it, with --off end it."""
    session = current(ctx)
    api = session.api()
    now: dict[str, Any] = api.get("/billing/auto-topup")
    if below is None and amount is None and not off:
        session.output.facts(now, AUTO)
        return
    wanted = {
        "enabled": not off,
        "threshold_micros": micros(below) if below is not None else now["threshold_micros"],
        "amount_micros": micros(amount) if amount is not None else now["amount_micros"],
    }
    session.output.facts(api.put("/billing/auto-topup", wanted), AUTO)


def redeem(ctx: typer.Context, code: Annotated[str, typer.Argument(help="The coupon's code.")]) -> None:
    """Put a coupon's credit on your balance."""
    session = current(ctx)
    answer = session.api().post("/billing/coupons", {"code": code})
    session.output.text(answer, f"{answer.get('amount')} are on your balance.")


def statement(
    ctx: typer.Context,
    month: Annotated[str | None, typer.Option(help="As in 2026-11; this month when left out.")] = None,
) -> None:
    """A month of your balance: what it began with, every movement, what it ended with."""
    session = current(ctx)
    answer = session.api().get("/billing/statement", month=month)
    session.output.rows(answer, STATEMENT, "Nothing moved in this month.")
    session.output.note(
        f"{answer.get('month')}: from {money(answer.get('opening_micros'))} to {money(answer.get('closing_micros'))}."
    )


def export(
    ctx: typer.Context,
    to: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the CSV.", dir_okay=False)],
) -> None:
    """Write every movement of your balance to a CSV file, oldest first."""
    session = current(ctx)
    api = session.api()
    text = api.download("/billing/ledger.csv")
    try:
        to.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise Failure(f"{to} cannot be written: {error.strerror}.", ExitCode.USAGE, code="usage") from None
    lines = max(0, text.count("\r\n") - 1)
    session.output.text({"file": str(to), "lines": lines}, f"{lines} movements are in {to}.")


def micros(dollars: str) -> int:
    """`25`, `$12.50` as micro-dollars. Raises Failure (usage) for anything else."""
    try:
        amount = Decimal(dollars.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount < 0 or amount * 1_000_000 != int(amount * 1_000_000):
        raise Failure(f"{dollars!r} is not an amount in dollars, as in 25 or 12.50.", ExitCode.USAGE, code="usage")
    return int(amount * 1_000_000)
