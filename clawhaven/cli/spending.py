"""What is spent: `billing usage` in any combination, limits a day, automatic calls that go on, vendors' invoices."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from clawhaven.cli.channels import INSTANCE
from clawhaven.cli.client import items_of, part
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, count, moment, money
from clawhaven.cli.session import current
from clawhaven.core.money import parse_usd

invoices = typer.Typer(no_args_is_help=True, help="Model vendors' own figures, beside ours.")

TOTAL = (
    Column("From", ("since",), moment),
    Column("Until", ("until",), moment),
    Column("Calls", ("total.calls",), count),
    Column("Tokens in", ("total.input_tokens",), count),
    Column("From cache", ("total.cache_read_tokens",), count),
    Column("Tokens out", ("total.output_tokens",), count),
    Column("Price", ("total.price_micros",), money),
)
FIGURES = (
    Column("CALLS", ("calls",), count),
    Column("TOKENS IN", ("input_tokens",), count),
    Column("FROM CACHE", ("cache_read_tokens",), count),
    Column("TOKENS OUT", ("output_tokens",), count),
    Column("PRICE", ("price_micros",), money),
)
DAY = (
    Column("Spent today", ("spent_today_micros",), money),
    Column("Your limit a day", ("spend_per_day_micros",), money),
    Column("Spent today by all your assistants", ("account_spent_today_micros",), money),
    Column("Your limit a day for all of them", ("account_spend_per_day_micros",), money),
    Column("Spent today by itself", ("automatic_today_micros",), money),
    Column("Allowance for that today", ("automatic_allowance_micros",), money),
    Column("Paused until", ("paused_until",), moment),
)
COMPARED = (
    Column("DAY", ("day",)),
    Column("VENDOR", ("upstream",)),
    Column("MODEL", ("model",)),
    Column("TOKENS, THEIRS", ("theirs.tokens",), count),
    Column("OURS", ("ours.tokens",), count),
    Column("COST, THEIRS", ("theirs.cost_micros",), money),
    Column("OURS", ("ours.cost_micros",), money),
    Column("DIFFERS", ("is_off",), lambda word: "yes" if word else "-"),
)

BY = Annotated[str | None, typer.Option(help="day, hour, model, instance or source; several by comma.")]
SINCE = Annotated[str | None, typer.Option(help="From then on: 2026-11-01, or a time with its zone.")]
UNTIL = Annotated[str | None, typer.Option(help="Up to then, which is not counted.")]
ONE = Annotated[str | None, typer.Option("--instance", help="Of one assistant only.")]
AMOUNT = Annotated[str | None, typer.Argument(help="US dollars a day, as in 5 or 2.50.")]
NONE = Annotated[bool, typer.Option("--none", help="Without a limit.")]


def register_billing(app: typer.Typer) -> None:
    """Add what concerns an account."""
    app.command()(usage)
    app.command("limit")(limit_account)


def register_instances(app: typer.Typer) -> None:
    """Add what concerns one assistant."""
    app.command()(spending)
    app.command("limit")(limit_instance)
    app.command("continue")(continue_automatic)


def usage(
    ctx: typer.Context,
    by: BY = None,
    since: SINCE = None,
    until: UNTIL = None,
    instance: ONE = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, for spreadsheets.")] = False,
) -> None:
    """What your assistants have used (this month), and what that costs."""
    session = current(ctx)
    api = session.api()
    query = {"by": by, "since": _time(since), "until": _time(until), "instance_id": instance}
    if as_csv:
        given = "&".join(f"{name}={part(value)}" for name, value in query.items() if value is not None)
        for line in api.download("/billing/usage.csv" + (f"?{given}" if given else "")).splitlines():
            session.output.line(line)
    elif by is None and instance is None:
        session.output.facts(api.get("/billing/usage", since=query["since"], until=query["until"]), TOTAL)
    else:
        ways = [way.strip() for way in (by or "day").split(",") if way.strip()]
        answer = api.get("/billing/usage/by", **(query | {"by": ",".join(ways)}))
        columns = [*(Column(way.upper(), (way,)) for way in ways), *FIGURES]
        session.output.rows(answer, columns, "Nothing was used.")


def spending(ctx: typer.Context, instance: INSTANCE) -> None:
    """What an assistant has spent today, its limits, and what it does by itself."""
    session = current(ctx)
    session.output.facts(_told(session.api().get(f"/instances/{part(instance)}/spending")), DAY)


def limit_account(ctx: typer.Context, amount: AMOUNT = None, none: NONE = False) -> None:
    """Set your own limit a day for all your assistants together."""
    session = current(ctx)
    micros = _limit(amount, none)
    answer = session.api().put("/billing/spend-limit", {"spend_per_day_micros": micros})
    session.output.text(answer, _said(micros))


def limit_instance(ctx: typer.Context, instance: INSTANCE, amount: AMOUNT = None, none: NONE = False) -> None:
    """Set your own limit a day for one assistant."""
    session = current(ctx)
    micros = _limit(amount, none)
    answer = session.api().put(f"/instances/{part(instance)}/spend-limit", {"spend_per_day_micros": micros})
    session.output.text(answer, _said(micros))


def continue_automatic(ctx: typer.Context, instance: INSTANCE) -> None:
    """Let what the assistant does by itself (heartbeat, reminders) go on today, for one more allowance."""
    session = current(ctx)
    api = session.api()
    found = api.get(f"/instances/{part(instance)}/spending")
    answer = api.post(
        f"/instances/{part(instance)}/continue", {"seen_extra_micros": found.get("automatic_extra_micros", 0)}
    )
    allowance = money(answer.get("automatic_allowance_micros"))
    session.output.text(answer, f"It goes on. Today it may spend {allowance} by itself.")


@invoices.command("import")
def import_usage(
    ctx: typer.Context,
    vendor: Annotated[str, typer.Argument(help="anthropic or openai.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Exports of its console or Admin API.")],
) -> None:
    """Read a vendor's usage or cost exports (CSV or JSON), as often as you like, and compare them with our books."""
    session = current(ctx)
    api = session.api()
    answer: Any = {}
    for place in files:
        try:
            content = place.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"{place} cannot be read: {error}.", ExitCode.USAGE, code="usage") from None
        answer = api.ask(
            "POST", f"/admin/usage/{part(vendor)}", body={"name": place.name, "content": content}, timeout=120
        )
        session.output.note(
            f"{place.name}: {count(answer.get('lines'))} lines, {answer.get('since')} to {answer.get('until')}."
        )
    session.output.rows(answer, COMPARED, "There was nothing in it.")


@invoices.command("compare")
def compare_usage(
    ctx: typer.Context,
    since: SINCE = None,
    until: UNTIL = None,
    vendor: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    only_off: Annotated[bool, typer.Option("--differences", help="Only what differs.")] = False,
) -> None:
    """What was read so far, beside our books. Exit code 1 when something differs."""
    session = current(ctx)
    answer = session.api().get("/admin/usage", since=_day(since), until=_day(until), vendor=vendor)
    off = [one for one in items_of(answer) if isinstance(one, dict) and one.get("is_off")]
    shown = {**answer, "items": off} if only_off and isinstance(answer, dict) else answer
    session.output.rows(shown, COMPARED, "Nothing differs." if only_off else "Nothing was read in for these days.")
    if off:
        raise typer.Exit(ExitCode.FAILED)


def _told(day: Any) -> Any:
    if isinstance(day, dict) and day.get("is_automatic_paused"):
        return {**day, "paused_until": day.get("resets_at")}
    return day


def _said(micros: int | None) -> str:
    if micros is None:
        return "There is no limit any more."
    return f"The limit is {money(micros)} a day (UTC). At the limit there are no answers until midnight."


def _limit(amount: str | None, is_none: bool) -> int | None:
    if is_none == (amount is not None):
        raise Failure("Give an amount, or --none.", ExitCode.USAGE, code="usage")
    try:
        return None if amount is None else parse_usd(amount)
    except ValueError:
        raise Failure(f"{amount!r} is no amount in dollars, as in 2.50.", ExitCode.USAGE, code="usage") from None


def _time(text: str | None) -> str | None:
    """A day as its beginning in UTC; anything else as it is."""
    return f"{text}T00:00:00Z" if text and re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


def _day(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise Failure(f"{text!r} is no day, as in 2026-11-01.", ExitCode.USAGE, code="usage")
    return text
