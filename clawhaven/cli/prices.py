"""`clawhaven admin prices`: what models cost, and whether others say so too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clawhaven import wiring
from clawhaven.cli import server
from clawhaven.cli.client import items_of
from clawhaven.cli.failures import ExitCode
from clawhaven.cli.output import Column, count, money
from clawhaven.cli.session import current
from clawhaven.core.clock import Clock
from clawhaven.metering import listing, pricefile
from clawhaven.ports.errors import ProviderError

app = typer.Typer(no_args_is_help=True, help="What models cost.")

LATEST = Annotated[bool, typer.Option("--latest", help="Over the network, what is published now.")]

PRICES = (
    Column("MODEL", ("model",)),
    Column("VENDOR", ("vendor",)),
    Column("INPUT", ("input_micros",), money),
    Column("OUTPUT", ("output_micros",), money),
    Column("CACHE READ", ("cache_read_micros",), money),
    Column("WRITE", ("cache_write_5m_micros",), money),
    Column("WRITE 1H", ("cache_write_1h_micros",), money),
    Column("LONG PROMPT", ("long_prompt",), lambda one: f"{money(one['input_micros'])} over {one['over_tokens']:,}"),
    Column("CONTEXT", ("context_window",), count),
    Column("FROM", ("effective_from",), lambda text: str(text)[:10]),
    Column("BY", ("is_own",), lambda own: "your file" if own else "us"),
    Column("SOLD", ("is_offered",), lambda sold: "yes" if sold else "no"),
)


def _write_changes(changes: Any) -> str:
    return "; ".join(f"{one['name']} {_amount(one, 'ours')} → {_amount(one, 'theirs')}" for one in changes)


def _amount(change: dict[str, Any], side: str) -> str:
    value = change[side]
    if value is None:
        return "none"
    return money(value) if change.get("is_money") else count(value)


DIFFERENCES = (
    Column("MODEL", ("model",)),
    Column("WHAT", ("kind",)),
    Column("OURS → THEIRS", ("changes",), _write_changes),
    Column("FROM", ("since",)),
    Column("TO DO", ("is_open",), lambda is_open: "yes" if is_open else "no"),
)


@app.command("list")
def list_prices(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help="One model, by any of its names.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Past and coming prices too, and models not sold.")] = False,
) -> None:
    """List prices now, in dollars per million tokens; customers pay these and the markup."""
    session = current(ctx)
    answer = session.api().get("/admin/prices", model=model, every="true" if every else None)
    session.output.rows(answer, PRICES, "There is no price for this model.")


@app.command("check")
def check_prices(
    ctx: typer.Context,
    latest: LATEST = False,
    rows: Annotated[bool, typer.Option("--rows", help="Print rows for MODEL_PRICES_FILE.")] = False,
) -> None:
    """Compare with genai-prices as installed on the server. Exit code 1 when something differs that is not yours."""
    session = current(ctx)
    answer = session.api().ask("GET", "/admin/prices/check", query={"latest": "true"} if latest else {}, timeout=120)
    found = [one for one in items_of(answer) if isinstance(one, dict)]
    is_open = any(one.get("is_open") for one in found)
    if rows and session.output.format == "table":
        for one in found:
            if one.get("is_open") and one.get("row"):
                session.output.line(str(one["row"]))
    else:
        session.output.rows(answer, DIFFERENCES, "Nothing differs.")
    source = answer.get("source") if isinstance(answer, dict) else None
    todo = "Something differs." if is_open else "Nothing is to be done."
    session.output.note(f"Compared with {source}. {todo}")
    if is_open:
        raise typer.Exit(ExitCode.FAILED)


@app.command("import")
def import_prices(
    latest: LATEST = False,
    bound: Annotated[
        list[str] | None, typer.Option(metavar="MODEL=TOKENS", help="Longest answer of a new model; repeat it.")
    ] = None,
    file: Annotated[Path, typer.Option(help="The file to bring up to date.")] = Path("clawhaven/metering/prices.toml"),
) -> None:
    """For developers: take the list over into the table that the next release ships. Rows are added, never changed."""
    bounds = dict(_bound(one) for one in bound or [])
    try:
        text = file.read_text()
        known = pricefile.read_prices(file)
        source = wiring.price_list(server.read_settings())
        found = source.latest() if latest else source.installed()
    except (OSError, ValueError) as error:
        server.give_up(f"{file}: {error}")
    except ProviderError as error:
        server.give_up(error.message)
    merged = listing.merge(known, found, Clock().now().date(), bounds)
    head = text[: text.index("[[price]]")] if "[[price]]" in text else ""
    fresh = file.with_suffix(".new")
    fresh.write_text(head + pricefile.render(merged.prices))
    fresh.replace(file)
    for price_id in merged.added:
        print(f"added {price_id}")
    for model in merged.unbounded:
        print(f"left out {model}: say how long its answers get with --bound {model}=TOKENS")
    print(f"{file} follows {found.source}.")


def _bound(text: str) -> tuple[str, int]:
    model, _, tokens = text.partition("=")
    number = tokens.replace("_", "")
    if not model or not number.isascii() or not number.isdigit():
        raise typer.BadParameter(f"{text!r} is not MODEL=TOKENS, as in gpt-7=128000.")
    return model, int(number)
